package broker_test

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/broker"
	"github.com/mtls-authz/mtls-authz/grants"
)

const (
	instancePath = "/v2/service_instances/33333333-3333-4333-8333-333333333333"
	bindingPath  = instancePath + "/service_bindings/" + bindingA
)

var endpoints = []struct{ method, path string }{
	{"GET", "/v2/catalog"},
	{"PUT", instancePath},
	{"GET", instancePath},
	{"PATCH", instancePath},
	{"DELETE", instancePath},
	{"GET", instancePath + "/last_operation"},
	{"PUT", bindingPath},
	{"GET", bindingPath},
	{"DELETE", bindingPath},
	{"GET", bindingPath + "/last_operation"},
	{"GET", "/v2/nowhere"},
	{"POST", "/v2/catalog"},
}

func TestEveryEndpointWantsTheCredentials(t *testing.T) { // S1
	b := newTestbed(t)
	b.cfg.Credentials.Previous = "the-password-before"
	b.restart()
	for _, e := range endpoints {
		for name, change := range map[string]func(*http.Request){
			"none":           func(r *http.Request) { r.Header.Del("Authorization") },
			"wrong password": func(r *http.Request) { r.SetBasicAuth(username, password+"x") },
			"cut password":   func(r *http.Request) { r.SetBasicAuth(username, password[:len(password)-1]) },
			"no password":    func(r *http.Request) { r.SetBasicAuth(username, "") },
			"wrong name":     func(r *http.Request) { r.SetBasicAuth("Cc", password) },
			"no name":        func(r *http.Request) { r.SetBasicAuth("", password) },
			"bearer":         func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+password) },
			"garbage":        func(r *http.Request) { r.Header.Set("Authorization", "Basic !") },
			"and no version": func(r *http.Request) { r.Header = http.Header{"X-Broker-Api-Request-Identity": {"request-1"}} },
		} {
			res, body := b.do(e.method, e.path, `{"malformed"`, change)
			refused(t, http.StatusUnauthorized, "credentials")(res, body)
			require.Equal(t, `Basic realm="mtls-authz"`, res.Header.Get("WWW-Authenticate"), name)
		}
	}
	for _, accepted := range []string{password, "the-password-before"} {
		res, _ := b.do("GET", "/v2/catalog", "", func(r *http.Request) { r.SetBasicAuth(username, accepted) })
		require.Equal(t, http.StatusOK, res.StatusCode, "during a rotation")
	}
}

func TestEmptyCredentialsOpenNothing(t *testing.T) {
	b := newTestbed(t)
	for _, c := range []broker.Credentials{{}, {Username: username}, {Password: password}, {Username: username, Previous: password}} {
		b.cfg.Credentials = c
		b.restart()
		for _, pair := range [][2]string{{"", ""}, {username, ""}, {"", password}, {username, password}} {
			res, _ := b.do("GET", "/v2/catalog", "", func(r *http.Request) { r.SetBasicAuth(pair[0], pair[1]) })
			require.Equal(t, http.StatusUnauthorized, res.StatusCode, "%v %v", c, pair)
		}
	}
}

func TestEveryEndpointWantsAVersion(t *testing.T) { // S1
	b := newTestbed(t)
	for _, e := range endpoints {
		for _, version := range []string{"", "1.0", "3.0", "2", "2.", "2.x", "2.99xyz", "2.-1", "2.15.1", "2 .15", "0x2.15", "two"} {
			refused(t, http.StatusPreconditionFailed, "2.17")(b.do(e.method, e.path, "", func(r *http.Request) { r.Header.Set("X-Broker-Api-Version", version) }))
		}
	}
	refused(t, http.StatusPreconditionFailed, "X-Broker-API-Version")(b.do("GET", "/v2/catalog", "", func(r *http.Request) { r.Header.Del("X-Broker-Api-Version") }))
	for _, version := range []string{"2.13", "2.14", "2.15", "2.17", "2.99"} {
		res, _ := b.do("GET", "/v2/catalog", "", func(r *http.Request) { r.Header.Set("X-Broker-Api-Version", version) })
		require.Equal(t, http.StatusOK, res.StatusCode, version)
	}
}

func TestWhatTheRouterRefusesIsReadable(t *testing.T) {
	b := newTestbed(t)
	for path, status := range map[string]int{
		"/v2/nowhere": 404, "/v2/": 404, "/v2/catalog/": 404, "/": 404, "/v2/service_instances": 404, "/v2/service_instances/": 404,
		instancePath + "/service_bindings": 404, instancePath + "/service_bindings/": 404, bindingPath + "/more": 404,
		"//v2/catalog": 404, "/v2//catalog": 404, "/v2/x/../catalog": 404, // net/http would redirect
	} {
		res, body := b.do("GET", path, "")
		refused(t, status, "no such endpoint")(res, body)
		require.Empty(t, res.Header.Get("Location"), path)
	}
	for _, e := range []struct{ method, path string }{{"POST", "/v2/catalog"}, {"POST", instancePath}, {"PATCH", bindingPath}, {"OPTIONS", "/v2/catalog"}, {"PUT", "/v2/catalog"}} {
		res, body := b.do(e.method, e.path, "{}")
		refused(t, http.StatusMethodNotAllowed, "Method Not Allowed")(res, body)
		require.NotEmpty(t, res.Header.Get("Allow"))
	}
}

// After a 422, Cloud Controller would delete what it asked for.
func TestMalformedBodiesAre400(t *testing.T) { // S4
	b := newTestbed(t)
	plan := broker.PlanID(grants.ScopeOrg)
	good := `"service_id":"` + broker.ServiceID + `","plan_id":"` + plan + `","organization_guid":"` + home.OrgGUID + `","space_guid":"` + home.GUID + `"`
	for body, description := range map[string]string{
		"":                                  "not one JSON object",
		" ":                                 "not one JSON object",
		"{":                                 "not one JSON object",
		"[]":                                "not one JSON object",
		"null":                              "not one JSON object",
		`"text"`:                            "not one JSON object",
		"{" + good + "} {}":                 "not one JSON object",
		"{" + good + "}x":                   "not one JSON object",
		"\ufeff{" + good + "}":              "not one JSON object",
		"{" + good + `,"parameters":{]}`:    "not one JSON object",
		"{" + good + `,"parameters":[]}`:    "parameters: expected a JSON object",
		"{" + good + `,"parameters":"{}"}`:  "parameters: expected a JSON object",
		"{" + good + `,"parameters": 5}`:    "parameters: expected a JSON object",
		"{" + good + `,"Parameters":false}`: "parameters: expected a JSON object",
		"{" + good + `,"context":[]}`:       "context: expected",
		"{" + good + `,"context":{"space_guid":5}}`: "context: expected",
		`{"service_id":5}`:                          "service_id: expected a string, found a JSON number",
		`{"plan_id":["x"]}`:                         "plan_id: expected a string, found a JSON array",
		`{}`:                                        "service_id",
		"{" + strings.Repeat(`"a":{`, 20000) + strings.Repeat("}", 20001): "not one JSON object",
	} {
		for _, e := range endpoints[1:9] {
			if e.method == "PUT" || e.method == "PATCH" {
				if e.path == bindingPath && strings.Contains(description, "context") || e.method == "PATCH" && strings.Contains(description, "context") {
					continue // compared with the instance's, which is not there
				}
				refused(t, http.StatusBadRequest, description)(b.do(e.method, e.path, body))
			}
		}
	}
	for path, bodies := range map[string]map[string]string{
		instancePath: {`{"organization_guid":{}}`: "organization_guid: expected a string", `{"maintenance_info":"1"}`: "maintenance_info: expected an object"},
		bindingPath: {
			`{"bind_resource":"x"}`: "bind_resource: expected an object", `{"bind_resource":{"route":5}}`: "bind_resource.route: expected a string",
			`{"bind_resource":{"backup_agent":"x"}}`: "expected true or false", `{"app_guid":1}`: "app_guid: expected a string",
			"{" + good + `,"predecessor_binding_id":"x"}`: "cannot be rotated",
		},
	} {
		for body, description := range bodies {
			refused(t, http.StatusBadRequest, description)(b.do("PUT", path, body))
		}
	}
	refused(t, http.StatusBadRequest, "previous_values: expected an object")(b.do("PATCH", instancePath, `{"previous_values":7}`))
	b.gone()(b.DeleteService(ctx, service(grants.ScopeOrg)))

	b.wait(time.Hour)
	res, _ := b.do("PUT", instancePath, "{"+good+`,"unknown":{"field":[1]},"parameters":null,"context":null,"predecessor_binding_id":"none of a bind"}`)
	require.Equal(t, http.StatusCreated, res.StatusCode, "unknown fields are ignored")
}

func TestBodySizeAndContentType(t *testing.T) {
	b := newTestbed(t)
	const limit = 1 << 20
	head, tail := `{"service_id":"`+broker.ServiceID+`","plan_id":"`+broker.PlanID(grants.ScopeOrg)+`","organization_guid":"`+home.OrgGUID+`","space_guid":"`+home.GUID+`","padding":"`, `"}`
	fits := head + strings.Repeat("x", limit-len(head)-len(tail)) + tail
	refused(t, http.StatusBadRequest, "more than 1048576 bytes")(b.do("PUT", instancePath, fits+" "))
	res, body := b.do("PUT", instancePath, fits)
	require.Equal(t, http.StatusCreated, res.StatusCode, body)

	patch := `{"service_id":"` + broker.ServiceID + `"}`
	for given, status := range map[string]int{
		"": 200, "application/json": 200, "Application/JSON; charset=utf-8": 200,
		"text/plain": 400, "application/x-www-form-urlencoded": 400, "multipart/form-data; boundary=x": 400, "application/json;;": 400, "json": 400,
	} {
		res, body := b.do("PATCH", instancePath, patch, func(r *http.Request) { r.Header.Del("Content-Type"); r.Header.Add("Content-Type", given) })
		require.Equal(t, status, res.StatusCode, given+body)
	}
}

// brokerapi reads a DELETE's form values, from the body too.
func TestDeleteTakesNothingFromItsBody(t *testing.T) {
	b := newTestbed(t)
	s := service(grants.ScopeOrg)
	b.created()(b.CreateService(ctx, s, nil))
	form := "--x\r\nContent-Disposition: form-data; name=\"service_id\"\r\n\r\n" + s.OfferingID + "\r\n--x\r\nContent-Disposition: form-data; name=\"plan_id\"\r\n\r\n" + s.PlanID + "\r\n--x--\r\n"
	refused(t, http.StatusBadRequest, "service_id missing")(b.do("DELETE", instancePath, form, func(r *http.Request) { r.Header.Set("Content-Type", "multipart/form-data; boundary=x") }))
	b.ok()(b.FetchService(ctx, s))
}

func TestOriginatingIdentityIsNeverAnError(t *testing.T) { // S21
	b := newTestbed(t)
	s := service(grants.ScopeOrg)
	for header, by := range map[string]string{
		"cloudfoundry " + base64.StdEncoding.EncodeToString([]byte(`{"user_id":"u-1"}`)):                          "u-1",
		"cloudfoundry " + base64.StdEncoding.EncodeToString([]byte(`{"user_id":"client","x":[{}]}`)):              "client",
		"kubernetes " + base64.StdEncoding.EncodeToString([]byte(`{"username":"duke"}`)):                          "",
		"cloudfoundry " + base64.StdEncoding.EncodeToString([]byte(`{"user_id":5}`)):                              "",
		"cloudfoundry " + base64.StdEncoding.EncodeToString([]byte(`[]`)):                                         "",
		"cloudfoundry " + base64.StdEncoding.EncodeToString([]byte("{\"user_id\":\"a\\u0000\\nb\xff\"}")):         "ab",
		"cloudfoundry " + base64.StdEncoding.EncodeToString([]byte(`{"user_id":"`+strings.Repeat("é", 400)+`"}`)): strings.Repeat("é", 256),
		"cloudfoundry":             "",
		"cloudfoundry not-base64!": "",
		"":                         "",
	} {
		res, body := b.do("PUT", instancePath, `{"service_id":"`+s.OfferingID+`","plan_id":"`+s.PlanID+`","organization_guid":"`+home.OrgGUID+`","space_guid":"`+home.GUID+`"}`,
			func(r *http.Request) { r.Header.Set("X-Broker-Api-Originating-Identity", header) })
		require.Equal(t, http.StatusCreated, res.StatusCode, header+body)
		i, err := b.cfg.Store.Instance(ctx, s.GUID)
		require.NoError(t, err)
		require.Equal(t, by, i.CreatedBy, header)
		b.ok()(b.DeleteService(ctx, s))
		b.wait(time.Hour)
	}
}

func TestPanicIsAnAnswer(t *testing.T) {
	b := newTestbed(t)
	b.cfg.Policy = func() (string, *grants.Site) { panic("policy") }
	b.restart()
	b.created()(b.CreateService(ctx, service(grants.ScopeOrg), nil))
	refused(t, http.StatusInternalServerError, "internal error")(b.do("GET", instancePath, ""))
	require.Contains(t, b.log.String(), `"broker panic","panic":"policy"`)
	b.ok()(b.UpdateService(ctx, service(grants.ScopeOrg), noChange))
}

func TestDatabaseGoneIs503AndSaysWhyOnlyInTheLog(t *testing.T) {
	b := newTestbed(t)
	s := service(grants.ScopeOrg)
	b.created()(b.CreateService(ctx, s, nil))
	require.NoError(t, b.cfg.Store.Close())
	good := `{"service_id":"` + s.OfferingID + `","plan_id":"` + s.PlanID + `","organization_guid":"` + home.OrgGUID + `","space_guid":"` + home.GUID + `","bind_resource":{"route":"r.example"}}`
	query := "?service_id=" + s.OfferingID + "&plan_id=" + s.PlanID
	for _, e := range endpoints[1:10] {
		body := ""
		if e.method == "PUT" || e.method == "PATCH" {
			body = good
		}
		refused(t, http.StatusServiceUnavailable, "state store is not available; try again later")(b.do(e.method, e.path+query, body))
	}
	require.Contains(t, b.log.String(), "database is closed")
}

package acceptance_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground"
	"github.com/mtls-authz/mtls-authz/playground/controller"
)

// osb sends one request to the broker; edit may change it.
func osb(t *testing.T, w *world, method, path, body string, edit func(*http.Request)) (*http.Response, map[string]any) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, w.Controller.URL+path, bytes.NewBufferString(body))
	require.NoError(t, err)
	request.SetBasicAuth(w.Controller.Username, w.Controller.Password)
	request.Header.Set("X-Broker-Api-Version", "2.15")
	if edit != nil {
		edit(request)
	}
	res, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	var object map[string]any
	require.NoError(t, json.Unmarshal(raw, &object), "%s", raw)
	return res, object
}

func TestTheCatalog(t *testing.T) {
	t.Parallel()
	_, got := osb(t, common(t), "GET", "/v2/catalog", "", nil)
	services := got["services"].([]any)
	require.Len(t, services, 1)
	offering := services[0].(map[string]any)
	assert.Equal(t, "mtls-authz", offering["name"])
	assert.Equal(t, []any{"route_forwarding"}, offering["requires"])
	for _, name := range []string{"bindable", "instances_retrievable", "bindings_retrievable", "plan_updateable"} {
		assert.Equal(t, true, offering[name], name)
	}
	ids := map[any]bool{offering["id"]: true}
	var plans []string
	for _, one := range offering["plans"].([]any) {
		plan := one.(map[string]any)
		plans = append(plans, plan["name"].(string))
		ids[plan["id"]] = true
		assert.Equal(t, true, plan["free"])
		schemas := plan["schemas"].(map[string]any)
		for _, at := range [][2]string{{"service_instance", "create"}, {"service_instance", "update"}, {"service_binding", "create"}} {
			schema := schemas[at[0]].(map[string]any)[at[1]].(map[string]any)["parameters"].(map[string]any)
			assert.NotEmpty(t, schema["$schema"], at)
			assert.Equal(t, false, schema["additionalProperties"], at)
		}
	}
	assert.Equal(t, []string{"space", "org", "any"}, plans)
	assert.Len(t, ids, 4, "ids are unique")
}

func TestTheBrokerAsksForItsCredentials(t *testing.T) {
	t.Parallel()
	w := common(t)
	for name, edit := range map[string]func(*http.Request){
		"none":           func(r *http.Request) { r.Header.Del("Authorization") },
		"wrong password": func(r *http.Request) { r.SetBasicAuth(w.Controller.Username, "wrong") },
		"wrong user":     func(r *http.Request) { r.SetBasicAuth("wrong", w.Controller.Password) },
		"empty":          func(r *http.Request) { r.SetBasicAuth("", "") },
	} {
		for _, path := range []string{"/v2/catalog", "/v2/service_instances/x", "/v2/nothing"} {
			res, got := osb(t, w, "GET", path, "", edit)
			assert.Equal(t, 401, res.StatusCode, name)
			assert.Contains(t, res.Header.Get("WWW-Authenticate"), "Basic", name)
			assert.NotEmpty(t, got["description"], name)
		}
	}
}

func TestTheFormerPasswordIsAcceptedDuringARotation(t *testing.T) {
	t.Parallel()
	w := start(t, setup{env: []string{"BROKER_PASSWORD_PREVIOUS=the-former-password"}})
	w.addSecrets("the-former-password")
	res, _ := osb(t, w, "GET", "/v2/catalog", "", func(r *http.Request) { r.SetBasicAuth(w.Controller.Username, "the-former-password") })
	assert.Equal(t, 200, res.StatusCode)
}

func TestTheBrokerNeedsAVersionItSpeaks(t *testing.T) {
	t.Parallel()
	w := common(t)
	for version, want := range map[string]int{"": 412, "1.0": 412, "3.0": 412, "rubbish": 412, "2.0": 200, "2.15": 200, "2.17": 200, "2.99": 200} {
		res, got := osb(t, w, "GET", "/v2/catalog", "", func(r *http.Request) {
			r.Header.Del("X-Broker-Api-Version")
			if version != "" {
				r.Header.Set("X-Broker-Api-Version", version)
			}
		})
		assert.Equal(t, want, res.StatusCode, version)
		assert.True(t, want == 200 || got["description"] != "", version)
	}
}

// A 422 would make Cloud Controller delete what was not created.
func TestBodiesThatAreNotOneObjectAreBadRequests(t *testing.T) {
	t.Parallel()
	w := common(t)
	for _, body := range []string{"", "[]", "null", "{", `"x"`, `{"parameters":[]}`, `{"parameters":"x"}`, strings.Repeat(" ", 1<<20) + "{}"} {
		res, got := osb(t, w, "PUT", "/v2/service_instances/"+playground.GUID(t.Name()), body, nil)
		assert.Equal(t, 400, res.StatusCode, "%.20q", body)
		assert.NotEmpty(t, got["description"], "%.20q", body)
	}
}

func TestTheRequestIdentityComesBack(t *testing.T) {
	t.Parallel()
	res, _ := osb(t, common(t), "GET", "/v2/catalog", "", func(r *http.Request) { r.Header.Set("X-Broker-Api-Request-Identity", "one-two") })
	assert.Equal(t, "one-two", res.Header.Get("X-Broker-Api-Request-Identity"))
}

func TestOnlyHTTPRoutesOfOthersCanBeBound(t *testing.T) {
	t.Parallel()
	w := common(t)
	service, err := w.CreateService(t.Context(), t.Name(), "org", playground.Backend, "")
	require.NoError(t, err)
	for route, say := range map[string]string{
		"tcp.apps.identity:1024":                "port",
		"*.wild.apps.identity":                  "wildcard",
		"127.0.0.1":                             "IP address",
		"[::1]":                                 "IPv6",
		playground.GatewayHost:                  "the gateway itself",
		playground.GatewayHost + "/x":           "the gateway itself",
		strings.ToUpper(playground.GatewayHost): "the gateway itself",
		"r\u00f6ute.apps.identity":              "host",
		"-x.apps.identity":                      "host",
		"x..apps.identity":                      "host",
		"x.apps.identity/a//b":                  "path",
		"x.apps.identity/a/../b":                "path",
	} {
		answer, err := w.Controller.BindRoute(t.Context(), controller.Binding{GUID: playground.GUID(t.Name() + route), Route: route, Service: service}, nil)
		require.NoError(t, err)
		assert.Equal(t, 400, answer.Status, route)
		assert.Contains(t, answer.Description(), say, route)
	}
}

func TestAWildcardOverTheGatewayIsRefusedEvenWhereWildcardsAreAllowed(t *testing.T) {
	t.Parallel()
	w := wild(t)
	service, err := w.CreateService(t.Context(), t.Name(), "org", playground.Backend, "")
	require.NoError(t, err)
	answer, err := w.Controller.BindRoute(t.Context(), controller.Binding{GUID: playground.GUID(t.Name()), Route: "*." + playground.Domain, Service: service}, nil)
	require.NoError(t, err)
	assert.Equal(t, 400, answer.Status)
	assert.Contains(t, answer.Description(), "the gateway itself")
}

// cf bind-service and cf create-service-key.
func TestAppsAndServiceKeysCannotBeBound(t *testing.T) {
	t.Parallel()
	w := common(t)
	service, err := w.CreateService(t.Context(), t.Name(), "org", playground.Backend, "")
	require.NoError(t, err)
	for name, more := range map[string]string{
		"app":           `,"app_guid":"d76446a1-f429-4444-8797-be2f78b75b08","bind_resource":{"app_guid":"d76446a1-f429-4444-8797-be2f78b75b08"}`,
		"key":           `,"bind_resource":{"credential_client_id":"x"}`,
		"nothing":       ``,
		"app and route": `,"app_guid":"d76446a1-f429-4444-8797-be2f78b75b08","bind_resource":{"route":"x.apps.identity"}`,
	} {
		res, got := osb(t, w, "PUT", "/v2/service_instances/"+service.GUID+"/service_bindings/"+playground.GUID(t.Name()+name),
			fmt.Sprintf(`{"service_id":%q,"plan_id":%q%s}`, service.OfferingID, service.PlanID, more), nil)
		assert.Equal(t, 400, res.StatusCode, name)
		assert.Contains(t, got["description"], "bind-route-service", name)
	}
}

func TestTheBindAnswersAURLWithASecretAndFetchRepeatsIt(t *testing.T) {
	t.Parallel()
	w := common(t)
	p := w.protect(t, protection{binding: `{"allow":["cf:app:$frontend"]}`})
	assert.Regexp(t, "^https://"+regexp.QuoteMeta(playground.GatewayHost)+"/r/"+p.bound.GUID+"/[A-Za-z0-9_-]{22}$", p.url)
	answer, err := w.Controller.FetchBinding(t.Context(), p.bound)
	require.NoError(t, err)
	require.Equal(t, controller.Succeeded, answer.Outcome())
	var fetched struct {
		URL        string          `json:"route_service_url"`
		Parameters json.RawMessage `json:"parameters"`
	}
	require.NoError(t, answer.JSON(&fetched))
	assert.Equal(t, p.url, fetched.URL)
	assert.JSONEq(t, names.Replace(`{"allow":["cf:app:$frontend"]}`), string(fetched.Parameters))
	assert.Equal(t, p.url, bind(t, w, p.service, p.route, `{"allow":["cf:app:$frontend"]}`), "the same bind again")
	other := w.protect(t, protection{})
	assert.NotEqual(t, p.url[len(p.url)-22:], other.url[len(other.url)-22:])
}

func TestFetchAnswersCanonicalParametersAndTheStatus(t *testing.T) {
	t.Parallel()
	w := common(t)
	p := w.protect(t, protection{parameters: `{"allow":["cf:app:$frontend",{"source":"cf:any","routes":["unbound.apps.identity"]}],"scope":"org"}`})
	var got struct {
		Scope  string
		Allow  []any
		Status struct {
			Plan, Scope, Mode, Policy string
			Routes                    []struct {
				Route, Binding, Scope, Mode string
				Grants                      []struct {
					Origin string
					Grant  any
				}
			}
			Warnings []string
		}
	}
	require.NoError(t, json.Unmarshal([]byte(fetch(t, w, p)), &got))
	assert.Equal(t, "org", got.Scope)
	assert.Len(t, got.Allow, 2)
	assert.Equal(t, names.Replace("cf:app:$frontend"), got.Allow[0])
	require.Len(t, got.Status.Routes, 1)
	route := got.Status.Routes[0]
	assert.Equal(t, []string{p.route, p.bound.GUID, "org", "enforce"}, []string{route.Route, route.Binding, route.Scope, route.Mode})
	require.Len(t, route.Grants, 1)
	assert.Equal(t, "instance", route.Grants[0].Origin)
	assert.Regexp(t, `^[0-9a-f]{32}$`, got.Status.Policy)
	assert.Contains(t, strings.Join(got.Status.Warnings, "\n"), "unbound.apps.identity")
	// What was read can be given back: -c ignores the status.
	raw := fetch(t, w, p)
	require.NoError(t, w.UpdateService(t.Context(), p.service, raw))
	assert.JSONEq(t, raw, fetch(t, w, p))
}

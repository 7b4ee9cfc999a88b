package controller_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground/controller"
)

func TestRequestLines(t *testing.T) {
	const (
		instance = "https://broker.example/prefix/v2/service_instances/instance-guid"
		bound    = instance + "/service_bindings/binding-guid"
		ids      = "plan_id=plan&service_id=offering"
	)
	for name, test := range map[string]struct {
		call   call
		method string
		url    string
	}{
		"catalog":                    {catalog, "GET", "https://broker.example/prefix/v2/catalog"},
		"create-service":             {create, "PUT", instance + "?accepts_incomplete=true"},
		"update-service":             {update, "PATCH", instance + "?accepts_incomplete=true"},
		"service --params: no query": {fetch, "GET", instance},
		"delete-service":             {remove, "DELETE", instance + "?accepts_incomplete=true&" + ids},
		"bind-route-service":         {bind, "PUT", bound + "?accepts_incomplete=true"},
		"fetch binding: no query":    {fetchBinding, "GET", bound},
		"unbind-route-service":       {unbind, "DELETE", bound + "?accepts_incomplete=true&" + ids},
		"bind-service":               {bindApp, "PUT", bound + "?accepts_incomplete=true"},
		"create-service-key":         {createKey, "PUT", bound + "?accepts_incomplete=true"},
		"poll":                       {pollWith(controller.Poll{}), "GET", instance + "/last_operation?" + ids},
		"poll with an operation":     {pollBindingWith(controller.Poll{Operation: "task 1&x"}), "GET", bound + "/last_operation?operation=task+1%26x&" + ids},
		"delete-route: without accepts_incomplete": {deleteRoute, "DELETE", bound + "?" + ids},
	} {
		t.Run(name, func(t *testing.T) {
			b := play(t, test.call)
			assert.Equal(t, test.method, b.request.Method)
			assert.Equal(t, test.url, b.request.URL.String())
		})
	}
}

func TestHeaders(t *testing.T) {
	for name, test := range map[string]struct {
		call        call
		contentType []string
	}{
		"GET": {catalog, nil}, "PUT": {create, []string{"application/json"}},
		"PATCH": {update, []string{"application/json"}}, "DELETE": {remove, nil},
	} {
		t.Run(name, func(t *testing.T) {
			b := play(t, test.call)
			header := b.request.Header
			user, password, ok := b.request.BasicAuth()
			assert.True(t, ok)
			assert.Equal(t, "user:secret", user+":"+password)
			assert.Equal(t, "2.15", header.Get("X-Broker-API-Version"))
			assert.Equal(t, "application/json", header.Get("Accept"))
			assert.Equal(t, "api.playground.identity/", header.Get("X-Api-Info-Location"))
			assert.Equal(t, "cloudfoundry "+base64.StdEncoding.EncodeToString([]byte(`{"user_id":"user-guid"}`)),
				header.Get("X-Broker-API-Originating-Identity"))
			assert.Regexp(t, `^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`, header.Get("X-Broker-API-Request-Identity"))
			assert.NotEmpty(t, header.Get("X-Vcap-Request-Id"))
			assert.Equal(t, test.contentType, header["Content-Type"])
		})
	}
}

func TestRequestIdentityIsFreshAndOnTheAnswer(t *testing.T) {
	b := &broker{status: http.StatusOK, body: "{}"}
	seen := map[string]bool{}
	for range 3 {
		answer, err := catalog(b.client())
		require.NoError(t, err)
		assert.Equal(t, b.request.Header.Get("X-Broker-API-Request-Identity"), answer.RequestID)
		seen[answer.RequestID] = true
	}
	assert.Len(t, seen, 3)
}

func TestWithoutUserThereIsNoOriginatingIdentity(t *testing.T) {
	b := &broker{status: http.StatusOK, body: "{}"}
	client := b.client()
	client.User = ""
	client.APILocation = "api.example.com/v2/info"
	_, err := remove(client)
	require.NoError(t, err)
	assert.NotContains(t, b.request.Header, "X-Broker-Api-Originating-Identity")
	assert.Equal(t, "api.example.com/v2/info", b.request.Header.Get("X-Api-Info-Location"))
}

func TestBodies(t *testing.T) {
	const (
		ids      = `{"service_id":"offering","plan_id":"plan",`
		space    = `"platform":"cloudfoundry","organization_guid":"org-guid","space_guid":"space-guid","organization_name":"org","space_name":"space","organization_annotations":{},"space_annotations":{}`
		create   = ids + `"organization_guid":"org-guid","space_guid":"space-guid","context":{` + space + `,"instance_name":"my-authz","instance_annotations":{}}`
		previous = `"previous_values":{"plan_id":"plan","service_id":"offering","organization_id":"org-guid","space_id":"space-guid","maintenance_info":null},`
		bind     = ids + `"bind_resource":{"route":"Backend.apps.identity/Path"},"context":{` + space + `}`
	)
	updated := func(plan, name, parameters string) string {
		return `{"service_id":"offering","plan_id":"` + plan + `",` + previous + `"context":{` + space + `,"instance_name":"` + name + `"},"parameters":` + parameters + `}`
	}
	for name, test := range map[string]struct {
		call call
		want string
	}{
		"create, no parameters: left out":                 {createWith(""), create + "}"},
		"create, {}: left out":                            {createWith(" {} "), create + "}"},
		"create, parameters":                              {createWith(`{"scope": "org<&>"}`), create + `,"parameters":{"scope":"org<&>"}}`},
		"update, nothing: {} is sent":                     {updateWith(controller.Change{}), updated("plan", "my-authz", "{}")},
		"update, {}":                                      {updateWith(controller.Change{Parameters: json.RawMessage("{}")}), updated("plan", "my-authz", "{}")},
		"update, rename: the new name":                    {updateWith(controller.Change{Name: "new"}), updated("plan", "new", "{}")},
		"update, plan: previous_values keep the old":      {updateWith(controller.Change{PlanID: "other"}), updated("other", "my-authz", "{}")},
		"update, parameters":                              {updateWith(controller.Change{Parameters: json.RawMessage(`{"a":1}`)}), updated("plan", "my-authz", `{"a":1}`)},
		"bind, no parameters: left out, no instance name": {bindWith(""), bind + "}"},
		"bind, {}: left out":                              {bindWith("{}"), bind + "}"},
		"bind, parameters":                                {bindWith(`{"allow":[]}`), bind + `,"parameters":{"allow":[]}}`},
		"bind an app":                                     {bindApp, ids + `"app_guid":"app-guid","bind_resource":{"app_guid":"app-guid","space_guid":"space-guid","app_annotations":{}},"context":{` + space + `}}`},
		"a key":                                           {createKey, ids + `"bind_resource":{},"context":{` + space + `}}`},
		"reads have none":                                 {fetch, ""},
		"deletes have none":                               {unbind, ""},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, test.want, play(t, test.call).sent) })
	}
}

func TestParametersThatAreNoObjectAreNotSent(t *testing.T) {
	for _, parameters := range []string{"[]", `"x"`, "1", "null", "{", "{} {}"} {
		for _, call := range []call{createWith(parameters), bindWith(parameters), updateWith(controller.Change{Parameters: json.RawMessage(parameters)})} {
			b := &broker{}
			_, err := call(b.client())
			require.Error(t, err, parameters)
			assert.Nil(t, b.request)
		}
	}
}

func TestGUIDsAreEscaped(t *testing.T) {
	b := play(t, func(c *controller.Client) (*controller.Answer, error) {
		return c.FetchService(ctx, controller.Service{GUID: "a/b?c"})
	})
	assert.Equal(t, "/prefix/v2/service_instances/a%2Fb%3Fc", b.request.URL.EscapedPath())
}

func TestAnswer(t *testing.T) {
	b := &broker{status: http.StatusBadRequest, body: `{"error":"X","description":"unknown parameter \"can-not\""}`}
	answer, err := create(b.client())
	require.NoError(t, err)
	assert.Equal(t, http.StatusBadRequest, answer.Status)
	assert.Equal(t, "yes", answer.Header.Get("X-Answer"))
	assert.Equal(t, b.body, string(answer.Body))
	assert.Equal(t, `unknown parameter "can-not"`, answer.Description())
	var body struct{ Error string }
	require.NoError(t, answer.JSON(&body))
	assert.Equal(t, "X", body.Error)
}

func TestDescriptionNeedsAnObjectWithAText(t *testing.T) {
	for _, body := range []string{"", "{}", "[]", "plain text", `{"description":1}`, `{"Description`} {
		answer, err := create((&broker{status: 400, body: body}).client())
		require.NoError(t, err)
		assert.Empty(t, answer.Description(), body)
	}
	answer, err := create((&broker{status: 400, body: "no JSON"}).client())
	require.NoError(t, err)
	assert.ErrorContains(t, answer.JSON(new(any)), "provision")
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	server := httptest.NewServer(http.RedirectHandler("/elsewhere", http.StatusFound))
	t.Cleanup(server.Close)
	answer, err := (&controller.Client{URL: server.URL}).Catalog(ctx)
	require.NoError(t, err)
	assert.Equal(t, http.StatusFound, answer.Status)
	assert.Equal(t, controller.Failed, answer.Outcome())
}

func TestMalformedBrokerURL(t *testing.T) {
	_, err := (&controller.Client{URL: "https://%zz"}).Catalog(ctx)
	assert.ErrorContains(t, err, "%zz")
}

func TestNoAnswer(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	for name, test := range map[string]struct {
		call    call
		err     error
		timeout bool
		want    controller.Outcome
	}{
		"provision, timeout":   {create, context.DeadlineExceeded, true, controller.Orphaned},
		"bind, timeout":        {bind, context.DeadlineExceeded, true, controller.Orphaned},
		"update, timeout":      {update, context.DeadlineExceeded, true, controller.Failed},
		"unbind, timeout":      {unbind, context.DeadlineExceeded, true, controller.Failed},
		"deprovision, timeout": {remove, context.DeadlineExceeded, true, controller.Failed},
		"poll, timeout":        {pollWith(controller.Poll{}), context.DeadlineExceeded, true, controller.InProgress},
		"poll, refused":        {pollWith(controller.Poll{}), refused, false, controller.InProgress},
		"fetch, timeout":       {fetch, context.DeadlineExceeded, true, controller.Failed},
		"provision, refused":   {create, refused, false, controller.Failed},
		"bind, refused":        {bind, refused, false, controller.Failed},
		"unbind, refused":      {unbind, refused, false, controller.Failed},
	} {
		t.Run(name, func(t *testing.T) {
			b := &broker{err: test.err}
			_, err := test.call(b.client())
			var unanswered *controller.Unanswered
			require.ErrorAs(t, err, &unanswered)
			assert.ErrorIs(t, err, test.err)
			assert.Equal(t, test.timeout, unanswered.Timeout)
			assert.Equal(t, test.want, unanswered.Outcome())
			assert.Equal(t, b.request.Header.Get("X-Broker-API-Request-Identity"), unanswered.RequestID)
		})
	}
}

func TestTheTimeoutCoversTheBody(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("{"))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	t.Cleanup(server.Close)
	_, err := create(&controller.Client{URL: server.URL, Timeout: 50 * time.Millisecond})
	var unanswered *controller.Unanswered
	require.ErrorAs(t, err, &unanswered)
	assert.True(t, unanswered.Timeout)
}

package acceptance_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground"
	"github.com/mtls-authz/mtls-authz/playground/capi"
)

// askAs sends a request to /v1 with a token, or with the broker's credentials if it is
// "".
func (w *world) askAs(t *testing.T, token, method, path, body string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, w.Controller.URL+path, strings.NewReader(body))
	require.NoError(t, err)
	request.Header.Set("Authorization", "bearer "+token)
	if token == "" {
		request.SetBasicAuth(w.Controller.Username, w.Controller.Password)
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	res, err := http.DefaultTransport.RoundTrip(request)
	require.NoError(t, err)
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, string(raw)
}

// Developers see and change with cf oauth-token what they may see and change with
// cf, and read names; nobody else's, and nobody else.
func TestDevelopersUseTheirTokens(t *testing.T) {
	t.Parallel()
	cloud := cloudOf(playground.Frontend, playground.Backend, playground.Monitoring, playground.Intruder)
	server := httptest.NewTLSServer(cloud)
	defer server.Close()
	w := start(t, setup{env: askedBy(server, time.Hour)})
	w.addSecrets("secret-of-the-client")
	p := w.protect(t, protection{plan: "any", parameters: `{"allow":["cf:app:$monitoring"]}`})
	other := w.protect(t, protection{plan: "any", parameters: `{"allow":["cf:app:$intruder"]}`})
	own := "/v1/instances/" + p.service.GUID
	cloud.Permit(p.service.GUID, "user-developer", capi.Permissions{Read: true, Manage: true})
	cloud.Permit(p.service.GUID, "user-auditor", capi.Permissions{Read: true})
	cloud.Permit(other.service.GUID, "user-stranger", capi.Permissions{Read: true, Manage: true})
	tokens := map[string]string{}
	for _, user := range []string{"developer", "auditor", "stranger"} {
		tokens[user] = cloud.Login("user-" + user)
		w.addSecrets(tokens[user])
	}
	p.call(t, "frontend", "GET", "/").expect(t, noMatch)
	p.call(t, "intruder", "GET", "/").expect(t, noMatch)
	other.call(t, "frontend", "GET", "/private").expect(t, noMatch)

	add := names.Replace(`{"allow_add":["cf:app:$frontend"]}`)
	for user, want := range map[string][2]int{"developer": {200, 200}, "auditor": {200, 403}, "stranger": {403, 403}} {
		for _, path := range []string{"", "/bindings", "/routes", "/denials"} {
			status, answer := w.askAs(t, tokens[user], "GET", own+path, "")
			assert.Equal(t, want[0], status, "%s %s: %s", user, path, answer)
		}
		status, answer := w.askAs(t, tokens[user], "POST", own+"/grants", names.Replace(`{"allow_remove":["cf:space:$shop"]}`))
		assert.Equal(t, want[1], status, "%s: %s", user, answer)
		for _, path := range []string{"/v1/routes", "/v1/routes/" + p.route, "/v1/audit", "/v1/instances", "/v1/decisions", "/metrics"} {
			status, answer := w.askAs(t, tokens[user], "GET", path, "")
			assert.Contains(t, []int{401, 403}, status, "%s %s: %s", user, path, answer)
		}
	}
	status, answer := w.askAs(t, tokens["developer"], "POST", own+"/grants", add)
	require.Equal(t, http.StatusOK, status, answer)
	p.call(t, "frontend", "GET", "/").expect(t, allowed)
	assert.Contains(t, fetch(t, w, p), playground.Frontend.Identity().App, "cf service --params shows it")
	var audit struct{ Resources []struct{ Action, By string } }
	_, answer = w.askAs(t, "", "GET", "/v1/audit?service_instance_guids="+p.service.GUID+"&actions=update", "")
	require.NoError(t, json.Unmarshal([]byte(answer), &audit))
	require.Len(t, audit.Resources, 1)
	assert.Equal(t, "user-developer", audit.Resources[0].By)

	w.readsNames(t, p, tokens["auditor"])
	for _, path := range []string{"", "/bindings", "/routes", "/denials"} {
		_, answer := w.askAs(t, tokens["auditor"], "GET", own+path, "")
		for _, secret := range []string{"lab/intruder", "globex", other.service.GUID, other.bound.GUID, other.route, "/private"} {
			assert.NotContains(t, answer, secret, path)
		}
	}

	// Without Cloud Controller's word there is no right.
	cloud.TokenLife(-time.Minute)
	status, _ = w.askAs(t, cloud.Login("user-developer"), "GET", own, "")
	assert.Equal(t, http.StatusUnauthorized, status)
	cloud.TokenLife(time.Hour)
	cloud.Fail(capi.Fault{Path: "/v3", Status: http.StatusBadGateway})
	status, answer = w.askAs(t, cloud.Login("user-developer"), "POST", own+"/grants", add)
	assert.Equal(t, http.StatusServiceUnavailable, status, answer)
	p.call(t, "frontend", "GET", "/").expect(t, allowed)
}

// readsNames waits for the names: operators read all, developers those of the org.
func (w *world) readsNames(t *testing.T, p *protected, token string) {
	t.Helper()
	own := "/v1/instances/" + p.service.GUID
	for what, row := range map[string]struct{ token, path, says string }{
		"an operator, of a caller":       {"", "/v1/routes/" + p.route, `"name":"globex/lab/intruder"`},
		"an operator, of a grant":        {"", "/v1/bindings/" + p.bound.GUID, `"name":"acme/shop/frontend"`},
		"an operator, of an owner":       {"", "/v1/routes", `"owner_name":"acme/shop"`},
		"an operator, of an instance":    {"", own, `"owner_name":"acme/shop"`},
		"a user, of a grant":             {token, own + "/routes", `"name":"acme/observability/monitoring"`},
		"a user, of a grant, again":      {token, own + "/bindings", `"name":"acme/shop/frontend"`},
		"a user, of who was refused":     {token, own + "/denials", `"name":"acme/shop/frontend"`},
		"a user, who else was refused":   {token, own + "/denials", playground.Intruder.Identity().App},
		"an operator, who was refused":   {"", own + "/denials", `"name":"globex/lab/intruder"`},
		"an operator, who was refused 2": {"", own + "/routes", `"name":"globex/lab/intruder"`},
	} {
		require.NoError(t, until(what, func() error {
			if _, answer := w.askAs(t, row.token, "GET", row.path, ""); !strings.Contains(answer, row.says) {
				return fmt.Errorf("not yet: %s", answer)
			}
			return nil
		}))
	}
	status := fetch(t, w, p)
	assert.Contains(t, status, `"name":"acme/shop/frontend"`)
	assert.NotContains(t, status, "lab/intruder")
}

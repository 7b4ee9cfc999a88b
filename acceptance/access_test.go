package acceptance_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground"
	"github.com/mtls-authz/mtls-authz/playground/ca"
	"github.com/mtls-authz/mtls-authz/playground/controller"
)

// askAt asks the API of one gateway; accept "" is JSON. No secret is in what is
// heard.
func (c *cluster) askAt(t *testing.T, gateway int, method, path, body, accept string) (status int, answer string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, c.server(gateway).url+path, strings.NewReader(body))
	require.NoError(t, err)
	request.SetBasicAuth("broker", password)
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	if accept != "" {
		request.Header.Set("Accept", accept)
	}
	res, err := http.DefaultTransport.RoundTrip(request)
	require.NoError(t, err)
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	c.mu.Lock()
	secrets := append([]string{"secret=1"}, c.secrets...)
	c.mu.Unlock()
	assert.Empty(t, leak(string(raw), secrets), "%s", raw)
	return res.StatusCode, string(raw)
}

// explained is what is read of an explanation.
type explained struct {
	Outcome, Policy, Reason, Step, Path string
	Caller                              *struct{ App string }
	Grants                              []struct{ Because string }
	Remedies                            []string
}

func (c *cluster) decideAt(t *testing.T, gateway int, who ca.Identity, to string) (e explained) {
	t.Helper()
	status, answer := c.askAt(t, gateway, "POST", "/v1/decide", fmt.Sprintf(`{"caller":{"app":%q,"space":%q,"org":%q},"method":"GET","url":"https://%s"}`, who.App, who.Space, who.Org, to), "")
	require.Equal(t, http.StatusOK, status, answer)
	require.NoError(t, json.Unmarshal([]byte(answer), &e))
	return e
}

// Whoever is refused, at whatever gateway, reads there and at every other why, and
// what would have allowed it; the owner of the route sees it with cf alone.
func TestADenialAtOneGatewayIsExplainedAtTheOther(t *testing.T) {
	t.Parallel()
	c := databases["PostgreSQL"].get(t).play(t)
	service := c.created(`{"allow":["cf:app:$frontend",{"source":"cf:app:$monitoring","paths":["/metrics"]}]}`)
	wide, narrow := c.bound(service, ""), c.bound(service, `{"scope":"space"}`)
	c.await(0, wide, [2]string{"200 allowed", "403 no_matching_grant"})
	c.await(1, narrow, [2]string{"200 allowed", "403 scope"})
	apps := map[string]ca.Identity{"frontend": playground.Frontend.Identity(), "monitoring": playground.Monitoring.Identity()}
	for _, row := range []struct {
		caller, path, want string
		to                 bound
	}{
		{"frontend", "/", "200 allowed", wide},
		{"monitoring", "/metrics", "200 allowed", wide},
		{"monitoring", "/admin", "403 no_matching_grant", wide},
		{"monitoring", "/metrics", "403 scope", narrow},
		{"frontend", "/a/../b", "400 malformed_request", wide},
	} {
		got, err := c.send(t.Context(), 0, row.caller, row.to.Route+row.path+"?secret=1", row.to.url)
		outcome, err := outcomeOf(got, err)
		require.NoError(t, err)
		require.Equal(t, row.want, outcome)
		for gateway := range 2 {
			decided := c.decideAt(t, gateway, apps[row.caller], row.to.Route+row.path)
			assert.Equal(t, strings.TrimLeft(row.want, "0123456789 "), strings.TrimSpace(decided.Reason+map[bool]string{true: "allowed"}[decided.Outcome == "allowed"]), "decide says what a request gets")
		}
		if row.want == "200 allowed" {
			continue
		}
		var e explained
		require.Eventually(t, func() bool {
			status, answer := c.askAt(t, 1, "GET", "/v1/decisions/"+got.Header.Get(decisionHeader), "", "")
			return status == http.StatusOK && json.Unmarshal([]byte(answer), &e) == nil
		}, patience, 50*time.Millisecond)
		assert.Equal(t, row.want[4:], e.Reason)
		assert.NotEmpty(t, e.Remedies)
		if row.want[:3] == "403" {
			assert.Equal(t, []any{row.path, apps[row.caller].App}, []any{e.Path, e.Caller.App})
		}
	}
	c.shownToDevelopers(service, wide, narrow)

	_, table := c.askAt(t, 0, "GET", "/v1/routes/"+strings.ToLower(wide.Route), "", "text/plain")
	for _, line := range []string{
		`route +` + strings.ToLower(wide.Route), `scope +org \(plan org\)`, `cf:app:` + apps["frontend"].App + ` +- +instance`, `cf:app:` + apps["monitoring"].App + ` +denied +\d`,
	} {
		assert.Regexp(t, `(?m)^`+line, table)
	}
	code, _ := c.askAt(t, 0, "GET", "/v1/routes/unknown.example", "", "")
	assert.Equal(t, http.StatusNotFound, code)
}

// shownToDevelopers: cf service NAME --params says who was refused.
func (c *cloud) shownToDevelopers(s controller.Service, wide, narrow bound) {
	c.t.Helper()
	var shown struct {
		Parameters struct {
			Status struct {
				Denials []struct{ App, Route, Path, Reason string }
				Routes  []struct {
					Callers []struct{ App, Outcome string }
				}
			}
		}
	}
	monitoring, found := playground.Monitoring.Identity().App, map[string]bool{}
	require.Eventually(c.t, func() bool {
		answer, err := c.at(c.t, 1).FetchService(c.t.Context(), s)
		require.NoError(c.t, err)
		require.NoError(c.t, answer.JSON(&shown))
		for _, d := range shown.Parameters.Status.Denials {
			found[d.App+" "+d.Route+d.Path+" "+d.Reason] = true
		}
		return found[monitoring+" "+strings.ToLower(wide.Route)+"/admin no_matching_grant"] && found[monitoring+" "+strings.ToLower(narrow.Route)+"/metrics scope"]
	}, patience, 50*time.Millisecond)
	assert.NotEmpty(c.t, shown.Parameters.Status.Routes[0].Callers)
}

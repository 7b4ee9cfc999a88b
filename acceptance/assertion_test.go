package acceptance_test

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/callerassertion"
	"github.com/mtls-authz/mtls-authz/playground"
)

// verifying is an app that answers only to what came through the gateway. It
// says who called, and keeps the assertions it saw.
type verifying struct {
	verifier *callerassertion.Verifier

	mu   sync.Mutex
	seen []string
}

func (v *verifying) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	v.seen = append(v.seen, r.Header.Values(callerassertion.Header)...)
	v.mu.Unlock()
	v.verifier.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		claims, _ := callerassertion.FromContext(r.Context())
		w.Header().Set("X-Called-By", claims.CallerApp)
		w.Header().Set("X-Claimed-Decision", claims.DecisionID)
	})).ServeHTTP(w, r)
}

// taken returns the assertions seen since the last call.
func (v *verifying) taken() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	seen := v.seen
	v.seen = nil
	return seen
}

// protectVerifying binds a route to an app that verifies, with the keys that the
// gateway publishes through the router.
func (w *world) protectVerifying(t *testing.T, parameters string) (*protected, *verifying) {
	t.Helper()
	app, host := &verifying{}, w.freshHost()
	p := w.protect(t, protection{route: host, parameters: parameters, handler: app.ServeHTTP})
	app.verifier = verifierOf(t, p)
	return p, app
}

func verifierOf(t *testing.T, p *protected) *callerassertion.Verifier {
	t.Helper()
	verifier, err := callerassertion.New(callerassertion.Config{
		Gateway: "https://" + playground.GatewayHost, Hosts: []string{p.host}, Transport: p.client("backend").Transport,
	})
	require.NoError(t, err)
	return verifier
}

func TestAnAppThatVerifiesKnowsWhoCalled(t *testing.T) {
	t.Parallel()
	p, app := common(t).protectVerifying(t, `{"assert":true,"allow":["cf:app:$frontend"]}`)
	for _, line := range []string{"GET /", "HEAD /a", "POST /a?b=1&a=2", "GET /a%2Fb;c=d", "DELETE /?", "GET /%E2%82%AC?q=%2e%2e"} {
		r := p.raw(t, "frontend", line, "Content-Length: 0").expect(t, "200 allowed")
		assert.Equal(t, playground.Frontend.Identity().App, r.header.Get("X-Called-By"), line)
		assert.Equal(t, r.line["decision_id"], r.header.Get("X-Claimed-Decision"), line)
		p.addSecrets(app.taken()...) // a bearer token: in no log
	}
	p.call(t, "monitoring", "GET", "/").expect(t, noMatch)
}

// Who goes around the gateway has no assertion of its own, and cannot use
// another's for anything else.
func TestARequestThatGoesAroundTheGatewayIsRefusedByTheApp(t *testing.T) {
	t.Parallel()
	p, app := common(t).protectVerifying(t, `{"assert":true,"allow":["cf:app:$frontend"]}`)
	around := func(target string, assertions ...string) int {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.app.url+target, nil)
		require.NoError(t, err)
		request.Host, request.Header[callerassertion.Header] = p.host, assertions
		res, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		defer res.Body.Close()
		_, err = io.Copy(io.Discard, res.Body)
		require.NoError(t, err)
		return res.StatusCode
	}
	p.call(t, "frontend", "GET", "/a").expect(t, "200 allowed")
	captured := app.taken()
	require.Len(t, captured, 1)
	p.addSecrets(captured...)
	header, rest, _ := strings.Cut(captured[0], ".")
	for name, assertions := range map[string][]string{
		"none": nil, "empty": {""}, "replayed": captured, "twice": {captured[0], captured[0]}, "unsigned": {header + "." + rest[:strings.Index(rest, ".")+1]},
		"altered": {header + ".x" + rest[1:]},
	} {
		assert.Equal(t, http.StatusForbidden, around("/a", assertions...), name)
	}
	assert.Equal(t, http.StatusForbidden, around("/other", captured...), "for another path")
}

func TestAForgedAssertionDoesNotReachTheApp(t *testing.T) {
	t.Parallel()
	for parameters, want := range map[string]int{`{"assert":true,"allow":["cf:any"]}`: 1, `{"allow":["cf:any"]}`: 0, `{"assert":true,"mode":"report"}`: 0} {
		var seen []string
		p := common(t).protect(t, protection{parameters: parameters, handler: func(_ http.ResponseWriter, r *http.Request) {
			for name, values := range r.Header {
				if strings.Contains(strings.ToLower(strings.ReplaceAll(name, "_", "-")), "assertion") {
					seen = append(seen, values...)
				}
			}
		}})
		caller := "frontend"
		if strings.Contains(parameters, "report") {
			caller = "" // in report mode, somebody whom nobody knows
		}
		r := p.call(t, caller, "GET", "/", "X-Mtls-Authz-Assertion: forged", "X_Mtls_Authz_Assertion: forged")
		require.Equal(t, http.StatusOK, r.status, parameters)
		assert.Len(t, seen, want, parameters)
		assert.NotContains(t, seen, "forged", parameters)
	}
}

// In report mode the app is told that nobody decided.
func TestAnAssertionOfReportModeIsNotAnAllow(t *testing.T) {
	t.Parallel()
	var verifier *callerassertion.Verifier
	var refused error
	host := common(t).freshHost()
	p := common(t).protect(t, protection{route: host, parameters: `{"assert":true,"mode":"report"}`, handler: func(_ http.ResponseWriter, r *http.Request) {
		_, refused = verifier.Verify(r)
	}})
	verifier = verifierOf(t, p)
	p.call(t, "frontend", "GET", "/").expect(t, "200 not_enforced no_grants")
	require.ErrorIs(t, refused, callerassertion.ErrNotAllowed)
}

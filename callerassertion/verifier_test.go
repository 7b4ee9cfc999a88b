package callerassertion_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/callerassertion"
	"github.com/mtls-authz/mtls-authz/gateway/assertion"
)

func TestConfigurationIsRefused(t *testing.T) {
	good := callerassertion.Config{Gateway: "https://mtls-authz.apps.example.com", Hosts: []string{host}}
	_, err := callerassertion.New(good)
	require.NoError(t, err)
	for _, gateway := range []string{
		"", "http://gateway", "gateway", "https://", "https://gateway/", "https://gateway/path", "https://user@gateway", "https://gateway?x", "https://gateway#x", "HTTPS://gateway",
	} {
		cfg := good
		cfg.Gateway = gateway
		_, err := callerassertion.New(cfg)
		assert.ErrorContains(t, err, "expected https://host", gateway)
	}
	for _, hosts := range [][]string{nil, {""}, {"*"}, {"*."}, {"Backend.apps.identity"}, {host, "https://x"}, {"x:443"}, {"a.*.b"}, {"x/path"}} {
		cfg := good
		cfg.Hosts = hosts
		_, err := callerassertion.New(cfg)
		assert.Error(t, err, "%q", hosts)
	}
	good.Skew = -time.Second
	_, err = callerassertion.New(good)
	assert.Error(t, err)
}

func TestClocksThatDiffer(t *testing.T) {
	for _, row := range []struct {
		later  time.Duration // the app's clock, when the assertion arrives
		accept bool
	}{
		{-11 * time.Second, false}, {-10 * time.Second, true}, {0, true}, {60 * time.Second, true}, {69 * time.Second, true}, {70 * time.Second, false}, {time.Hour, false}, {-time.Hour, false},
	} {
		w := newWorld(t)
		w.now = w.now.Truncate(time.Second)
		v, token := w.verifier(), w.token()
		w.now = w.now.Add(row.later)
		if err := w.verify(v, token); row.accept {
			assert.NoError(t, err, "%s", row.later)
		} else {
			assert.ErrorIs(t, err, callerassertion.ErrTime, "%s", row.later)
		}
	}
}

func TestWildcardHosts(t *testing.T) {
	w := newWorld(t)
	v := w.verifier(func(c *callerassertion.Config) { c.Hosts = []string{"*.apps.identity"} })
	for name, accept := range map[string]bool{
		"a.apps.identity": true, "a.b.apps.identity": true, "apps.identity": false, ".apps.identity": false, "evilapps.identity": false, "a.apps.identity.evil": false,
	} {
		token := w.token(func(r *assertion.Request) { r.Host = name })
		_, err := v.Verify(presented{http.MethodGet, name, target, []string{token}}.request())
		assert.Equal(t, accept, err == nil, name)
	}
}

func TestReportModeIsAcceptedOnlyOnRequest(t *testing.T) {
	w := newWorld(t)
	token := w.token(func(r *assertion.Request) { r.Allowed = false })
	require.ErrorIs(t, w.verify(w.verifier(), token), callerassertion.ErrNotAllowed)
	v := w.verifier(func(c *callerassertion.Config) { c.AcceptNotEnforced = true })
	claims, err := v.Verify(presented{http.MethodGet, host, target, []string{token}}.request())
	require.NoError(t, err)
	assert.Equal(t, callerassertion.NotEnforced, claims.Decision)
	require.ErrorIs(t, w.verify(v, forge(w.key(), w.header(), with(w.claims(), "decision", "denied"))), callerassertion.ErrMalformed)
}

func TestReplayIsRememberedAsLongAsTheAssertionLives(t *testing.T) {
	w := newWorld(t)
	v := w.verifier()
	tokens := []string{}
	for range 30 { // at any time of a generation
		token := w.token()
		require.NoError(t, w.verify(v, token))
		tokens = append(tokens, token)
		for _, used := range tokens {
			err := w.verify(v, used)
			require.Error(t, err)
		}
		w.pass(7 * time.Second)
	}
	w.now = w.now.Add(-7 * time.Second)
	require.ErrorIs(t, w.verify(v, tokens[len(tokens)-1]), callerassertion.ErrReplay)
	require.ErrorIs(t, w.verify(v, tokens[len(tokens)-10]), callerassertion.ErrReplay, "63 s old, accepted with skew")
	require.ErrorIs(t, w.verify(v, tokens[0]), callerassertion.ErrTime)
}

func TestFullMemoryRefuses(t *testing.T) {
	w := newWorld(t)
	v := w.verifier(func(c *callerassertion.Config) { c.Remember = 10 })
	first := w.token()
	require.NoError(t, w.verify(v, first))
	for range 9 {
		require.NoError(t, w.verify(v, w.token()))
	}
	require.ErrorIs(t, w.verify(v, w.token()), callerassertion.ErrUnavailable)
	require.ErrorIs(t, w.verify(v, first), callerassertion.ErrReplay, "nothing is forgotten early")
	w.pass(80 * time.Second)
	require.NoError(t, w.verify(v, w.token()), "there is room when they have died")
	w.pass(200 * time.Second)
	for range 10 {
		require.NoError(t, w.verify(v, w.token()))
	}
}

func TestRepeatedRequestsWhereNothingIsRemembered(t *testing.T) {
	w := newWorld(t)
	v := w.verifier(func(c *callerassertion.Config) { c.Remember = -1 })
	token := w.token()
	require.NoError(t, w.verify(v, token))
	require.NoError(t, w.verify(v, token))
}

func TestMiddleware(t *testing.T) {
	w := newWorld(t)
	var refused error
	v := w.verifier(func(c *callerassertion.Config) {
		c.Hosts = []string{"127.0.0.1", host}
		c.Refused = func(_ *http.Request, err error) { refused = err }
	})
	reached := 0
	server := httptest.NewServer(http.StripPrefix("/api", v.Middleware(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		reached++
		claims, ok := callerassertion.FromContext(r.Context())
		assert.True(t, ok)
		assert.Equal(t, app, claims.CallerApp)
		assert.Empty(t, r.Header.Values(callerassertion.Header), "it is not sent on by mistake")
		assert.Equal(t, "kept", r.Header.Get("X-Other"))
		rw.WriteHeader(http.StatusTeapot)
	}))))
	defer server.Close()
	send := func(token string) *http.Response {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+target, nil)
		require.NoError(t, err)
		r.Host = host
		r.Header.Set("X-Other", "kept")
		if token != "" {
			r.Header.Set(callerassertion.Header, token)
		}
		response, err := server.Client().Do(r)
		require.NoError(t, err)
		t.Cleanup(func() { response.Body.Close() })
		return response
	}
	token := w.token()
	assert.Equal(t, http.StatusTeapot, send(token).StatusCode, "a prefix that was taken off does not matter")
	require.NoError(t, refused)

	for name, row := range map[string]struct {
		token  string
		status int
		body   string
	}{
		"replayed": {token, 403, `{"status":403,"title":"The request is not proven to come through the gateway.","reason":"assertion_replay"}`},
		"none":     {"", 403, `{"status":403,"title":"The request is not proven to come through the gateway.","reason":"assertion_missing"}`},
	} {
		response := send(row.token)
		assert.Equal(t, row.status, response.StatusCode, name)
		assert.Equal(t, "application/problem+json", response.Header.Get("Content-Type"))
		assert.Equal(t, "no-store", response.Header.Get("Cache-Control"))
		var body bytes.Buffer
		_, _ = body.ReadFrom(response.Body)
		assert.JSONEq(t, row.body, body.String())
		assert.Error(t, refused)
		refused = nil
	}
	assert.Equal(t, 1, reached)

	w.serve(answer(http.StatusInternalServerError, ""))
	v = w.verifier()
	recorder := httptest.NewRecorder()
	v.Middleware(nil).ServeHTTP(recorder, presented{http.MethodGet, host, target, []string{w.token()}}.request())
	assert.Equal(t, http.StatusServiceUnavailable, recorder.Code, "the client is not to blame")
	assert.NotEmpty(t, recorder.Header().Get("Retry-After"))
	assert.Contains(t, recorder.Body.String(), `"assertion_unavailable"`)
}

func TestOutsideTheMiddlewareThereIsNobody(t *testing.T) {
	_, ok := callerassertion.FromContext(t.Context())
	assert.False(t, ok)
}

func TestStandardLibraryOnly(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	require.NoError(t, err)
	assert.Equal(t, "github.com/mtls-authz/mtls-authz/callerassertion", strings.TrimSpace(string(out)), "apps import this package")
}

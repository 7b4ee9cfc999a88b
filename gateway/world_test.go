package gateway_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/gateway"
	"github.com/mtls-authz/mtls-authz/gateway/leg3"
	"github.com/mtls-authz/mtls-authz/gateway/target"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/parameters"
	"github.com/mtls-authz/mtls-authz/grants/route"
	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/playground"
	"github.com/mtls-authz/mtls-authz/playground/ca"
	"github.com/mtls-authz/mtls-authz/rego"
	"github.com/mtls-authz/mtls-authz/store"
)

const binding = "b1d1e5f0-0000-4000-8000-000000000001"

var (
	owner    = playground.Backend.Identity()
	frontend = playground.Frontend.Identity()
	tokens   = store.TokenKey("a key of the tests, 32 bytes lon")
)

// world is a gateway between a client and an app behind a TLS server that
// stands for the router.
type world struct {
	tb         testing.TB
	gateway    http.Handler
	config     gateway.Config
	credential *ca.Credential

	mu     sync.Mutex
	lines  bytes.Buffer
	access map[string]*grants.Access
}

// Write collects the decision lines.
func (w *world) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lines.Write(p)
}

// policyDecider asks the policy without a cache.
type policyDecider struct{}

func (policyDecider) Decide(ctx context.Context, r *rego.Request) (rego.Decision, error) {
	return r.Policy.Decide(ctx, r)
}

// builtIn is compiled once: tests share it.
var builtIn = sync.OnceValues(func() (*rego.Policy, error) { return rego.Compile(context.Background(), rego.Config{}) })

func newWorld(tb testing.TB, app http.HandlerFunc, edit func(*gateway.Config)) *world {
	root, err := ca.NewRoot("identity")
	require.NoError(tb, err)
	w := &world{tb: tb, access: map[string]*grants.Access{}}
	w.credential, err = root.Instance(frontend)
	require.NoError(tb, err)
	verifier, err := identity.NewVerifier(identity.Config{Foundation: "local", CAs: []*x509.Certificate{root.Certificate()}})
	require.NoError(tb, err)
	policy, err := builtIn()
	require.NoError(tb, err)
	w.config = gateway.Config{
		Access: func(id string) *grants.Access { w.mu.Lock(); defer w.mu.Unlock(); return w.access[id] },
		Tokens: tokens, Ready: func() error { return nil }, Verifier: verifier, Format: target.ByHost[identity.Format]{},
		Trust:  func(context.Context, *grants.Access, string) error { return nil },
		Policy: func() *rego.Policy { return policy }, Decider: policyDecider{},
		Router: routerTo(tb, app), MaxInFlight: 1000, MaxInFlightPerRoute: 1000, MaxStream: time.Minute,
		Log: slog.New(slog.NewJSONHandler(w, nil)), Metrics: prometheus.NewRegistry(),
	}
	if edit != nil {
		edit(&w.config)
	}
	w.gateway = gateway.New(w.config)
	w.bind("backend.apps.identity", `{"allow": ["cf:app:`+frontend.App+`"]}`)
	return w
}

// routerTo is leg 3 to a TLS server that runs the app.
func routerTo(tb testing.TB, app http.HandlerFunc) *leg3.Router {
	root, err := ca.NewRoot("router")
	require.NoError(tb, err)
	certificate, err := root.Server("*.apps.identity")
	require.NoError(tb, err)
	server := httptest.NewUnstartedServer(app)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate.TLS()}}
	server.StartTLS()
	tb.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(root.Certificate())
	r := leg3.New(leg3.Config{Address: func(string) string { return server.Listener.Addr().String() }, Roots: roots, HeaderTimeout: 300 * time.Millisecond})
	tb.Cleanup(r.CloseIdle)
	return r
}

// bind makes the world's binding protect a route with these parameters, in the
// org of the owner.
func (w *world) bind(to, given string) {
	parsed, err := route.Parse(to)
	require.NoError(w.tb, err)
	p, err := parameters.ParseInstance([]byte(given))
	require.NoError(w.tb, err)
	o := grants.Owner{Instance: "service-instance"}
	require.NoError(w.tb, o.Org.UnmarshalText([]byte(owner.Org)))
	require.NoError(w.tb, o.Space.UnmarshalText([]byte(owner.Space)))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.access[binding] = parameters.NewAccess(parameters.Bound{Binding: binding, Route: parsed, Owner: o, Plan: grants.ScopeOrg, Instance: p, ReportAllowed: true, Revision: 1})
}

func (w *world) unbind() {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.access, binding)
}

// request is what gorouter sends on leg 2 for a GET by frontend.
func (w *world) request() *http.Request {
	r := httptest.NewRequestWithContext(w.tb.Context(), http.MethodGet, "/r/"+binding+"/"+tokens.Token(binding), nil)
	r.Header.Set("X-CF-Forwarded-Url", "https://backend.apps.identity/hello?q=secret-query")
	r.Header.Set("X-CF-Proxy-Signature", "secret-signature")
	r.Header.Set("X-CF-Proxy-Metadata", "secret-metadata")
	r.Header.Set(identity.Header, w.credential.XFCC())
	r.Header.Set("X-Vcap-Request-Id", "leg-2")
	return r
}

// reply is what the client heard and what the log says of it.
type reply struct {
	*httptest.ResponseRecorder
	problem map[string]any
	line    map[string]any
}

func (w *world) send(r *http.Request) reply {
	answer := reply{ResponseRecorder: httptest.NewRecorder()}
	w.gateway.ServeHTTP(answer, r)
	if answer.Header().Get("Content-Type") == "application/problem+json" {
		require.NoError(w.tb, json.Unmarshal(answer.Body.Bytes(), &answer.problem))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	raw := w.lines.String()
	require.NoError(w.tb, json.Unmarshal(w.lines.Bytes(), &answer.line), "one line for each request")
	w.lines.Reset()
	for _, secret := range []string{"secret-", tokens.Token(binding), w.credential.XFCC()} {
		require.NotContains(w.tb, raw, secret)
		require.NotContains(w.tb, fmt.Sprint(answer.Header(), answer.problem), secret)
	}
	return answer
}

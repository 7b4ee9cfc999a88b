package selftest_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/gateway/leg3"
	"github.com/mtls-authz/mtls-authz/gateway/selftest"
	"github.com/mtls-authz/mtls-authz/playground"
	"github.com/mtls-authz/mtls-authz/playground/ca"
	"github.com/mtls-authz/mtls-authz/playground/router"
)

const host = "mtls-authz.apps.identity"

// clock is a clock that tests set.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.now }

func (c *clock) advance(d time.Duration) { c.mu.Lock(); defer c.mu.Unlock(); c.now = c.now.Add(d) }

// world is a router in front of gateways that answer probes.
type world struct {
	t      *testing.T
	router playground.Router
	roots  *x509.CertPool
	own    *ca.Credential
	clock  *clock
	key    []byte
}

func newWorld(t *testing.T, mode router.ForwardedClientCert) *world {
	root, err := ca.NewRoot("root")
	require.NoError(t, err)
	server, err := root.Server("*.apps.identity")
	require.NoError(t, err)
	own, err := root.Instance(playground.Authz.Identity())
	require.NoError(t, err)
	r, err := playground.NewRouter(playground.Trust{Certificate: server, ClientCAs: root}, router.Config{ForwardedClientCert: mode})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, r.Close()) })
	w := &world{t: t, router: r, roots: x509.NewCertPool(), own: own, clock: &clock{now: time.Now()}, key: []byte("0123456789abcdef")}
	w.roots.AddCert(root.Certificate())
	return w
}

// gateway returns the self-test of one instance.
func (w *world) gateway(own *ca.Credential) *selftest.SelfTest {
	cfg := selftest.Config{
		Host: host, Routers: []string{w.router.Addr()}, Address: func(string) string { return w.router.Addr() }, Key: w.key,
		Certificate: func() string { return "" }, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(), Now: w.clock.Now,
		Dial: func(address string, withCertificate bool) http.RoundTripper {
			to := leg3.Config{Address: func(string) string { return address }, Roots: w.roots, HeaderTimeout: time.Minute}
			if withCertificate {
				pair := own.TLS()
				to.Certificate = func() *tls.Certificate { return &pair }
			}
			return leg3.NewOneShot(to)
		},
	}
	if own != nil {
		cfg.Certificate = own.XFCC
	}
	s, err := selftest.New(cfg)
	require.NoError(w.t, err)
	return s
}

// serve maps an instance to the gateway's route.
func (w *world) serve(handler http.Handler) {
	server := httptest.NewServer(handler)
	w.t.Cleanup(server.Close)
	require.NoError(w.t, w.router.Register(host, server.URL))
}

func TestASanitizingRouterIsProven(t *testing.T) {
	w := newWorld(t, router.SanitizeSet)
	s := w.gateway(w.own)
	w.serve(s)
	assert.NoError(t, s.Trust(t.Context(), "any.apps.identity"))
	assert.Empty(t, s.Findings())
}

func TestXFCCSetByTheClientIsNoticed(t *testing.T) {
	for _, mode := range []router.ForwardedClientCert{router.Forward, router.AlwaysForward} {
		w := newWorld(t, mode)
		s := w.gateway(w.own)
		w.serve(s)
		assert.ErrorContains(t, s.Trust(t.Context(), "any.apps.identity"), "sanitize_set", mode)
		assert.Len(t, s.Findings(), 1)
	}
}

func TestAnyInstanceOfTheGatewayCanAnswer(t *testing.T) {
	w := newWorld(t, router.SanitizeSet)
	w.serve(w.gateway(w.own))
	assert.NoError(t, w.gateway(w.own).Trust(t.Context(), "any.apps.identity"))
}

func TestWithoutACertificateOfItsOwnNothingIsProven(t *testing.T) {
	w := newWorld(t, router.SanitizeSet)
	s := w.gateway(nil)
	w.serve(s)
	assert.ErrorContains(t, s.Trust(t.Context(), "any.apps.identity"), "CF_INSTANCE_CERT")
}

func TestForeignAnswersProveNothing(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"an app": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) },
		"a guessed answer": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"seen":"nothing","mac":"AAAA"}`))
		},
		"an error": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
	} {
		w := newWorld(t, router.SanitizeSet)
		w.serve(answer)
		assert.ErrorContains(t, w.gateway(w.own).Trust(t.Context(), "any.apps.identity"), "no answer of the gateway", name)
	}
}

func TestAGatewayWithAnotherKeyDoesNotAnswer(t *testing.T) {
	w := newWorld(t, router.SanitizeSet)
	other := newWorld(t, router.SanitizeSet)
	other.key = []byte("another key of 1")
	w.serve(other.gateway(other.own))
	assert.Error(t, w.gateway(w.own).Trust(t.Context(), "any.apps.identity"))
}

func TestAProofStandsForFiveMinutesWhenProbesFail(t *testing.T) {
	w := newWorld(t, router.SanitizeSet)
	s := w.gateway(w.own)
	w.serve(s)
	require.NoError(t, s.Trust(t.Context(), "x"))
	require.NoError(t, w.router.Close())
	w.clock.advance(4 * time.Minute)
	assert.NoError(t, s.Trust(t.Context(), "x"))
	w.clock.advance(2 * time.Minute)
	assert.ErrorContains(t, s.Trust(t.Context(), "x"), "the last proof")
}

func TestAnUnprovenRouterIsProbedAgainByRequests(t *testing.T) {
	w := newWorld(t, router.SanitizeSet)
	s := w.gateway(w.own)
	require.Error(t, s.Trust(t.Context(), "x"), "the route is not mapped yet")
	w.serve(s)
	w.clock.advance(3 * time.Second)
	assert.Eventually(t, func() bool { return s.Trust(t.Context(), "x") == nil }, 10*time.Second, time.Millisecond)
}

func TestProbesAreAnsweredOnceAndForThirtySeconds(t *testing.T) {
	w := newWorld(t, router.SanitizeSet)
	s := w.gateway(w.own)
	var nonce string
	w.serve(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { nonce = r.Header.Get("X-Mtls-Authz-Probe") }))
	require.Error(t, s.Trust(t.Context(), "x"))
	require.NotEmpty(t, nonce)

	ask := func(nonce string) int {
		request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, selftest.Path, nil)
		request.Header.Set("X-Mtls-Authz-Probe", nonce)
		answer := httptest.NewRecorder()
		s.ServeHTTP(answer, request)
		return answer.Code
	}
	assert.Equal(t, http.StatusNotFound, ask(""))
	assert.Equal(t, http.StatusNotFound, ask("AAAA.BBBB"))
	assert.Equal(t, http.StatusNotFound, ask(strings.ToUpper(nonce)))
	assert.Equal(t, http.StatusOK, ask(nonce))
	assert.Equal(t, http.StatusNotFound, ask(nonce), "replayed")

	other := w.gateway(w.own) // has not seen the nonce
	w.clock.advance(31 * time.Second)
	answer := httptest.NewRecorder()
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, selftest.Path, nil)
	request.Header.Set("X-Mtls-Authz-Probe", nonce)
	other.ServeHTTP(answer, request)
	assert.Equal(t, http.StatusNotFound, answer.Code, "too old")
}

func TestRunEndsWithItsContext(t *testing.T) {
	w := newWorld(t, router.SanitizeSet)
	s := w.gateway(w.own)
	w.serve(s)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); s.Run(ctx) }()
	require.Eventually(t, func() bool { return len(s.Findings()) == 0 }, 10*time.Second, time.Millisecond)
	cancel()
	<-ended
}

package selftest_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/gateway/leg3"
	"github.com/mtls-authz/mtls-authz/gateway/selftest"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/route"
	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/playground"
	"github.com/mtls-authz/mtls-authz/playground/ca"
	"github.com/mtls-authz/mtls-authz/playground/router"
	"github.com/mtls-authz/mtls-authz/store"
)

const (
	own     = "mtls-authz.apps.identity"
	backend = "backend.apps.identity"
	// patience is how long an awaited condition may take.
	patience = time.Minute
)

// clock is a clock that tests set.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.now }

func (c *clock) advance(d time.Duration) { c.mu.Lock(); defer c.mu.Unlock(); c.now = c.now.Add(d) }

// log keeps what was logged.
type log struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *log) Write(b []byte) (int, error) { l.mu.Lock(); defer l.mu.Unlock(); return l.text.Write(b) }

func (l *log) String() string { l.mu.Lock(); defer l.mu.Unlock(); return l.text.String() }

// world is a foundation: routers, a store, and what is bound.
type world struct {
	t           *testing.T
	root        *ca.Authority
	certificate *ca.Credential
	mine        *ca.Credential
	router      playground.Router
	store       *store.Store
	clock       *clock
	key         []byte
	log         *log

	// address is the router's by host; nil: the one router.
	address func(host string) string
	format  func(host string) identity.Format
	blocked atomic.Bool

	mu      sync.Mutex
	bound   map[string]*grants.Access
	answers map[string]http.Handler // by binding; none: the gateways
	probed  map[string]int          // by host
}

func newWorld(t *testing.T, mode router.ForwardedClientCert) *world {
	return newWorldOf(t, router.Config{ForwardedClientCert: mode})
}

func newWorldOf(t *testing.T, cfg router.Config) *world {
	t.Helper()
	root, err := ca.NewRoot("root")
	require.NoError(t, err)
	w := &world{
		t: t, root: root, clock: &clock{now: time.Now()}, key: []byte("0123456789abcdef"), log: &log{},
		bound: map[string]*grants.Access{}, answers: map[string]http.Handler{}, probed: map[string]int{},
	}
	w.certificate, err = root.Server("*.apps.identity", "*.wild.apps.identity", "*.deep.wild.apps.identity", "*.other.identity", "*.strict.identity", "*.envoy.identity")
	require.NoError(t, err)
	w.mine, err = root.Instance(playground.Authz.Identity())
	require.NoError(t, err)
	w.router = w.startRouter(cfg)
	w.store, err = store.Open(t.Context(), store.Config{URL: "sqlite://" + t.TempDir() + "/state.db", Now: w.clock.Now})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, w.store.Close()) })
	return w
}

func (w *world) startRouter(cfg router.Config) playground.Router {
	w.t.Helper()
	cfg.Firewall = func(r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, selftest.Path) && !strings.HasPrefix(r.URL.Path, "/r/") {
			w.mu.Lock()
			w.probed[r.Host]++
			w.mu.Unlock()
			return w.blocked.Load()
		}
		return false
	}
	r, err := playground.NewRouter(playground.Trust{Certificate: w.certificate, ClientCAs: w.root}, cfg)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = r.Close() })
	return r
}

// replaceRouter starts another router in the place of the first.
func (w *world) replaceRouter(mode router.ForwardedClientCert) {
	w.t.Helper()
	require.NoError(w.t, w.router.Close())
	_, port, _ := strings.Cut(w.router.Addr(), ":")
	n, err := strconv.Atoi(port)
	require.NoError(w.t, err)
	w.router = w.startRouter(router.Config{ForwardedClientCert: mode, Port: n})
}

// probes counts the probes that have come to the routers for a host.
func (w *world) probes(host string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.probed[host]
}

// gateway is the self-test of one instance, without its routine.
func (w *world) gateway(options ...func(*selftest.Config)) *selftest.SelfTest {
	w.t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(w.root.Certificate())
	pair := w.mine.TLS()
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	require.NoError(w.t, err)
	pair.Leaf = leaf
	cfg := selftest.Config{
		Host: own, Key: w.key, Log: slog.New(slog.NewTextHandler(w.log, nil)), Metrics: prometheus.NewRegistry(), Now: w.clock.Now, Board: w.store.Board(),
		Router: leg3.Config{
			Address: func(host string) string {
				if w.address != nil {
					return w.address(host)
				}
				return w.router.Addr()
			},
			Roots: roots, HeaderTimeout: time.Minute, Certificate: func() *tls.Certificate { return &pair },
		},
		Format: func(host string) identity.Format {
			if w.format != nil {
				return w.format(host)
			}
			return identity.Raw
		},
		Bound: func(yield func(*grants.Access) bool) {
			w.mu.Lock()
			defer w.mu.Unlock()
			for _, access := range w.bound {
				if !yield(access) {
					return
				}
			}
		},
	}
	for _, option := range options {
		option(&cfg)
	}
	s, err := selftest.New(cfg)
	require.NoError(w.t, err)
	return s
}

// serve maps instances to the gateway's own route, in turn.
func (w *world) serve(s *selftest.SelfTest, routers ...playground.Router) string {
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rest, leg2 := strings.CutPrefix(r.URL.Path, "/r/")
		if !leg2 {
			s.ServeHTTP(rw, r)
			return
		}
		binding, _, _ := strings.Cut(rest, "/")
		w.mu.Lock()
		answer := w.answers[binding]
		w.mu.Unlock()
		if answer != nil {
			answer.ServeHTTP(rw, r)
			return
		}
		to, err := url.Parse(r.Header.Get("X-Cf-Forwarded-Url"))
		if err == nil {
			if probe := s.Probe(binding, r, to); probe != nil {
				probe.ServeHTTP(rw, r)
				return
			}
		}
		rw.Header().Set("X-Mtls-Authz-Decision", "an id")
		rw.WriteHeader(http.StatusForbidden)
		_, _ = rw.Write([]byte(`{"reason":"no_certificate"}`))
	}))
	w.t.Cleanup(server.Close)
	for _, r := range append(routers, w.router) {
		require.NoError(w.t, r.Register(own, server.URL))
	}
	return server.URL
}

// bind binds a route at the broker and in the router; its app answers with status
// 200 unless it has a handler.
func (w *world) bind(name, text string, routers ...playground.Router) *grants.Access {
	w.t.Helper()
	access := w.bindHere(name, text, nil, routers...)
	for _, r := range append(routers, w.router) {
		require.NoError(w.t, r.Bind(text, "https://"+own+"/r/"+name+"/token"))
	}
	return access
}

// bindHere binds a route at the broker only.
func (w *world) bindHere(name, text string, app http.HandlerFunc, routers ...playground.Router) *grants.Access {
	w.t.Helper()
	if app == nil {
		app = func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write([]byte("from the app")) }
	}
	server := httptest.NewServer(app)
	w.t.Cleanup(server.Close)
	for _, r := range append(routers, w.router) {
		require.NoError(w.t, r.Register(text, server.URL))
	}
	parsed, err := route.Parse(text)
	require.NoError(w.t, err)
	access := &grants.Access{Binding: name, Route: parsed}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bound[name] = access
	return access
}

func (w *world) unbind(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.bound, name)
}

// run runs the routine until the test ends.
func (w *world) run(s *selftest.SelfTest) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); s.Run(ctx) }()
	w.t.Cleanup(func() { cancel(); <-ended })
}

// trust is the outcome of Trust in one word of its reason.
func (w *world) trust(s *selftest.SelfTest, bound *grants.Access, host string) error {
	w.t.Helper()
	return s.Trust(w.t.Context(), bound, host)
}

func (w *world) eventually(what string, condition func() bool) {
	w.t.Helper()
	require.Eventually(w.t, condition, patience, 5*time.Millisecond, what)
}

// eventuallyAsTimePasses is eventually, with a minute passing each second: a probe
// that is under way would not be fresh if it passed at each look.
func (w *world) eventuallyAsTimePasses(what string, condition func() bool) {
	w.t.Helper()
	looks := 0
	require.Eventually(w.t, func() bool {
		if looks++; looks%100 == 0 {
			w.clock.advance(time.Minute)
		}
		return condition()
	}, 2*patience, 10*time.Millisecond, what)
}

var errNone = errors.New("none")

func text(err error) string {
	if err == nil {
		err = errNone
	}
	return err.Error()
}

package edge_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/doctor"
	"github.com/mtls-authz/mtls-authz/doctor/edge"
	"github.com/mtls-authz/mtls-authz/gateway/selftest/probe"
	"github.com/mtls-authz/mtls-authz/playground"
	"github.com/mtls-authz/mtls-authz/playground/ca"
	"github.com/mtls-authz/mtls-authz/playground/router"
)

const (
	gatewayHost = "mtls-authz.apps.identity"
	backend     = "backend.apps.identity"
)

// world is a router, with the gateway's route and a bound one.
type world struct {
	*testing.T
	root   *ca.Authority
	router playground.Router
	edge.Config
}

// newWorld starts the playground's router before a gateway that answers as the
// gateway does.
func newWorld(t *testing.T, cfg router.Config) *world {
	w := &world{T: t}
	var err error
	w.root, err = ca.NewRoot("root")
	require.NoError(t, err)
	server, err := w.root.Server("*.apps.identity")
	require.NoError(t, err)
	w.router, err = playground.NewRouter(playground.Trust{Certificate: server, ClientCAs: w.root}, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, w.router.Close()) })
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/r/") {
			w.Header().Set("X-Mtls-Authz-Decision", "d")
			w.WriteHeader(http.StatusForbidden)
		}
		if r.URL.Path == "/healthz" {
			_, _ = w.Write([]byte("ok\n"))
		}
	}))
	t.Cleanup(gateway.Close)
	require.NoError(t, w.router.Register(gatewayHost, gateway.URL))
	require.NoError(t, w.router.Register(backend, gateway.URL))
	require.NoError(t, w.router.Bind(backend, "https://"+gatewayHost+"/r/b/token"))
	w.Config = w.config(w.router.Addr())
	return w
}

// config is for a router at an address.
func (w *world) config(address string) edge.Config {
	roots := x509.NewCertPool()
	roots.AddCert(w.root.Certificate())
	return edge.Config{
		GatewayHost: gatewayHost, Address: func(string) string { return address }, Routers: []string{address}, Roots: roots,
		Routes: []edge.Route{{Binding: "b", Host: backend}}, Port: 8080,
	}
}

// stranger starts something else that answers in the router's place.
func (w *world) stranger(handler http.HandlerFunc) edge.Config {
	server, err := w.root.Server("*.apps.identity")
	require.NoError(w, err)
	s := httptest.NewUnstartedServer(handler)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{server.TLS()}}
	s.StartTLS()
	w.Cleanup(s.Close)
	return w.config(s.Listener.Addr().String())
}

// look has one check look.
func look(t *testing.T, cfg edge.Config, item string) []doctor.Finding {
	t.Helper()
	return lookUntil(t.Context(), t, cfg, item)
}

func lookUntil(ctx context.Context, t *testing.T, cfg edge.Config, item string) []doctor.Finding {
	t.Helper()
	for _, c := range edge.Checks(cfg) {
		if c.Item == item {
			found := doctor.Run(ctx, []doctor.Check{c}, nil, nil).Findings
			require.NotEmpty(t, found)
			return found
		}
	}
	t.Fatalf("no item %q", item)
	return nil
}

// is demands one finding.
func is(t *testing.T, found []doctor.Finding, status, text string) {
	t.Helper()
	require.Len(t, found, 1)
	assert.Equal(t, status, found[0].Status.String(), found[0].Found)
	assert.Contains(t, found[0].Found+" | "+found[0].Fix, text)
}

var all = []string{"security group", "router", "own route", "absolute-form requests", "signature strictness", "router clock"}

func TestASafeRouterIsFoundSafe(t *testing.T) {
	w := newWorld(t, router.Config{StrictSignatureValidation: true})
	for _, item := range all {
		is(t, look(t, w.Config, item), "ok", "")
	}
}

func TestRoutersThatCannotBeReached(t *testing.T) {
	w := newWorld(t, router.Config{})
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	for address, text := range map[string]string{
		closed.Addr().String():         "by a security group, or nobody listens there | a security group must let",
		"255.255.255.255:443":          "by a security group, or nobody listens there | a security group must let", // the network is unreachable
		"router.invalid.:443":          "DNS",
		"no-host-has-this.invalid:443": "resolve",
	} {
		is(t, look(t, w.config(address), "security group"), "fail", text)
		for _, item := range all[1:] {
			is(t, look(t, w.config(address), item), "skipped", "security group")
		}
	}
}

// A firewall answers nothing: the fix is a rule of a security group.
func TestATimeoutIsTheSecurityGroups(t *testing.T) {
	w := newWorld(t, router.Config{})
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	cfg := w.config("10.255.255.1:443")
	cfg.Others = []edge.Endpoint{{Name: "store", Address: "10.255.255.2:5432", Setting: "STORE_URL"}}
	found := lookUntil(ctx, t, cfg, "security group")
	require.Len(t, found, 2)
	assert.Equal(t, []string{"fail", "fail"}, []string{found[0].Status.String(), found[1].Status.String()})
	assert.Contains(t, found[0].Fix, `[{"protocol":"tcp","destination":"10.255.255.1","ports":"443"}]`, "as cf create-security-group reads it")
	assert.Contains(t, found[0].Fix, "restart the app")
	assert.Contains(t, found[1].Fix, `[{"protocol":"tcp","destination":"10.255.255.2","ports":"5432"}]`)
	assert.Contains(t, found[1].Fix, "STORE_URL")
	assert.NotContains(t, found[1].Fix, "ROUTER_ADDRESS", "nothing of the store is the router's")
	assert.Equal(t, "store 10.255.255.2:5432", found[1].About)
}

// A rule takes addresses: cf refuses a name.
func TestARuleOfASecurityGroupNamesAddresses(t *testing.T) {
	w := newWorld(t, router.Config{})
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	_, port, err := net.SplitHostPort(closed.Addr().String())
	require.NoError(t, err)
	found := look(t, w.config("localhost:"+port), "security group")
	assert.Contains(t, found[0].Fix, `"destination":"127.0.0.1","ports":"`+port+`"}`)
	assert.NotContains(t, found[0].Fix, `"localhost"`)
}

// Once TCP connects, no security group is in the way.
func TestWhatTakesConnectionsAndDoesNotTalk(t *testing.T) {
	w := newWorld(t, router.Config{})
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = silent.Close() })
	cfg := w.config(silent.Addr().String())
	is(t, look(t, cfg, "security group"), "ok", "")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	found := lookUntil(ctx, t, cfg, "router")
	is(t, found, "fail", "does not speak TLS, or hangs")
	assert.NotContains(t, found[0].Fix, "security-group")

	for version, name := range map[uint16]string{tls.VersionTLS12: "TLS 1.2", tls.VersionTLS13: "TLS 1.3"} {
		another, err := ca.NewRoot("another")
		require.NoError(t, err)
		own, err := another.Instance(playground.Authz.Identity())
		require.NoError(t, err)
		strict := w.demanding(version)
		pair := own.TLS()
		strict.Certificate = &pair
		is(t, look(t, strict, "router"), "fail", "router.ca_certs")
		assert.NotContains(t, look(t, strict, "router")[0].Fix, "security", name)
	}
}

// demanding is a router that verifies certificates of clients by the world's CA.
func (w *world) demanding(version uint16) edge.Config {
	server, err := w.root.Server("*.apps.identity")
	require.NoError(w, err)
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	pool := x509.NewCertPool()
	pool.AddCert(w.root.Certificate())
	s.TLS = &tls.Config{Certificates: []tls.Certificate{server.TLS()}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: pool, MinVersion: version, MaxVersion: version}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	w.Cleanup(s.Close)
	return w.config(s.Listener.Addr().String())
}

// What is bound from now on goes to GATEWAY_URL, whoever answers there.
func TestTheGatewaysOwnRoute(t *testing.T) {
	w := newWorld(t, router.Config{})
	is(t, look(t, w.Config, "own route"), "ok", "leads to the gateway")
	unmapped := w.Config
	unmapped.GatewayHost = "unmapped.apps.identity"
	is(t, look(t, unmapped, "own route"), "fail", "cf map-route")
	for _, c := range []struct {
		status       int
		body, header string
		text         string
	}{
		{404, "no", "", "cf map-route"},
		{404, "", "unknown_route", "unknown_route"},
		{502, "", "endpoint_failure", "no instance of the gateway answers"},
		{503, "", "no_endpoints", "no instance of the gateway answers"},
		{503, "no policy yet\n", "", "no policy yet"},
		{200, "<html>", "", "somebody else answers"},
		{403, "", "", "somebody else answers"},
		{302, "ok\n", "", "somebody else answers"},
	} {
		cfg := w.stranger(func(w http.ResponseWriter, _ *http.Request) {
			if c.header != "" {
				w.Header().Set("X-Cf-Routererror", c.header)
			}
			w.WriteHeader(c.status)
			_, _ = w.Write([]byte(c.body))
		})
		is(t, look(t, cfg, "own route"), "fail", c.text)
	}
}

func TestWrongCertificatesOfRouters(t *testing.T) {
	w := newWorld(t, router.Config{})
	another, err := ca.NewRoot("another")
	require.NoError(t, err)
	foreign := w.Config
	foreign.Roots = x509.NewCertPool()
	foreign.Roots.AddCert(another.Certificate())
	is(t, look(t, foreign, "router"), "fail", "ROUTER_CA_FILES")

	elsewhere := w.Config
	elsewhere.Routes, elsewhere.GatewayHost = []edge.Route{{Binding: "b", Host: "backend.other.identity"}}, "gateway.other.identity"
	is(t, look(t, elsewhere, "router"), "fail", "not for this host")

	later := w.Config
	later.Now = func() time.Time { return time.Now().AddDate(2, 0, 0) }
	is(t, look(t, later, "router"), "fail", "expired")
	later.Now = func() time.Time { return time.Now().AddDate(1, 0, -7) }
	is(t, look(t, later, "router"), "warn", "renew")

	unread := w.Config
	unread.RootsErr = errors.New("CF_SYSTEM_CERT_PATH: no")
	is(t, look(t, unread, "router"), "fail", "CF_SYSTEM_CERT_PATH")

	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	is(t, look(t, w.config(plain.Listener.Addr().String()), "router"), "fail", "TLS")
}

func TestEachDomainAndRouterIsLookedAtOnce(t *testing.T) {
	w := newWorld(t, router.Config{})
	w.Routes = []edge.Route{
		{"1", "a.apps.identity", ""}, {"2", "b.apps.identity", "/x"}, {"3", "c.iso.apps.identity", ""}, {"4", "*.wild.apps.identity", ""}, {"5", "two.labels", ""}, {"6", "a.two.labels", ""},
	}
	domains := map[string]string{}
	for _, p := range w.Places() {
		domains[p.Domain] = p.Route.Binding
		assert.NotContains(t, p.Route.Host, "*")
	}
	assert.Equal(t, map[string]string{"apps.identity": "1", "iso.apps.identity": "3", "wild.apps.identity": "4", "two.labels": "5"}, domains)
}

func TestNobodyIsAskedForTheDomainsBeyondABound(t *testing.T) {
	w := newWorld(t, router.Config{})
	for i := range 80 {
		w.Routes = append(w.Routes, edge.Route{Binding: "b", Host: "a.d" + string(rune('a'+i%26)) + strings.Repeat("x", i/26) + ".identity"})
	}
	w.Probe = func(context.Context, edge.Place) error { return nil }
	found := look(t, w.Config, "sanitising")
	require.Len(t, found, 65)
	assert.Contains(t, found[64].Found, "17 more")
	assert.Equal(t, "skipped", found[64].Status.String())
}

func TestSanitising(t *testing.T) {
	w := newWorld(t, router.Config{})
	var probed []edge.Place
	good := func(_ context.Context, p edge.Place) error { probed = append(probed, p); return nil }
	bad := func(context.Context, edge.Place) error {
		return fmt.Errorf("the sentinel arrived: %w", probe.ErrSentinel)
	}
	for _, c := range []struct {
		probe   func(context.Context, edge.Place) error
		assumed bool
		status  string
		text    string
	}{
		{good, false, "ok", "stripped"},
		{bad, false, "fail", "the sentinel arrived"},
		{bad, true, "fail", "sanitize_set"},
		{good, true, "warn", "unset ROUTER_TRUST"},
		{nil, true, "warn", "ROUTER_TRUST=assume"},
		{nil, false, "skipped", "no key"},
	} {
		w.Probe, w.Assumed, w.Unproven = c.probe, c.assumed, "no key"
		is(t, look(t, w.Config, "sanitising"), c.status, c.text)
	}
	assert.Equal(t, edge.Place{Domain: "apps.identity", Router: w.router.Addr(), Route: edge.Route{Binding: "b", Host: backend}}, probed[0])
}

// Each outcome of a round has its own remedy, and only one is sanitize_set.
func TestTheRemedyFitsTheOutcome(t *testing.T) {
	w := newWorld(t, router.Config{})
	for _, c := range []struct {
		err  error
		fix  string
		sets bool // sanitize_set
	}{
		{probe.ErrSentinel, "sanitize_set", true},
		{fmt.Errorf("%w (route %q)", probe.ErrNotBound, "x"), "cf bind-route-service", false},
		{probe.ErrUnknownRoute, "cf map-route", false},
		{probe.ErrRefused, "of this release and on this database", false},
		{probe.ErrBusy, "MAX_IN_FLIGHT", false},
		{probe.ErrMismatch, "client_cert_validation", true},
		{probe.ErrNoCertificate, "CF_INSTANCE_CERT", false},
		{fmt.Errorf("%w: %w", probe.ErrUnreachable, &net.DNSError{}), "DNS", false},
		{fmt.Errorf("%w: %w", probe.ErrUnreachable, x509.UnknownAuthorityError{}), "ROUTER_CA_FILES", false},
		{fmt.Errorf("%w: %w", probe.ErrUnreachable, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}), "cf bind-security-group", false},
		{fmt.Errorf("%w: %w", probe.ErrUnreachable, context.DeadlineExceeded), "router's log and load", false},
		{errors.New("something else"), "router's log", false},
	} {
		w.Probe = func(context.Context, edge.Place) error { return c.err }
		found := look(t, w.Config, "sanitising")
		is(t, found, "fail", c.fix)
		assert.Equal(t, c.sets, strings.Contains(found[0].Fix, "sanitize_set"), c.err)
	}
}

// A request line with a scheme and a host must not go around the gateway.
func TestAbsoluteFormRequests(t *testing.T) {
	w := newWorld(t, router.Config{})
	answers := func(status int, header string) edge.Config {
		return w.stranger(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case !strings.HasPrefix(r.RequestURI, "https://"):
				w.Header().Set("X-Mtls-Authz-Decision", "d")
				w.WriteHeader(http.StatusForbidden)
			case header != "":
				w.Header().Set(header, "unknown_route")
				fallthrough
			default:
				w.WriteHeader(status)
			}
		})
	}
	is(t, look(t, answers(400, ""), "absolute-form requests"), "ok", "refused at the edge")
	is(t, look(t, answers(404, "X-Cf-Routererror"), "absolute-form requests"), "ok", "refused at the edge")
	is(t, look(t, answers(400, "X-Mtls-Authz-Decision"), "absolute-form requests"), "ok", "the gateway refuses")
	is(t, look(t, answers(200, "X-Mtls-Authz-Decision"), "absolute-form requests"), "fail", "go around")
	is(t, look(t, answers(200, ""), "absolute-form requests"), "fail", "go around")
	is(t, look(t, answers(404, ""), "absolute-form requests"), "fail", "go around")

	unbound := w.stranger(func(http.ResponseWriter, *http.Request) {})
	is(t, look(t, unbound, "absolute-form requests"), "skipped", "--reconcile")
	w.Routes = nil
	is(t, look(t, w.Config, "absolute-form requests"), "skipped", "no route is bound")
}

func TestSignatureStrictness(t *testing.T) {
	w := newWorld(t, router.Config{})
	is(t, look(t, w.Config, "signature strictness"), "warn", "route_services_strict_signature_validation")
	nowhere := w.Config
	nowhere.GatewayHost = "unmapped.apps.identity"
	is(t, look(t, nowhere, "signature strictness"), "skipped", "unknown_route")
	away := w.stranger(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	is(t, look(t, away, "signature strictness"), "skipped", "502")
	other := w.stranger(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) })
	is(t, look(t, other, "signature strictness"), "warn", "status 400")
}

func TestARouterWithAnotherClock(t *testing.T) {
	w := newWorld(t, router.Config{})
	for skew, status := range map[time.Duration]string{-time.Hour: "fail", 2 * time.Minute: "fail", -15 * time.Second: "warn", 0: "ok"} {
		cfg := w.stranger(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", time.Now().Add(skew).UTC().Format(http.TimeFormat))
		})
		is(t, look(t, cfg, "router clock"), status, "")
	}
	silent := w.stranger(func(w http.ResponseWriter, _ *http.Request) { w.Header()["Date"] = nil })
	is(t, look(t, silent, "router clock"), "skipped", "no Date")
}

func TestARouterThatAnswersNonsense(t *testing.T) {
	w := newWorld(t, router.Config{})
	cfg := w.stranger(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			_, _ = conn.Write([]byte("\x1b[2J not HTTP\r\n\r\n"))
			_ = conn.Close()
		}
	})
	for _, item := range []string{"absolute-form requests", "signature strictness", "router clock"} {
		found := look(t, cfg, item)
		is(t, found, "skipped", "")
		assert.NotContains(t, found[0].Found, "\x1b")
	}
}

func TestRouteIntegrity(t *testing.T) {
	for ports, status := range map[string]string{
		"":                                     "skipped",
		"[]":                                   "skipped",
		"{":                                    "skipped",
		`[{"internal":2222,"external":61002}]`: "skipped",
		`[{"internal":8080,"external_tls_proxy":61001,"internal_tls_proxy":61443},{"internal":2222,"external":61002}]`: "ok",
		`[{"internal":8080,"external":61003,"external_tls_proxy":61001,"internal_tls_proxy":61443}]`:                   "fail",
		`[{"internal":8080,"external":61003}]`: "fail",
		`[{"internal":8080}]`:                  "fail",
		`[{"internal":8080,"external_tls_proxy":61001},{"internal":8080,"external":61003,"external_tls_proxy":61004}]`: "fail",
	} {
		is(t, look(t, edge.Config{GatewayHost: gatewayHost, Address: func(string) string { return "" }, Ports: ports, Port: 8080}, "route integrity"), status, "")
	}
}

func TestInternalLookupSaysWhereToLook(t *testing.T) {
	is(t, look(t, edge.Config{}, "internal lookup"), "skipped", "route_services_internal_lookup_allowlist")
}

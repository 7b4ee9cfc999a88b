package selftest_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/gateway/selftest"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/playground/router"
)

func TestASanitizingRouterIsProven(t *testing.T) {
	t.Parallel()
	w := newWorld(t, router.SanitizeSet)
	s := w.gateway()
	w.serve(s)
	assert.NoError(t, w.trust(s, w.bind("b", backend), backend))
	assert.NoError(t, w.trust(s, w.bind("c", "other.apps.identity"), "other.apps.identity"), "the same domain")
	assert.Zero(t, w.probes("other.apps.identity"))
	assert.Contains(t, w.log.String(), "the domain is trusted")
}

// Whoever only wants to know what is known has nothing probed.
func TestWhatIsProvenIsToldWithoutAProbe(t *testing.T) {
	t.Parallel()
	w := newWorld(t, router.SanitizeSet)
	s := w.gateway()
	w.serve(s)
	bound := w.bind("b", backend)
	require.ErrorContains(t, s.Proven(bound, backend), "not probed yet")
	assert.Zero(t, w.probes(backend))
	require.NoError(t, w.trust(s, bound, backend))
	assert.NoError(t, s.Proven(bound, backend))
}

func TestXFCCSetByTheClientIsNoticed(t *testing.T) {
	t.Parallel()
	for _, mode := range []router.ForwardedClientCert{router.Forward, router.AlwaysForward} {
		w := newWorld(t, mode)
		s := w.gateway()
		w.serve(s)
		bound := w.bind("b", backend)
		assert.ErrorContains(t, w.trust(s, bound, backend), "sanitize_set", mode)
		untrusted, _ := s.Findings()
		require.Len(t, untrusted, 1)
		assert.Contains(t, untrusted[0], "apps.identity through "+w.router.Addr())
		assert.Contains(t, untrusted[0], backend, "where it was seen")
		assert.Equal(t, 1, strings.Count(w.log.String(), "not trusted"))
	}
}

// Each domain has a verdict of its own, behind each router.
func TestADomainsVerdictIsItsOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, router.SanitizeSet)
	unsafe := w.startRouter(router.Config{ForwardedClientCert: router.AlwaysForward})
	w.address = func(host string) string {
		if strings.HasSuffix(host, ".other.identity") || host == "shard.apps.identity" {
			return unsafe.Addr()
		}
		return w.router.Addr()
	}
	s := w.gateway()
	w.serve(s, unsafe)
	good, bad, shard := w.bind("g", backend), w.bind("b", "x.other.identity", unsafe), w.bind("s", "shard.apps.identity", unsafe)
	assert.NoError(t, w.trust(s, good, backend))
	assert.ErrorContains(t, w.trust(s, bad, "x.other.identity"), "sanitize_set")
	assert.ErrorContains(t, w.trust(s, shard, "shard.apps.identity"), "sanitize_set", "the domain of the good one, behind another router")
	assert.NoError(t, w.trust(s, good, backend))
}

func TestRoutesOfAllKindsAreProbed(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, router.Config{Domains: []router.Domain{
		{Pattern: "*.strict.identity", RequireCertificate: true},
		{Pattern: "*.envoy.identity", XFCCFormat: router.Envoy},
		{Pattern: "*.deep.wild.apps.identity", ForwardedClientCert: router.AlwaysForward},
	}})
	w.format = func(host string) identity.Format {
		if strings.HasSuffix(host, ".envoy.identity") {
			return identity.Envoy
		}
		return identity.Raw
	}
	s := w.gateway()
	w.serve(s)
	for name, test := range map[string]struct{ route, host, want string }{
		"a host":                                {backend, backend, "none"},
		"a context path":                        {"x.apps.identity/beta", "x.apps.identity", "none"},
		"a wildcard":                            {"*.wild.apps.identity", "a.wild.apps.identity", "none"},
		"deeper below a wildcard, as unsafe as": {"*.wild.apps.identity", "a.deep.wild.apps.identity", "sanitize_set"},
		"a domain that demands certificates":    {"a.strict.identity", "a.strict.identity", "none"},
		"Envoy's form":                          {"a.envoy.identity", "a.envoy.identity", "none"},
	} {
		t.Run(name, func(t *testing.T) {
			bound := w.bind(strings.ReplaceAll(name, " ", "-"), test.route)
			assert.Contains(t, text(w.trust(s, bound, test.host)), test.want)
		})
	}
	assert.Zero(t, w.probes("a.wild.apps.identity"), "a host that nobody else has is probed in its place")
}

// A router that writes another form than it should is not proven.
func TestTheFormOfTheHeaderMustBeRight(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, router.Config{Domains: []router.Domain{{Pattern: "*.apps.identity", XFCCFormat: router.Envoy}}})
	s := w.gateway()
	w.serve(s)
	assert.ErrorContains(t, w.trust(s, w.bind("b", backend), backend), "XFCC_FORMAT")
}

func TestBeforeAFirstRouteIsBoundTheGatewaysOwnIsProbed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, router.SanitizeSet)
	s := w.gateway()
	w.serve(s)
	w.run(s)
	w.eventually("proven", func() bool { untrusted, _ := s.Findings(); return len(untrusted) == 0 })
	assert.NotZero(t, w.probes(own))
	assert.NoError(t, w.trust(s, w.bindHere("b", backend, nil), backend), "by the proof of its domain")
}

func TestAnyInstanceOfTheGatewayCanAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, router.SanitizeSet)
	w.serve(w.gateway())
	assert.NoError(t, w.trust(w.gateway(), w.bind("b", backend), backend))
}

func TestWithoutACertificateOfItsOwnNothingIsProven(t *testing.T) {
	t.Parallel()
	w := newWorld(t, router.SanitizeSet)
	s := w.gateway(func(c *selftest.Config) { c.Router.Certificate = nil })
	w.serve(s)
	assert.ErrorContains(t, w.trust(s, w.bind("b", backend), backend), "CF_INSTANCE_CERT")
}

func TestAGatewayWithAnotherKeyDoesNotAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, router.SanitizeSet)
	w.serve(w.gateway(func(c *selftest.Config) { c.Key = []byte("another key of 1") }))
	assert.ErrorContains(t, w.trust(w.gateway(), w.bind("b", backend), backend), "a gateway refused the probe")
}

// An app that gets the probe of its own route, because that is not bound in the
// router, may answer what it likes.
func TestForgedAnswersOfAnAppProveNothing(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]http.HandlerFunc{
		"hello": func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write([]byte("hello")) },
		"a guessed answer": func(rw http.ResponseWriter, _ *http.Request) {
			_, _ = rw.Write([]byte(`{"seen":"nothing","mac":"AAAA"}`))
		},
		"an error": func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusInternalServerError) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, router.SanitizeSet)
			s := w.gateway()
			w.serve(s)
			assert.ErrorContains(t, w.trust(s, w.bindHere("b", backend, answer), backend), "not bound in the router")
			_, notes := s.Findings()
			untrusted, _ := s.Findings()
			require.Len(t, notes, 1)
			assert.Contains(t, notes[0], "route "+backend+": not bound in the router")
			assert.Len(t, untrusted, 1, "nothing is proven at all")
		})
	}
}

// On a router that passes on forged certificates, an app relays the probe to where
// the gateway answers, without the sentinel and with what it should see.
func TestAnAppCannotRelayItsProbeToAnotherRoute(t *testing.T) {
	t.Parallel()
	w := newWorld(t, router.AlwaysForward)
	s := w.gateway()
	url := w.serve(s)
	w.bind("honest", "honest.apps.identity")
	relayed := make(chan int, 100)
	relay := func(rw http.ResponseWriter, r *http.Request) {
		var answer []byte
		for _, forwarded := range []string{"https://honest.apps.identity" + r.RequestURI, "https://" + own + r.RequestURI} {
			request, _ := http.NewRequestWithContext(r.Context(), http.MethodGet, url+"/r/honest/token", nil)
			request.Header.Set("X-Cf-Forwarded-Url", forwarded)
			request.Header.Set(identity.Header, w.mine.XFCC())
			res, err := http.DefaultClient.Do(request)
			if err != nil {
				continue
			}
			relayed <- res.StatusCode
			answer, _ = io.ReadAll(res.Body)
			res.Body.Close()
		}
		_, _ = rw.Write(answer)
	}
	bound := w.bindHere("evil", "evil.apps.identity", relay)
	assert.ErrorContains(t, w.trust(s, bound, "evil.apps.identity"), "not bound in the router")
	assert.Equal(t, http.StatusForbidden, <-relayed)
}

// A route that is not bound in the router is reported, and its domain is proven by
// another.
func TestOneUnboundRouteDoesNotMakeItsDomainUnknown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, router.SanitizeSet)
	s := w.gateway()
	w.serve(s)
	w.bind("good", backend)
	w.bindHere("open", "open.apps.identity", nil)
	w.run(s)
	w.eventually("proven", func() bool { untrusted, _ := s.Findings(); return len(untrusted) == 0 })
	assert.NoError(t, w.trust(s, w.bound["open"], "open.apps.identity"))
	w.eventuallyAsTimePasses("reported", func() bool { // the lot falls on it one day
		_, notes := s.Findings()
		return len(notes) == 1 && strings.Contains(notes[0], "route open.apps.identity: not bound in the router")
	})
	require.NoError(t, w.router.Bind("open.apps.identity", "https://"+own+"/r/open/token"))
	w.eventuallyAsTimePasses("mended", func() bool {
		_, notes := s.Findings()
		return len(notes) == 0
	})
	assert.Contains(t, w.log.String(), "the route is bound in the router")
}

// Others may not lift a suspicion: the owner of another route could.
func TestASuspicionIsLiftedWhereItArose(t *testing.T) {
	t.Parallel()
	w := newWorld(t, router.AlwaysForward)
	s := w.gateway()
	w.serve(s)
	bound, friend := w.bind("b", backend), w.bind("f", "friend.apps.identity")
	require.ErrorContains(t, w.trust(s, bound, backend), "sanitize_set")
	// The friend's answers look as they should.
	w.mu.Lock()
	w.answers["f"] = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		to, _ := url.Parse(r.Header.Get("X-Cf-Forwarded-Url"))
		r.Header.Del(identity.Header)
		if len(r.Header["X-Friend"]) == 0 && w.probes("friend.apps.identity")%2 == 0 {
			r.Header.Set(identity.Header, w.mine.XFCC())
		}
		s.Probe("f", r, to).ServeHTTP(rw, r)
	})
	w.mu.Unlock()
	for range 5 {
		before := w.probes(backend)
		w.clock.advance(2 * time.Minute)
		assert.ErrorContains(t, w.trust(s, friend, "friend.apps.identity"), "sanitize_set")
		w.eventuallyAsTimePasses("probed again", func() bool {
			return assert.ErrorContains(t, w.trust(s, friend, "friend.apps.identity"), "sanitize_set") && w.probes(backend) > before
		})
		assert.ErrorContains(t, w.trust(s, friend, "friend.apps.identity"), "sanitize_set")
	}
	assert.Zero(t, w.probes("friend.apps.identity"))
}

func TestTheLastProofStandsForFiveMinutes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, router.SanitizeSet)
	s := w.gateway()
	w.serve(s)
	bound := w.bind("b", backend)
	require.NoError(t, w.trust(s, bound, backend))
	w.blocked.Store(true)
	w.clock.advance(5 * time.Minute)
	assert.NoError(t, w.trust(s, bound, backend))
	w.clock.advance(time.Second)
	assert.Error(t, w.trust(s, bound, backend))
	w.blocked.Store(false)
	assert.Error(t, w.trust(s, bound, backend), "not again at once")
	w.clock.advance(2 * time.Second)
	assert.NoError(t, w.trust(s, bound, backend))
}

func TestASentinelCountsAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, router.SanitizeSet)
	s := w.gateway()
	instance := w.serve(s)
	bound := w.bind("b", backend)
	w.run(s)
	w.eventually("proven", func() bool { return w.trust(s, bound, backend) == nil })
	for _, step := range []struct {
		mode router.ForwardedClientCert
		want string
	}{{router.AlwaysForward, "sanitize_set"}, {router.SanitizeSet, "none"}} {
		w.replaceRouter(step.mode)
		require.NoError(t, w.router.Register(own, instance))
		w.bind("b", backend)
		w.clock.advance(time.Minute)
		w.eventually(string(step.mode), func() bool { return strings.Contains(text(w.trust(s, bound, backend)), step.want) })
	}
}

func TestAFailingDomainIsNotHammered(t *testing.T) {
	t.Parallel()
	w := newWorld(t, router.SanitizeSet)
	s := w.gateway()
	w.serve(s)
	w.blocked.Store(true)
	bound := w.bind("b", backend)
	for range 100 {
		assert.Error(t, w.trust(s, bound, backend))
	}
	assert.Equal(t, 1, w.probes(backend))
	for range 120 { // two minutes of a request each second
		w.clock.advance(time.Second)
		assert.Error(t, w.trust(s, bound, backend))
	}
	assert.Equal(t, 6, w.probes(backend), "after 2, 4, 8, 16, 32 seconds")
}

func TestTheFirstRequestsToADomainWaitForOneProbe(t *testing.T) {
	t.Parallel()
	w := newWorld(t, router.SanitizeSet)
	s := w.gateway()
	w.serve(s)
	bound := w.bind("b", backend)
	var requests sync.WaitGroup
	for range 50 {
		requests.Go(func() { assert.NoError(t, w.trust(s, bound, backend)) })
	}
	requests.Wait()
	assert.Equal(t, 2, w.probes(backend), "without a certificate and with it, once")
}

func TestARequestThatIsGoneWaitsForNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, router.SanitizeSet)
	s := w.gateway()
	w.serve(s)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	bound := w.bind("b", backend)
	err := s.Trust(ctx, bound, backend)
	if err != nil { // the probe may have been as quick
		assert.ErrorContains(t, err, "being probed")
	}
	w.eventually("the probe goes on", func() bool { return w.trust(s, bound, backend) == nil })
}

func TestABusyGatewayIsAskedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, router.SanitizeSet)
	s := w.gateway()
	w.serve(s)
	bound := w.bind("b", backend)
	busy := 0
	w.answers["b"] = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if busy++; busy%3 != 0 {
			rw.Header().Set("X-Mtls-Authz-Decision", "an id")
			rw.WriteHeader(http.StatusServiceUnavailable)
			_, _ = rw.Write([]byte(`{"reason":"overloaded"}`))
			return
		}
		to, _ := url.Parse(r.Header.Get("X-Cf-Forwarded-Url"))
		s.Probe("b", r, to).ServeHTTP(rw, r)
	})
	assert.NoError(t, w.trust(s, bound, backend))
}

func TestProbesAreAnsweredOnceForTheirRouteOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t, router.SanitizeSet)
	s := w.gateway()
	var probe string
	w.serve(s)
	bound := w.bindHere("b", backend, func(_ http.ResponseWriter, r *http.Request) { probe = r.RequestURI })
	require.Error(t, w.trust(s, bound, backend))
	require.NotEmpty(t, probe)
	is := func(method, binding, at string) bool {
		to, err := url.Parse(at)
		require.NoError(t, err)
		return s.Probe(binding, httptest.NewRequestWithContext(t.Context(), method, "/r/b/token", nil), to) != nil
	}
	good := "https://" + backend + probe
	assert.False(t, is("POST", "b", good))
	assert.False(t, is("GET", "c", good), "another binding")
	assert.False(t, is("GET", "", good), "the gateway's own route")
	assert.False(t, is("GET", "b", "https://x.apps.identity"+probe), "another host")
	assert.False(t, is("GET", "b", "https://"+backend+"/beta"+probe), "another path")
	assert.False(t, is("GET", "b", "https://"+backend+strings.Replace(probe, "/.well-known/mtls-authz-probe", "/", 1)))
	assert.False(t, is("GET", "b", "https://"+backend+selftest.Path))
	assert.False(t, is("GET", "b", good+"x"))
	assert.True(t, is("GET", "b", good))
	assert.False(t, is("GET", "b", good), "replayed")
}

func TestWhatIsBoundNoMoreIsForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t, router.SanitizeSet)
	s := w.gateway()
	w.serve(s)
	w.bind("good", backend)
	w.bindHere("open", "x.other.identity", nil)
	w.run(s)
	w.eventually("reported", func() bool { _, notes := s.Findings(); return len(notes) == 2 })
	w.unbind("open")
	w.eventually("forgotten", func() bool { _, notes := s.Findings(); return len(notes) == 0 })
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	w := newWorld(t, router.SanitizeSet)
	registry := prometheus.NewRegistry()
	s := w.gateway(func(c *selftest.Config) { c.Metrics = registry })
	w.serve(s)
	require.NoError(t, w.trust(s, w.bind("b", backend), backend))
	require.Error(t, w.trust(s, w.bindHere("open", "x.other.identity", nil), "x.other.identity"))
	page := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(page, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	var lines []string
	for line := range strings.Lines(page.Body.String()) {
		if !strings.HasPrefix(line, "#") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	assert.Equal(t, []string{
		`mtls_authz_router_domains{trusted="false"} 1`, `mtls_authz_router_domains{trusted="true"} 1`,
		`mtls_authz_router_rounds_total{result="not_bound"} 1`, `mtls_authz_router_rounds_total{result="trusted"} 1`,
		`mtls_authz_router_trusted{domain="apps.identity",router="` + w.router.Addr() + `"} 1`,
		`mtls_authz_router_trusted{domain="other.identity",router="` + w.router.Addr() + `"} 0`, `mtls_authz_router_unbound_routes 1`,
	}, lines)
}

// relayed is what a probe is made to say whose route a developer lets end at an app
// of his own: it hands the probe to the gateway, with what he likes in the place of
// the certificate. He knows his binding's URL, and has signatures of other routes.
func (w *world) relayed(s *selftest.SelfTest, binding, host string, says func(probe *http.Request) string) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		to, _ := url.Parse("https://" + host + r.RequestURI)
		said := says(r)
		r.Header.Del(identity.Header)
		if said != "" {
			r.Header.Set(identity.Header, said)
		}
		if answer := s.Probe(binding, r, to); answer != nil {
			answer.ServeHTTP(rw, r)
			return
		}
		rw.WriteHeader(http.StatusForbidden)
	}
}

// of makes a route one of a space.
func (w *world) of(bound *grants.Access, space byte) *grants.Access {
	w.mu.Lock()
	defer w.mu.Unlock()
	owned := &grants.Access{Binding: bound.Binding, Route: bound.Route, Owner: grants.Owner{Space: identity.GUID{15: space}}}
	w.bound[bound.Binding] = owned
	return owned
}

// Whose app gets the probes of his route can spoil them, or answer never. That must
// not close the routes of everybody in the domain.
func TestNobodyClosesTheRoutesOfOthers(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*world, *selftest.SelfTest) http.HandlerFunc{
		"another certificate": func(w *world, s *selftest.SelfTest) http.HandlerFunc {
			return w.relayed(s, "e", "evil.apps.identity", func(*http.Request) string { return "AAAA" })
		},
		"no end": func(*world, *selftest.SelfTest) http.HandlerFunc {
			return func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, router.SanitizeSet)
			s := w.gateway()
			w.serve(s)
			honest := w.of(w.bind("h", backend), 1)
			evil := w.of(w.bindHere("e", "evil.apps.identity", spoil(w, s)), 2)
			for range 2 {
				w.clock.advance(6 * time.Minute)
				require.Error(t, w.trust(s, evil, "evil.apps.identity"), "his own are closed, and wait")
				assert.NoError(t, w.trust(s, honest, backend))
			}
		})
	}
}

// What any space's routes show of a router that is not safe counts for everybody's,
// also on other instances; each space's are open again by a proof of their own.
func TestASentinelCountsForTheRoutesOfAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t, router.SanitizeSet)
	s, second := w.gateway(), w.gateway()
	instance := w.serve(s)
	w.run(second)
	replace := func(mode router.ForwardedClientCert) {
		w.replaceRouter(mode)
		require.NoError(t, w.router.Register(own, instance))
		w.of(w.bind("h", backend), 1)
	}
	honest := w.of(w.bind("h", backend), 1)
	require.NoError(t, w.trust(s, honest, backend))
	require.NoError(t, w.trust(second, honest, backend))
	replace(router.AlwaysForward)
	require.NoError(t, w.trust(s, honest, backend), "nobody has seen it")
	other := w.of(w.bind("o", "other.apps.identity"), 2)
	require.ErrorContains(t, w.trust(s, other, "other.apps.identity"), "seen on other.apps.identity")
	assert.ErrorContains(t, w.trust(s, honest, backend), "seen on a route of another space")
	w.eventually("the other instance has heard", func() bool { return strings.Contains(w.log.String(), "another instance has seen it") })
	assert.ErrorContains(t, w.trust(second, honest, backend), "sanitize_set")
	replace(router.SanitizeSet)
	w.eventuallyAsTimePasses("open again", func() bool { return w.trust(s, honest, backend) == nil && w.trust(second, honest, backend) == nil })
}

// Where forged certificates do pass, his answers prove nothing to others.
func TestNobodyProvesTheRouterOfOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, router.AlwaysForward)
	s := w.gateway()
	w.serve(s)
	honest, probes := w.of(w.bind("h", backend), 1), 0
	evil := w.of(w.bindHere("e", "evil.apps.identity", w.relayed(s, "e", "evil.apps.identity", func(*http.Request) string {
		if probes++; probes%2 == 1 {
			return ""
		}
		return w.mine.XFCC()
	})), 2)
	require.NoError(t, w.trust(s, evil, "evil.apps.identity"), "the forgery succeeds, for his own")
	assert.ErrorContains(t, w.trust(s, honest, backend), "sanitize_set")
	w.eventuallyAsTimePasses("he forges it again", func() bool { return w.trust(s, evil, "evil.apps.identity") == nil })
	assert.ErrorContains(t, w.trust(s, honest, backend), "sanitize_set")
	assert.ErrorContains(t, w.trust(w.gateway(), honest, backend), "sanitize_set", "nor on another instance")
}

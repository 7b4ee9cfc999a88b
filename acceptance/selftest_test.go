package acceptance_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground"
	"github.com/mtls-authz/mtls-authz/playground/router"
)

const untrustedDomain = "503 router_untrusted"

// anotherRouter starts a router for hosts below a domain, on a port; the gateway's
// own route is on it as well.
func (w *world) anotherRouter(t *testing.T, port int, mode router.ForwardedClientCert, domain string) *router.Router {
	t.Helper()
	certificate, err := w.RouterCA.Server("*."+domain, "*."+playground.Domain, "*.wild."+playground.Domain)
	require.NoError(t, err)
	clients := x509.NewCertPool()
	clients.AddCert(w.Root.Certificate())
	r, err := router.New(router.Config{Port: port, Certificate: certificate.TLS(), ClientCAs: clients, ForwardedClientCert: mode, Secret: secret})
	require.NoError(t, err)
	t.Cleanup(func() { _ = r.Close() })
	require.NoError(t, r.Register(playground.GatewayHost, w.Controller.URL))
	return r
}

// secondGateway starts another instance of the gateway on the same database, and
// returns the world as it is with this instance in the place of the first. The
// router knows the second only if the test says so.
func (w *world) secondGateway(t *testing.T, storeURL string) *world {
	t.Helper()
	dir := t.TempDir()
	own, err := w.Credential(playground.Authz)
	require.NoError(t, err)
	certificate, key, err := own.WriteFiles(filepath.Join(dir, "own"))
	require.NoError(t, err)
	s := serving(t, []string{
		"GATEWAY_URL=https://" + playground.GatewayHost, "BROKER_USERNAME=" + w.Controller.Username, "BROKER_PASSWORD=" + w.Controller.Password,
		"CF_INSTANCE_CERT=" + certificate, "CF_INSTANCE_KEY=" + key, "ROUTER_ADDRESS=" + w.Router.Addr(), "ROUTER_CA_FILES=" + w.RouterCAFile(),
		"STORE_URL=" + storeURL, "POLICY_TIMEOUT=10s",
	})
	foundation, controller := *w.Foundation, *w.Controller
	controller.URL = s.url
	foundation.Controller = &controller
	return &world{Foundation: &foundation, journal: s.journal, credentials: w.credentials, clients: map[string]*http.Client{}}
}

// at is the same app behind another instance of the gateway.
func (p *protected) at(w *world) *protected {
	moved := *p
	moved.world = w
	return &moved
}

// ready is what /readyz says to readers.
func (w *world) ready(t *testing.T) (ready bool, reasons, notes string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.Controller.URL+"/readyz", nil)
	require.NoError(t, err)
	request.SetBasicAuth(w.Controller.Username, w.Controller.Password)
	res, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer res.Body.Close()
	var report struct {
		Ready          bool
		Reasons, Notes []string
	}
	require.NoError(t, json.NewDecoder(res.Body).Decode(&report))
	assert.Equal(t, report.Ready, res.StatusCode == http.StatusOK)
	return report.Ready, strings.Join(report.Reasons, "\n"), strings.Join(report.Notes, "\n")
}

// logged waits for a line of the log with all these words.
func (j *journal) logged(t *testing.T, words ...string) {
	t.Helper()
	j.await(t, fmt.Sprintf("a line with %q", words), func() map[string]any {
		for _, line := range j.lines {
			missing := 0
			for _, word := range words {
				if !strings.Contains(line, word) {
					missing++
				}
			}
			if missing == 0 {
				return map[string]any{}
			}
		}
		return nil
	})
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, patience, 20*time.Millisecond, what)
}

// Two routers: one strips what clients forge, the other passes it on.
func TestOnlyTheDomainBehindAnUnsafeRouterIsRefused(t *testing.T) {
	t.Parallel()
	needsStandIn(t, "two routers")
	port, err := freePort()
	require.NoError(t, err)
	address := "127.0.0.1:" + strconv.Itoa(port)
	w := start(t, setup{port: true, env: []string{"ROUTER_ADDRESS=*.iso.identity=" + address + ",$router"}})
	unsafe := w.anotherRouter(t, port, router.AlwaysForward, "iso.identity")
	safe := w.protect(t, protection{parameters: `{"allow":["cf:app:$frontend"]}`})
	p := w.protect(t, protection{route: "backend.iso.identity", parameters: `{"allow":["cf:app:$frontend"]}`})
	require.NoError(t, unsafe.Register(p.route, p.app.url))
	require.NoError(t, unsafe.Bind(p.route, p.url))

	safe.call(t, "frontend", "GET", "/").expect(t, "200 allowed")
	p.direct(t, leg2{caller: "frontend"}).expect(t, untrustedDomain)
	safe.call(t, "frontend", "GET", "/").expect(t, "200 allowed")
	w.logged(t, "not trusted", "iso.identity", address, "sanitize_set")
	eventually(t, "/readyz", func() bool {
		ready, reasons, _ := w.ready(t)
		return !ready && strings.Contains(reasons, "router of iso.identity through "+address) && strings.Contains(reasons, "sanitize_set") &&
			!strings.Contains(reasons, "apps.identity")
	})
	metrics := w.metrics(t)
	assert.Contains(t, metrics, `mtls_authz_router_trusted{domain="iso.identity",router="`+address+`"} 0`)
	assert.Contains(t, metrics, `mtls_authz_router_trusted{domain="apps.identity",router="`+w.Router.Addr()+`"} 1`)
	assert.Contains(t, metrics, `mtls_authz_router_rounds_total{result="sentinel"}`)
}

// A rolling restart while probes do not get through: the new instance serves by
// what the old one has proven.
func TestANewInstanceServesByTheProofOfAnother(t *testing.T) {
	t.Parallel()
	needsStandIn(t, "a firewall")
	storeURL, err := newDatabase("")
	require.NoError(t, err)
	var blocked atomic.Bool
	var tried atomic.Int64
	w := start(t, setup{env: []string{"STORE_URL=" + storeURL}, firewall: func(r *http.Request) bool {
		probe := strings.HasSuffix(r.URL.Path, probePath)
		if probe && blocked.Load() {
			tried.Add(1)
		}
		return probe && blocked.Load()
	}})
	p := w.protect(t, protection{parameters: `{"allow":["cf:app:$frontend"]}`})
	p.call(t, "frontend", "GET", "/").expect(t, "200 allowed")
	blocked.Store(true)
	second := w.secondGateway(t, storeURL)
	here := p.at(second)
	eventually(t, "served by the second", func() bool {
		conn, line := here.sendDirect(t, leg2{caller: "frontend"})
		res := readResponse(t, conn, line)
		defer res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
	here.direct(t, leg2{caller: "frontend"}).expect(t, "200 allowed")
	here.direct(t, leg2{caller: "monitoring"}).expect(t, noMatch)
	eventually(t, "the second has tried itself", func() bool { return tried.Load() > 0 })
	// A domain that nobody has proven is not trusted.
	other := w.protect(t, protection{route: "x.wild." + playground.Domain, parameters: `{"allow":["cf:app:$frontend"]}`})
	other.at(second).direct(t, leg2{caller: "frontend"}).expect(t, untrustedDomain)
}

// A router that becomes unsafe: what one instance sees stops all.
func TestAnAlarmStopsEveryInstance(t *testing.T) {
	t.Parallel()
	needsStandIn(t, "a router that is replaced")
	storeURL, err := newDatabase("")
	require.NoError(t, err)
	w := start(t, setup{port: true, env: []string{"STORE_URL=" + storeURL, "ROUTER_ADDRESS=$router"}})
	p := w.protect(t, protection{parameters: `{"allow":["cf:app:$frontend"]}`})
	p.call(t, "frontend", "GET", "/").expect(t, "200 allowed")

	_, portText, _ := strings.Cut(w.Router.Addr(), ":")
	port, err := strconv.Atoi(portText)
	require.NoError(t, err)
	require.NoError(t, w.Router.Close())
	unsafe := w.anotherRouter(t, port, router.AlwaysForward, playground.Domain)
	require.NoError(t, unsafe.Register(p.route, p.app.url))
	require.NoError(t, unsafe.Bind(p.route, p.url))
	second := w.secondGateway(t, storeURL)
	second.logged(t, "not trusted", "apps.identity", "sanitize_set", p.route)
	w.logged(t, "not trusted", "apps.identity", "sanitize_set")
	for _, instance := range []*world{w, second} {
		p.at(instance).direct(t, leg2{caller: "frontend"}).expect(t, untrustedDomain)
		p.at(instance).direct(t, leg2{headers: []string{p.forged()}}).expect(t, untrustedDomain)
	}
}

// The broker was told, the router was not: whoever calls such a route goes around
// the gateway, and people hear of it.
func TestARouteThatIsNotBoundInTheRouterIsReported(t *testing.T) {
	t.Parallel()
	w := start(t, setup{})
	open := w.protect(t, protection{route: "open.wild." + playground.Domain, parameters: `{"allow":["cf:app:$frontend"]}`})
	require.NoError(t, w.Router.Unbind(open.route))
	eventually(t, "a note", func() bool {
		ready, reasons, notes := w.ready(t)
		require.True(t, ready, reasons)
		return strings.Contains(notes, "route "+open.route+": not bound in the router")
	})
	w.logged(t, "not bound in the router", open.route, "cf bind-route-service")
	const around = "do not come to the gateway: not bound in the router since "
	assert.Contains(t, fetch(t, w, open), "requests to the route "+around)
	_, route := v1(t, "GET", w.Controller.URL+"/v1/routes/"+open.route, nil, credentials(w.Controller.Username, w.Controller.Password))
	assert.Contains(t, fmt.Sprint(route["bindings"]), "requests to the route "+around)
	assert.Contains(t, w.metrics(t), "mtls_authz_router_unbound_routes 1")
	open.direct(t, leg2{caller: "frontend"}).expect(t, untrustedDomain)

	// The first request by a route that is bound waits for a proof of its domain.
	bound := w.protect(t, protection{route: "bound.wild." + playground.Domain, parameters: `{"allow":["cf:app:$frontend"]}`})
	eventually(t, "another may be tried soon", func() bool {
		return bound.call(t, "frontend", "GET", "/").outcome() == "200 allowed"
	})
	_, _, notes := w.ready(t)
	assert.Contains(t, notes, open.route)
	assert.NotContains(t, fetch(t, w, bound), around)
}

// The first request to a domain waits, while many others do.
func TestTheFirstRequestsToANewDomainWaitAndPass(t *testing.T) {
	t.Parallel()
	p := start(t, setup{}).protect(t, protection{route: "new.wild." + playground.Domain, parameters: `{"allow":["cf:app:$frontend"]}`})
	outcomes := make(chan string, 10)
	for range cap(outcomes) {
		go func() {
			r, err := playground.Call(context.Background(), p.client("frontend"), http.MethodGet, "https://"+p.route+"/", nil)
			outcome, err := outcomeOf(r, err)
			outcomes <- fmt.Sprint(outcome, err)
		}()
	}
	for range cap(outcomes) {
		assert.Equal(t, "200 allowed<nil>", <-outcomes)
	}
}

// Whoever gets hold of a probe can have it answered once, as what it is, and can
// have nothing else with it.
func TestAStolenProbeOpensNothing(t *testing.T) {
	t.Parallel()
	w := start(t, setup{})
	other := w.protect(t, protection{parameters: `{"allow":["cf:app:$frontend"]}`})
	p := w.protect(t, protection{route: "open.wild." + playground.Domain, parameters: `{"allow":["cf:app:$frontend"]}`})
	require.NoError(t, w.Router.Unbind(p.route))
	eventually(t, "a probe", func() bool { return p.app.probe() != "" })
	stolen := p.app.probe()
	_, word, _ := strings.Cut(stolen, "?")
	const refused = "403 no_certificate"
	other.direct(t, leg2{forwarded: "https://" + other.route + stolen}).expect(t, refused)
	other.direct(t, leg2{forwarded: "https://" + p.route + stolen}).expect(t, "403 route_mismatch")
	p.direct(t, leg2{forwarded: "https://" + p.route + "/?" + word}).expect(t, untrustedDomain)
	p.direct(t, leg2{forwarded: "https://" + p.route + "/x" + stolen}).expect(t, untrustedDomain)
	p.direct(t, leg2{forwarded: "https://" + p.route + stolen, method: "POST"}).expect(t, untrustedDomain)
	p.direct(t, leg2{forwarded: "https://" + p.route + stolen, path: "/r/" + p.bound.GUID + "/guessed"}).expect(t, "403 unknown_binding")
	p.direct(t, leg2{forwarded: "https://" + p.route + stolen, without: []string{signatureHeader}}).expect(t, "400 malformed_request")

	// Now as what it is; another one, should this one have become too old.
	var body []byte
	eventually(t, "an answer", func() bool {
		stolen = p.app.probe()
		conn, line := p.sendDirect(t, leg2{forwarded: "https://" + p.route + stolen, headers: []string{p.forged()}})
		res := readResponse(t, conn, line)
		defer res.Body.Close()
		var err error
		body, err = io.ReadAll(res.Body)
		require.NoError(t, err)
		return res.StatusCode == http.StatusOK
	})
	assert.Regexp(t, `^\{"seen":"certificate [0-9a-f]{64}","mac":"[\w-]{43}"\}\n$`, string(body))
	p.direct(t, leg2{forwarded: "https://" + p.route + stolen}).expect(t, untrustedDomain)
	assert.Zero(t, p.app.count()+other.app.count())
}

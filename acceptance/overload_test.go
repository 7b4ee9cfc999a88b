package acceptance_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground"
	"github.com/mtls-authz/mtls-authz/playground/controller"
)

// A gateway with placesInFlight places before an app that takes appTakes can
// serve capacity requests a second, far less than a processor could.
const (
	placesInFlight = 64
	appTakes       = 50 * time.Millisecond
	capacity       = placesInFlight * int(time.Second/appTakes)
)

// overloaded is such a gateway, one route, and who works with it meanwhile.
type overloaded struct {
	*cloud
	// slow is the route that everybody calls.
	slow bound
}

func newOverloaded(t *testing.T) *overloaded {
	t.Helper()
	dir := t.TempDir()
	storeURL, err := newSQLite(dir)
	require.NoError(t, err)
	places := fmt.Sprint(placesInFlight)
	cluster, err := newCluster(dir, storeURL, 1, "MAX_IN_FLIGHT="+places, "MAX_IN_FLIGHT_PER_ROUTE="+places)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, cluster.close()) })
	o := &overloaded{cloud: cluster.play(t)}
	binding := o.binding(o.created(onlyFrontend))
	binding.Route = "slow-behind-" + o.host // all clusters share the router
	o.slow = o.urlOf(binding, o.is(201)(o.BindRoute(t.Context(), binding, nil)))
	app := newApp(t, func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(appTakes)
		_, _ = w.Write([]byte("from the app"))
	})
	require.NoError(t, o.router.Register(o.slow.Route, app.url))
	t.Cleanup(func() { assert.NoError(t, o.router.Deregister(o.slow.Route, app.url)) })
	return o
}

const shed = "503 overloaded"

// answered is one request of an even stream.
type answered struct {
	sample
	outcome string
}

// offer sends requests at a rate, whether or not those before are answered,
// until it is ended, which returns what became of them. What could not be sent
// in time, because the machine is busy, is not sent.
func (o *overloaded) offer(rate int) (end func() []answered) {
	var mu sync.Mutex
	var all []answered
	due, stop := make(chan time.Time, placesInFlight), make(chan struct{})
	var working sync.WaitGroup
	for range 4 * placesInFlight {
		working.Go(func() {
			calling := caller{o: o}
			defer calling.hangUp()
			for at := range due {
				outcome := calling.ask()
				one := answered{sample{at, time.Since(at)}, outcome}
				mu.Lock()
				all = append(all, one)
				mu.Unlock()
			}
		})
	}
	working.Go(func() {
		defer close(due)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for next := time.Now(); ; {
			select {
			case <-stop:
				return
			case now := <-tick.C:
				for ; next.Before(now); next = next.Add(time.Second / time.Duration(rate)) {
					select {
					case due <- next:
					default:
					}
				}
			}
		}
	})
	return sync.OnceValue(func() []answered { close(stop); working.Wait(); return all })
}

// caller says one request again and again over one connection, at as little cost
// as can be: it shares the machine with the gateway.
type caller struct {
	o       *overloaded
	conn    net.Conn
	answers *bufio.Reader
	request []byte
	signed  time.Time
}

// ask is one request to the slow route.
func (c *caller) ask() string {
	outcome, err := c.try()
	if err != nil {
		c.hangUp()
		return err.Error()
	}
	return outcome
}

func (c *caller) try() (string, error) {
	if err := c.prepare(); err != nil {
		return "", err
	}
	if _, err := c.conn.Write(c.request); err != nil {
		return "", err
	}
	res, err := http.ReadResponse(c.answers, nil)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	switch {
	case err != nil:
		return "", err
	case res.StatusCode == http.StatusOK && string(body) == "from the app":
		return allowed, nil
	case res.StatusCode == http.StatusServiceUnavailable && bytes.Contains(body, []byte(`"reason":"overloaded"`)) && res.Header.Get("Retry-After") != "":
		return shed, nil
	}
	return fmt.Sprintf("%d %v %s", res.StatusCode, res.Header, body), nil
}

// prepare connects, and signs again before the signature is too old.
func (c *caller) prepare() (err error) {
	if c.conn == nil {
		if c.conn, err = net.Dial("tcp", strings.TrimPrefix(c.o.server(0).url, "http://")); err != nil {
			return err
		}
		c.answers = bufio.NewReader(c.conn)
	}
	if time.Since(c.signed) < 20*time.Second {
		return nil
	}
	c.signed = time.Now()
	header, err := sign("https://"+c.o.slow.Route+"/", c.signed)
	if err != nil {
		return err
	}
	header.Set(xfccHeader, c.o.xfcc["frontend"])
	var text bytes.Buffer
	fmt.Fprintf(&text, "GET %s HTTP/1.1\r\nHost: %s\r\n", strings.TrimPrefix(c.o.slow.url, "https://"+c.o.host), c.o.host)
	if err := header.Write(&text); err != nil {
		return err
	}
	text.WriteString("\r\n")
	c.request = text.Bytes()
	return nil
}

func (c *caller) hangUp() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// operate is what an operator does to a gateway that is in trouble. It returns
// how long the slowest took.
func (o *overloaded) operate() (slowest time.Duration) {
	o.t.Helper()
	for _, path := range []string{"/healthz", "/metrics", "/readyz", "/v1/bindings", "/v1/audit"} {
		began := time.Now()
		status, body := o.server(0).ask(o.t, path)
		slowest = max(slowest, time.Since(began))
		assert.Equal(o.t, http.StatusOK, status, "%s: %.200s", path, body)
	}
	return slowest
}

// revoke takes a route's permission back; it returns how long that took.
func (o *overloaded) revoke(b bound) time.Duration {
	o.t.Helper()
	began := time.Now()
	o.is(200)(o.UpdateService(o.t.Context(), b.Service, controller.Change{Parameters: given(onlyMonitoring)}))
	return time.Since(began)
}

// Whoever does not fit is told so at once; whoever fits is served; and who has to
// do something about it is not locked out.
func TestOverloadIsShedAndRevokingSurvivesIt(t *testing.T) {
	t.Parallel()
	o := newOverloaded(t)
	other := o.bound(o.created(onlyFrontend), "")
	o.reaches(other, allowed, noMatch)
	end := o.offer(3 * capacity)
	t.Cleanup(func() { end() }) // also after a failure
	require.NoError(t, until("overload", func() error { return o.counted(shed, 1000) }))
	o.operate()
	o.revoke(other)
	o.is(200)(o.UnbindRoute(t.Context(), o.bound(o.created(onlyFrontend), "").Binding))
	o.operate()
	require.NoError(t, until("goodput", func() error { return o.counted(allowed, 1000) }))
	outcomes := map[string]int{}
	for _, one := range end() {
		outcomes[one.outcome]++
	}
	assert.NotZero(t, outcomes[allowed])
	assert.NotZero(t, outcomes[shed])
	assert.Len(t, outcomes, 2, "%v", outcomes)
	o.reaches(other, noMatch, allowed)
}

// counted returns an error unless the gateway has given so many answers.
func (o *overloaded) counted(outcome string, n float64) error {
	name := `mtls_authz_decisions_total{cache="local",mtls_auth="allowed",reason=""}`
	if outcome == shed {
		name = `mtls_authz_decisions_total{cache="none",mtls_auth="denied",reason="overloaded"}`
	}
	if got := o.server(0).metricOr(o.t, name, 0); got < n {
		return fmt.Errorf("%v of %s", got, outcome)
	}
	return nil
}

// A route whose app is stuck fills its own places and nobody else's.
func TestANoisyRouteDoesNotStarveTheOthers(t *testing.T) {
	t.Parallel()
	const each = 4
	// Half of it for a route; and no probes of the self-test, which need places, too.
	w := start(t, setup{env: []string{fmt.Sprintf("MAX_IN_FLIGHT=%d", 2*each), "ROUTER_TRUST=assume"}})
	held := func() (p *protected, release func()) {
		entered, leave := make(chan struct{}, each), make(chan struct{})
		p = w.protect(t, protection{parameters: `{"allow":["cf:any"]}`, handler: func(_ http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/stuck" {
				entered <- struct{}{}
				<-leave
			}
		}})
		var stuck sync.WaitGroup
		for range each {
			stuck.Go(func() {
				reply, err := playground.Call(t.Context(), p.client("frontend"), http.MethodGet, "https://"+p.host+"/stuck", nil)
				assert.NoError(t, err)
				assert.Equal(t, http.StatusOK, reply.Status)
			})
		}
		release = sync.OnceFunc(func() { close(leave); stuck.Wait() })
		t.Cleanup(release)
		for range each {
			select {
			case <-entered:
			case <-time.After(patience):
				require.Fail(t, "a request did not reach the app")
			}
		}
		return p, release
	}
	noisy, release := held()
	for range 50 {
		noisy.call(t, "frontend", "GET", "/").expect(t, shed)
	}
	quiet := w.protect(t, protection{parameters: `{"allow":["cf:any"]}`})
	for range 50 {
		quiet.call(t, "frontend", "GET", "/").expect(t, "200 allowed")
	}
	// All the places that are left are there for others; then the gateway is full.
	_, releaseOthers := held()
	quiet.call(t, "frontend", "GET", "/").expect(t, shed)
	releaseOthers()
	quiet.call(t, "frontend", "GET", "/").expect(t, "200 allowed")
	release()
	noisy.call(t, "frontend", "GET", "/").expect(t, "200 allowed")
}

// What is offered, what is served, and how soon the rest is told: make
// bench-overload.
func TestOverloadInFigures(t *testing.T) { // alone
	figures(t)
	o := newOverloaded(t)
	const during = 8 * time.Second
	var peak, most float64
	fmt.Printf("| offered/s | goodput/s | shed/s | other | allowed p50, p99 | shed p50, p99 | operators' slowest | revoke |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n")
	for _, tenths := range []int{5, 10, 20, 30} {
		other := o.bound(o.created(onlyFrontend), "")
		end := o.offer(capacity * tenths / 10)
		time.Sleep(2 * time.Second) // connections are made
		from := time.Now()
		var slowest time.Duration
		for time.Since(from) < during/2 {
			slowest = max(slowest, o.operate())
			time.Sleep(100 * time.Millisecond)
		}
		revoke := o.revoke(other)
		time.Sleep(time.Until(from.Add(during)))
		until := time.Now()
		var good, refused []sample
		others := 0
		for _, one := range end() {
			switch {
			case one.due.Before(from) || !one.due.Before(until):
			case one.outcome == allowed:
				good = append(good, one.sample)
			case one.outcome == shed:
				refused = append(refused, one.sample)
			default:
				others++
			}
		}
		took := until.Sub(from).Seconds()
		most = float64(len(good)) / took
		peak = max(peak, most)
		fmt.Printf("| %d (sent %.0f) | %.0f | %.0f | %d | %s | %s | %v | %v |\n", capacity*tenths/10, float64(len(good)+len(refused)+others)/took, most,
			float64(len(refused))/took, others, quantiles(good), quantiles(refused), slowest.Round(time.Millisecond), revoke.Round(time.Millisecond))
	}
	fmt.Printf("goodput at 3x: %.1f %% of the peak; %d places, an app of %s; load average %s\n", 100*most/peak, placesInFlight, appTakes, loadAverage())
}

// quantiles are the middle and the slowest hundredth.
func quantiles(samples []sample) string {
	took := make([]time.Duration, len(samples))
	for i, s := range samples {
		took[i] = s.took
	}
	slices.Sort(took)
	if len(took) == 0 {
		return "-"
	}
	return fmt.Sprint(took[len(took)/2].Round(10*time.Microsecond), ", ", took[len(took)*99/100].Round(10*time.Microsecond))
}

// Package selftest proves that routers strip the certificate header that a
// client sets. For each domain of a space's bound routes, behind each router, it
// sends a sentinel to one of them, without a certificate and with the gateway's
// own, and looks at what arrives at the gateway: a router on which the sentinel
// arrives lets anybody be anybody.
//
// A proof holds for the routes of that space, whose owners could have made it up.
// A sentinel counts for all: a router that strips it leaves nobody to make it up.
//
// It trusts answers under its own MAC, and what other instances have written into
// the store. It fails closed: without a fresh proof a domain is not trusted. It
// proves the paths that its probes took in that minute, not every router.
package selftest

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/singleflight"

	"github.com/mtls-authz/mtls-authz/gateway/leg3"
	"github.com/mtls-authz/mtls-authz/gateway/selftest/place"
	"github.com/mtls-authz/mtls-authz/gateway/selftest/probe"
	"github.com/mtls-authz/mtls-authz/gateway/selftest/shared"
	"github.com/mtls-authz/mtls-authz/gateway/selftest/unbound"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/identity"
)

// Path is where the gateway answers probes of its own route.
const Path = probe.Path

const (
	// probeTimeout bounds the probing of one domain, and what a request waits.
	probeTimeout = 3 * time.Second
	// boardTimeout bounds looking for what others have proven.
	boardTimeout = time.Second
	// verdictLife is how long the last verdict stands when probes fail.
	verdictLife = 5 * time.Minute
	// maxBelow bounds the domains deeper below wildcard routes, whose names
	// clients choose, and maxBelowAtOnce how many of them are probed at once.
	maxBelow       = 256
	maxBelowAtOnce = 4
	// maxAskedAtOnce is how many domains are probed at once because of requests.
	maxAskedAtOnce = 32
)

// Config configures [New]. Fields without a default are
// required.
type Config struct {
	// Host is the gateway's own route, which is probed before a route is bound.
	Host string
	// Bound calls yield with every bound route until it returns false.
	Bound func(yield func(*grants.Access) bool)
	// Router is the way through the routers. Probes that come without a certificate
	// leave out the gateway's own; where it has none, nothing can be proven.
	Router leg3.Config
	// Format is the form of the certificate header, by host.
	Format func(host string) identity.Format
	// Key makes the MACs of probes; any instance with it can answer.
	Key []byte
	// Board is where instances tell one another what they found.
	Board shared.Board
	Log   *slog.Logger
	// Metrics gets the state of each domain, and counts of rounds.
	Metrics prometheus.Registerer
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// SelfTest knows which domains' routers are proven, and answers probes. It is safe
// for concurrent use.
type SelfTest struct {
	Config
	prober *probe.Prober
	words  *shared.Words
	flight singleflight.Group
	rounds *prometheus.CounterVec
	// unbound are routes that are not bound in the router.
	unbound *unbound.Routes
	// Turns of probes that requests ask for.
	asked, below chan struct{}

	mu     sync.RWMutex
	index  *place.Index
	states map[place.Place]*state
	// deep are the states of domains deeper below wildcard routes.
	deep *lru.Cache[place.Place, *state]
	// alarms are those on the board, by place of all spaces.
	alarms map[place.Place]time.Time
	// untold are words that are not on the board yet.
	untold map[place.Place]untold
}

// New returns a SelfTest that knows nothing yet.
func New(cfg Config) (*SelfTest, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	prober, err := probe.New(probe.Config{Key: cfg.Key, Router: cfg.Router, Format: cfg.Format, Now: cfg.Now})
	if err != nil {
		return nil, err
	}
	deep, err := lru.New[place.Place, *state](maxBelow)
	if err != nil {
		return nil, err
	}
	t := &SelfTest{
		Config: cfg, prober: prober, words: shared.New(cfg.Board, cfg.Now), deep: deep,
		asked: make(chan struct{}, maxAskedAtOnce), below: make(chan struct{}, maxBelowAtOnce),
		index: place.NewIndex(cfg.Router.Address), states: map[place.Place]*state{}, unbound: unbound.New(cfg.Log, cfg.Now), untold: map[place.Place]untold{}, alarms: map[place.Place]time.Time{},
		rounds: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mtls_authz_router_rounds_total", Help: "Rounds of the self-test through routers, by what came of them.",
		}, []string{"result"}),
	}
	cfg.Metrics.MustRegister(t.rounds, collector{t})
	return t, nil
}

// Probe returns what answers a request for a URL of a binding's route, if that is
// a probe; nil: the request is like any other. It spends the probe's nonce.
func (t *SelfTest) Probe(binding string, r *http.Request, to *url.URL) http.Handler {
	return t.prober.Answer(binding, r, to)
}

// ServeHTTP answers probes of the gateway's own route.
func (t *SelfTest) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	to := *r.URL
	to.Host = r.Host
	if answer := t.Probe("", r, &to); answer != nil {
		answer.ServeHTTP(w, r)
		return
	}
	http.NotFound(w, r)
}

// Trust returns why the router of a host of a bound route is not proven, nil if
// it is. Where there is no verdict on its domain, the request has it probed, and
// waits three seconds at most; where the router passes on forged certificates it
// is probed again, and nobody waits for that. Where probing keeps failing, it is
// tried at longer and longer intervals.
func (t *SelfTest) Trust(ctx context.Context, bound *grants.Access, host string) error {
	if t.Proven(bound, host) == nil {
		return nil
	}
	return t.demand(ctx, place.Of(bound.Owner.Space, host, t.Router.Address), bound, host)
}

// Proven returns what Trust would, from what is known already: it has nothing
// probed.
func (t *SelfTest) Proven(bound *grants.Access, host string) error {
	return t.refusal(t.verdict(place.Of(bound.Owner.Space, host, t.Router.Address)))
}

// demand has a place probed on behalf of a request.
func (t *SelfTest) demand(ctx context.Context, p place.Place, bound *grants.Access, host string) error {
	below := place.IsBelow(bound, host)
	s := t.stateOf(p, below)
	waiting, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	// A probe that is under way already may be of a route that is not bound in the
	// router yet; this one is, since the request came by it.
	for range 2 {
		mine, done := false, (<-chan singleflight.Result)(nil)
		if !t.isDue(s) {
			break
		}
		done = t.flight.DoChan(p.String(), func() (any, error) {
			mine = true
			target := place.TargetFor(bound, host, t.Router.Address)
			t.judge(context.WithoutCancel(ctx), s, request{target: &target, below: below})
			return nil, nil
		})
		if v := t.verdict(p); t.stands(v) && !v.trusted {
			return v.reason
		}
		select {
		case <-done:
		case <-waiting.Done():
			return errProbing
		}
		if v := t.verdict(p); mine || t.stands(v) && v.trusted {
			break
		}
	}
	return t.refusal(t.verdict(p))
}

// isDue reports whether a request may have a place probed, or wait for it.
func (t *SelfTest) isDue(s *state) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return !t.Now().Before(s.onDemand.next)
}

// verdict is the last one on a place.
func (t *SelfTest) verdict(p place.Place) verdict {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if s := t.states[p]; s != nil {
		return s.verdict
	}
	if s, ok := t.deep.Get(p); ok {
		return s.verdict
	}
	return verdict{}
}

// stateOf is the state of a place, made if need be.
func (t *SelfTest) stateOf(p place.Place, below bool) *state {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.states[p]; s != nil {
		return s
	}
	if s, ok := t.deep.Get(p); ok {
		return s
	}
	s := &state{place: p}
	if below {
		t.deep.Add(p, s)
	} else {
		t.states[p] = s
	}
	return s
}

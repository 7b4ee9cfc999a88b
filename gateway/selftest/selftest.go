// Package selftest proves that routers strip the certificate header that a
// client sets. It sends a sentinel through each router to the gateway's own
// route, without a certificate and with the gateway's own, and looks at what
// arrives: a router on which the sentinel arrives lets anybody be anybody.
//
// It trusts only answers under its own MAC. It fails closed: without a fresh
// proof a router is not trusted.
package selftest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/singleflight"

	"github.com/mtls-authz/mtls-authz/identity"
)

// Path is where the gateway answers its own probes.
const Path = "/.well-known/mtls-authz-probe"

// header carries the nonce of a probe.
const header = "X-Mtls-Authz-Probe"

const (
	probeInterval = time.Minute
	probeTimeout  = 3 * time.Second
	nonceLife     = 30 * time.Second
	// retryInterval is how soon a request may cause another probe of a router
	// that is not proven.
	retryInterval = 2 * time.Second
	// verdictLife is how long the last verdict stands when probes fail.
	verdictLife = 5 * time.Minute
)

// Config configures [New]. Fields without a default are
// required.
type Config struct {
	// Host is the gateway's own route.
	Host string
	// Routers are the addresses of all routers, Address is the one of a host.
	Routers []string
	Address func(host string) string
	// Key makes the MACs of probes; any instance with it can answer.
	Key []byte
	// Certificate is the gateway's own in the certificate header's form, ""
	// where it has none.
	Certificate func() string
	// Dial returns what sends a request to the router at an address, with or
	// without the gateway's own certificate.
	Dial func(address string, withCertificate bool) http.RoundTripper
	Log  *slog.Logger
	// Metrics gets the state of each router.
	Metrics prometheus.Registerer
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// SelfTest knows which routers are proven, and answers probes. It is safe for
// concurrent use.
type SelfTest struct {
	Config
	seen   *lru.Cache[string, time.Time]
	flight singleflight.Group
	state  *prometheus.GaugeVec

	mu       sync.Mutex
	verdicts map[string]verdict
}

// verdict is what is known of one router. The zero verdict is "nothing".
type verdict struct {
	at      time.Time
	trusted bool
	reason  error
}

// New returns a SelfTest that knows nothing yet.
func New(cfg Config) (*SelfTest, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	seen, err := lru.New[string, time.Time](10_000)
	if err != nil {
		return nil, err
	}
	state := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "mtls_authz_router_trusted", Help: "1: proven to strip forged certificates; 0: not.",
	}, []string{"router"})
	cfg.Metrics.MustRegister(state)
	return &SelfTest{Config: cfg, seen: seen, state: state, verdicts: map[string]verdict{}}, nil
}

// Run probes every router at once and then every minute until ctx ends.
func (t *SelfTest) Run(ctx context.Context) {
	ticker := time.NewTicker(probeInterval)
	defer ticker.Stop()
	for {
		for _, address := range t.Routers {
			<-t.judge(ctx, address)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// Trust returns why the router of a host is not proven, nil if it is. Where no
// probe has come to a verdict it waits for one, at most three seconds; a router
// that passes on forged certificates is probed again, and nobody waits for that.
func (t *SelfTest) Trust(ctx context.Context, host string) error {
	address := t.Address(host)
	v := t.verdict(address)
	if due := t.Now().Sub(v.at) > retryInterval; due && !v.trusted {
		next := t.judge(ctx, address)
		if !errors.Is(v.reason, errSentinel) {
			v = (<-next).Val.(verdict)
		}
	}
	if !v.trusted {
		return v.reason
	}
	if t.Now().Sub(v.at) > verdictLife {
		return fmt.Errorf("the last proof is from %s", v.at.UTC().Format(time.RFC3339))
	}
	return nil
}

// Findings are the routers that are not proven, by address.
func (t *SelfTest) Findings() map[string]error {
	findings := map[string]error{}
	for _, address := range t.Routers {
		if v := t.verdict(address); v.at.IsZero() {
			findings[address] = errors.New("not probed yet")
		} else if !v.trusted {
			findings[address] = v.reason
		}
	}
	return findings
}

func (t *SelfTest) verdict(address string) verdict {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.verdicts[address]
}

// errSentinel: the router let a client set the certificate header.
var errSentinel = errors.New("the router passes on the client's own " + identity.Header + "; set router.forwarded_client_cert: sanitize_set")

// judge probes one router, once at a time, and keeps the verdict. The probe goes
// on when its first asker has gone, and ends by itself.
func (t *SelfTest) judge(ctx context.Context, address string) <-chan singleflight.Result {
	return t.flight.DoChan(address, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeTimeout)
		defer cancel()
		return t.conclude(address, t.round(ctx, address)), nil
	})
}

// conclude: a sentinel that arrived counts at once; a complete round is a
// proof; anything else leaves the last proof standing until it is too old.
func (t *SelfTest) conclude(address string, err error) verdict {
	t.mu.Lock()
	former := t.verdicts[address]
	next := verdict{at: t.Now(), trusted: err == nil, reason: err}
	if err != nil && !errors.Is(err, errSentinel) && former.trusted && t.Now().Sub(former.at) <= verdictLife {
		next = former
	}
	t.verdicts[address] = next
	t.mu.Unlock()
	t.state.WithLabelValues(address).Set(map[bool]float64{true: 1}[next.trusted])
	if former.trusted != next.trusted || former.at.IsZero() {
		t.Log.Info("router self-test", slog.String("router", address), slog.Bool("trusted", next.trusted), slog.Any("reason", next.reason))
	}
	return next
}

// round is one complete round through a router.
func (t *SelfTest) round(ctx context.Context, address string) error {
	bare, err := t.probe(ctx, address, false)
	if err != nil {
		return err
	}
	if bare != seenNothing {
		return fmt.Errorf("without a certificate the gateway saw %s instead of nothing", bare)
	}
	own := t.Certificate()
	if own == "" {
		return errors.New("the gateway has no certificate of its own to probe with (CF_INSTANCE_CERT, CF_INSTANCE_KEY); run it where it has, or set ROUTER_TRUST=assume if the routers are known to be on sanitize_set")
	}
	mine, err := t.probe(ctx, address, true)
	if err != nil {
		return err
	}
	if mine != seenCertificate(own) {
		return fmt.Errorf("the gateway's own certificate did not come back: it saw %s; the router must request client certificates and set the header (router.client_cert_validation, sanitize_set)", mine)
	}
	return nil
}

package candidate

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/rego"
)

// Defaults of [Config].
const (
	DefaultShare = 0.1
	DefaultRate  = 200
)

const (
	// queued is how many decisions wait at most.
	queued = 256
	// idleFor is how many times as long as an evaluation took none is made
	// after it: evaluating takes at most a twentieth of one processor.
	idleFor = 19
	// logInterval is how often differences are logged.
	logInterval = time.Minute
	// maxLives bounds the grants of routes that are remembered with the
	// candidate's operator's grants in them.
	maxLives = 20_000
)

// Config configures [New]. Fields without a default are required.
type Config struct {
	// Policy returns the candidate; nil: there is none yet.
	Policy func() *rego.Policy
	// Share is the share of decisions to evaluate, above 0 and at most 1; 0 means
	// DefaultShare.
	Share float64
	// Rate is how many evaluations a second there are at most; 0 means DefaultRate.
	Rate int
	// Log gets the differences: one line a minute for each route, kind and reason.
	Log *slog.Logger
	// Metrics gets the collectors.
	Metrics prometheus.Registerer
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// A Candidate compares a second policy with the one in force. Create it with
// [New]; it is safe for concurrent use.
type Candidate struct {
	cfg   Config
	queue chan observed

	mu    sync.Mutex
	tally *tally

	// lives belong to the goroutine of Run: the grants of routes with the
	// candidate's operator's in them.
	lives     map[*grants.Live]*grants.Live
	livesSize int

	decisions *prometheus.CounterVec
	dropped   prometheus.Counter
	// droppedNow are those dropped since the report began.
	droppedNow atomic.Uint64
}

// observed is one decision of the policy in force.
type observed struct {
	id       string
	request  *rego.Request
	decision rego.Decision
}

// New returns a candidate that evaluates while [Candidate.Run] runs.
func New(cfg Config) (*Candidate, error) {
	if cfg.Share == 0 {
		cfg.Share = DefaultShare
	}
	if !(cfg.Share > 0 && cfg.Share <= 1) { // NaN too
		return nil, fmt.Errorf("share %v: expected a number above 0 and at most 1", cfg.Share)
	}
	if cfg.Rate == 0 {
		cfg.Rate = DefaultRate
	}
	if cfg.Rate < 0 || cfg.Rate > int(time.Second) {
		return nil, fmt.Errorf("rate %d: expected a number of evaluations a second", cfg.Rate)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	c := &Candidate{
		cfg: cfg, queue: make(chan observed, queued), tally: newTally(nil, nil, time.Time{}),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mtls_authz_candidate_decisions_total", Help: "Decisions that the candidate policy was evaluated on, by what it would change.",
		}, []string{"result"}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "mtls_authz_candidate_dropped_total", Help: "Decisions chosen for the candidate policy that it had no time for.",
		}),
	}
	cfg.Metrics.MustRegister(c.decisions, c.dropped)
	for _, result := range []string{"same", "would_allow", "would_deny", "other"} {
		c.decisions.WithLabelValues(result)
	}
	return c, nil
}

// Observe hands over a decision of the policy in force. It never waits. The
// request must not change any more.
func (c *Candidate) Observe(id string, r *rego.Request, d rego.Decision) {
	if c.cfg.Share < 1 && rand.Float64() >= c.cfg.Share { //nolint:gosec // a sample, not a secret
		return
	}
	select {
	case c.queue <- observed{id, r, d}:
	default:
		c.dropped.Inc()
		c.droppedNow.Add(1) // no lock: a report may be in the making
	}
}

// Run evaluates until ctx ends, and logs what it has not yet logged.
func (c *Candidate) Run(ctx context.Context) {
	minute := time.NewTicker(logInterval)
	defer minute.Stop()
	defer c.log()
	// pause is nil, which never fires, while the next evaluation may begin.
	var pause <-chan time.Time
	for {
		queue := c.queue
		if pause != nil {
			queue = nil
		}
		select {
		case <-ctx.Done():
			return
		case <-minute.C:
			c.log()
		case <-pause:
			pause = nil
		case o := <-queue:
			began := time.Now()
			if c.compare(ctx, o) {
				took := time.Since(began)
				pause = time.After(max(time.Second/time.Duration(c.cfg.Rate)-took, idleFor*took))
			}
		}
	}
}

// compare evaluates the candidate on one decision; false: there was nothing to
// evaluate.
func (c *Candidate) compare(ctx context.Context, o observed) bool {
	policy := c.cfg.Policy()
	if policy == nil || !c.begin(o, policy) {
		return false
	}
	active := rego.Confirm(o.decision, o.request)
	decision, err := c.evaluate(ctx, o.request, policy)
	if ctx.Err() != nil {
		return false
	}
	kind := compare(active, decision)
	c.decisions.WithLabelValues(kind.result()).Inc()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tally.note(difference{observed: o, kind: kind, active: active, candidate: decision, at: c.cfg.Now()}, err)
	return true
}

// begin starts the report anew if one of the two policies is another. A
// decision of the former policy that was under way then is not compared.
func (c *Candidate) begin(o observed, policy *rego.Policy) bool {
	if c.tally.compares(policy) {
		if c.tally.active.Digest() == o.request.Policy.Digest() {
			return true
		}
		if o.request.Now.Before(c.tally.since) {
			return false
		}
	}
	c.log()
	c.lives, c.livesSize = map[*grants.Live]*grants.Live{}, 0
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tally.candidate != nil {
		c.droppedNow.Store(0)
	}
	c.tally = newTally(o.request.Policy, policy, c.cfg.Now())
	return true
}

// evaluate is what the gateway would decide under the candidate.
func (c *Candidate) evaluate(ctx context.Context, r *rego.Request, policy *rego.Policy) (decision rego.Decision, err error) {
	defer func() {
		if v := recover(); v != nil {
			decision, err = rego.Decision{Policy: "gateway:policy_error", Reason: "policy_error"}, fmt.Errorf("%w: panic: %v", rego.ErrPolicy, v)
		}
	}()
	return rego.Answer(ctx, c.under(r, policy))
}

// under gives the request the candidate's operator's grants. To make them is
// much more than to evaluate them, so that those of routes are remembered.
func (c *Candidate) under(r *rego.Request, policy *rego.Policy) *rego.Request {
	live := c.lives[r.Live]
	if live != nil && (live.Until.IsZero() || r.Now.Before(live.Until)) {
		under := *r
		under.Policy, under.Live = policy, live
		return &under
	}
	under := r.Under(policy)
	if under.Live == r.Live {
		return under
	}
	if c.livesSize += len(r.Live.Rules) + len(under.Live.Rules) + 1; c.livesSize > maxLives {
		c.lives, c.livesSize = map[*grants.Live]*grants.Live{}, 0
	}
	c.lives[r.Live] = under.Live
	return under
}

// log writes the differences since the last time.
func (c *Candidate) log() {
	c.mu.Lock()
	lines := c.tally.takeLines()
	c.mu.Unlock()
	for _, line := range lines {
		c.cfg.Log.LogAttrs(context.Background(), slog.LevelInfo, "policy candidate", line...)
	}
}

// Report tells what the candidate would change, so far.
func (c *Candidate) Report() Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.tally.report()
	r.Dropped = c.droppedNow.Load()
	return r
}

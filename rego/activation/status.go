package activation

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mtls-authz/mtls-authz/rego"
	"github.com/mtls-authz/mtls-authz/rego/bundle"
)

// Origin is where the policy in force was read from.
type Origin string

// The origins.
const (
	FromBuiltIn Origin = "built-in"
	FromSource  Origin = "source"
	// FromSaved: the source was away, and the last good bundle serves.
	FromSaved Origin = "saved"
)

// A Status is the policy in force and what became of the last attempt to
// replace it, for people.
type Status struct {
	// Source is where the bundle comes from, without anything secret.
	Source string `json:"source"`
	// Revision is the digest in the decision line, "" as long as no policy is
	// in force; BundleRevision is what .manifest says.
	Revision       string    `json:"revision,omitempty"`
	BundleRevision string    `json:"bundle_revision,omitempty"`
	From           Origin    `json:"from,omitempty"`
	Activated      time.Time `json:"activated,omitzero"`
	Checks         []string  `json:"checks,omitempty"`
	// Reachable: the source could be read the last time, at LastAttempt.
	Reachable   bool      `json:"reachable"`
	LastAttempt time.Time `json:"last_attempt,omitzero"`
	// Error is why what the source has is not in force, "" if it is; Findings
	// are its parts, if a bundle was refused.
	Error    string           `json:"error,omitempty"`
	Findings []bundle.Finding `json:"findings,omitempty"`
}

// Status returns what is in force and what is not.
func (f *Follower) Status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	status := f.status
	status.Checks, status.Findings = slices.Clone(status.Checks), slices.Clone(status.Findings)
	return status
}

// change changes the status and reports whether its error changed.
func (f *Follower) change(set func(*Status)) (changed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := f.status.Error
	set(&f.status)
	return before != f.status.Error
}

// inForce swaps the policy; it is the only place that does. Whoever sees the new
// policy sees its status, too: they change together.
func (f *Follower) inForce(policy *rego.Policy, b *bundle.Bundle, from Origin) {
	now := time.Now()
	var same bool
	changed := f.change(func(s *Status) {
		same = f.policy.Swap(policy) == policy
		s.Revision, s.BundleRevision, s.From, s.Checks = policy.Revision(), b.Revision, from, policy.Checks()
		if !same {
			s.Activated = now
		}
		if from != FromSaved { // what is wrong with the source still is
			s.Error, s.Findings, s.Reachable, s.LastAttempt = "", nil, true, now
			f.metrics.attempted(activated)
		}
	})
	if same && !changed {
		return
	}
	f.metrics.activations.WithLabelValues(activated).Inc()
	if !same { // a source that is back has the policy of before
		f.metrics.last.Set(float64(now.Unix()))
	}
	f.log.LogAttrs(context.Background(), slog.LevelInfo, "policy: in force", slog.String("policy_revision", policy.Revision()),
		slog.String("bundle_revision", b.Revision), slog.String("from", string(from)), slog.Int("checks", len(policy.Checks())))
}

// noteRefusal notes that a bundle is not in force, in one line for each reason.
func (f *Follower) noteRefusal(refusal *bundle.Refusal, from Origin) {
	changed := f.change(func(s *Status) {
		s.LastAttempt = time.Now()
		if from != FromSaved {
			f.metrics.attempted(refused)
		}
		if from == FromSaved && s.Error != "" { // the source's own trouble says more
			return
		}
		s.Error, s.Findings = refusal.Error(), slices.Clone(refusal.Findings)
	})
	f.metrics.activations.WithLabelValues(refused).Inc()
	if changed || from == FromSaved {
		f.log.Error("policy: bundle refused; what was in force stays", slog.String("from", string(from)), slog.String("error", refusal.Error()))
	}
}

func (f *Follower) unreachable(err error) {
	changed := f.change(func(s *Status) {
		s.Reachable, s.LastAttempt, s.Error, s.Findings = false, time.Now(), "the source cannot be read: "+err.Error(), nil
		f.metrics.attempted(unreachable)
	})
	f.metrics.activations.WithLabelValues(unreachable).Inc()
	if changed {
		f.log.Error("policy: the source cannot be read; what was in force stays", slog.String("error", err.Error()))
	}
}

// reachable notes that the source answers. What it had to say before, if it was
// refused, still stands.
func (f *Follower) reachable() {
	changed := f.change(func(s *Status) {
		if !s.Reachable && s.Findings == nil {
			s.Error = ""
		}
		s.Reachable, s.LastAttempt = true, time.Now()
		f.metrics.reached()
	})
	if changed {
		f.log.Info("policy: the source can be read again")
	}
}

// What became of an attempt to put a policy in force.
const (
	activated   = "activated"
	refused     = "refused"
	unreachable = "unreachable"
)

// metrics are changed with the status, under its lock, as far as they tell the same.
type metrics struct {
	activations *prometheus.CounterVec
	last        prometheus.Gauge
	attempt     *prometheus.GaugeVec
	// standing is what became of what the source had when it was last read; "":
	// nothing yet.
	standing string
}

// attempted notes what became of the last attempt.
func (m *metrics) attempted(result string) {
	if result != unreachable {
		m.standing = result
	}
	m.show(result)
}

// reached notes that the source has what it had when it was last read.
func (m *metrics) reached() { m.show(m.standing) }

func (m *metrics) show(result string) {
	for _, one := range []string{activated, refused, unreachable} {
		value := 0.
		if one == result {
			value = 1
		}
		m.attempt.WithLabelValues(one).Set(value)
	}
}

func newMetrics(into prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		activations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mtls_authz_policy_activations_total",
			Help: "Attempts to put a policy in force: activated, refused (by the gate), unreachable (its source).",
		}, []string{"result"}),
		last: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "mtls_authz_policy_activated_timestamp_seconds", Help: "When the policy in force was activated, as Unix time.",
		}),
		attempt: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "mtls_authz_policy_last_attempt", Help: "1 for what became of the last attempt to put a policy in force, as long as that stands.",
		}, []string{"result"}),
	}
	for _, result := range []string{activated, refused, unreachable} {
		m.activations.WithLabelValues(result)
	}
	m.show("")
	if into == nil {
		return m, nil
	}
	for _, collector := range []prometheus.Collector{m.activations, m.last, m.attempt} {
		if err := into.Register(collector); err != nil {
			return nil, err
		}
	}
	return m, nil
}

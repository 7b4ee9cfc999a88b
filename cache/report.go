package cache

import (
	"encoding/hex"

	"github.com/mtls-authz/mtls-authz/cache/tally"
	"github.com/mtls-authz/mtls-authz/rego"
)

// Report is what the cache does, for people: GET /v1/cache.
type Report struct {
	// Entries and Bytes are those in memory.
	Entries int    `json:"entries"`
	Bytes   uint64 `json:"bytes"`
	// Shared is nil without Redis.
	Shared *SharedReport `json:"shared,omitempty"`
	// Policies are those seen last, the newest first.
	Policies []PolicyReport `json:"policies"`
}

// SharedReport is about the tier in Redis.
type SharedReport struct {
	Use       string `json:"use"`
	Available bool   `json:"available"`
	Reason    string `json:"reason,omitempty"`
	// RoundTrip is what asking Redis takes, in microseconds.
	RoundTrip int64 `json:"round_trip_us"`
}

// PolicyReport is about the decisions of one policy.
type PolicyReport struct {
	Revision string        `json:"policy_revision"`
	Shapes   []ShapeReport `json:"shapes"`
}

// ShapeReport is about routes whose grants have one shape.
type ShapeReport struct {
	// Grants are the kinds of sources and the conditions that occur.
	Grants string `json:"grants"`
	// Key are the paths of the input that decisions are keyed by.
	Key []string `json:"key"`
	// NotRemembered says why nothing is remembered, NotShared why nothing goes
	// to Redis, NotNarrowed why the key has all that the policy reads.
	NotRemembered string `json:"not_remembered,omitempty"`
	NotShared     string `json:"not_shared,omitempty"`
	NotNarrowed   string `json:"not_narrowed,omitempty"`
	Local         uint64 `json:"local"`
	SharedHits    uint64 `json:"shared"`
	Misses        uint64 `json:"misses"`
	// HitRatio is of both tiers, from 0 to 1.
	HitRatio float64 `json:"hit_ratio"`
	// Evaluation is what evaluating takes, in microseconds.
	Evaluation int64 `json:"evaluation_us"`
}

// Report tells what the cache does.
func (c *Cache) Report() Report {
	report := Report{Entries: c.local.EstimatedSize(), Bytes: c.local.WeightedSize(), Policies: []PolicyReport{}}
	if s := c.cfg.Shared; s != nil {
		report.Shared = &SharedReport{Use: s.cfg.Use.String(), Available: s.Available(), Reason: s.Reason(), RoundTrip: s.roundTrip.Value().Microseconds()}
	}
	for _, p := range c.counts.Policies() {
		policy := PolicyReport{Revision: hex.EncodeToString(p.Digest[:16]), Shapes: []ShapeReport{}}
		for _, shape := range p.Shapes() {
			policy.Shapes = append(policy.Shapes, reportOf(shape, c.cfg.Shared))
		}
		report.Policies = append(report.Policies, policy)
	}
	return report
}

func reportOf(t *tally.Tally, s *Shared) ShapeReport {
	key := t.Key()
	r := ShapeReport{
		Grants: key.Shape.String(), Key: key.Paths.Strings(), Evaluation: t.Evaluation.Value().Microseconds(),
		Local: t.Of(rego.Local), SharedHits: t.Of(rego.Shared), Misses: t.Of(rego.Miss),
	}
	if all := r.Local + r.SharedHits + r.Misses; all > 0 {
		r.HitRatio = float64(r.Local+r.SharedHits) / float64(all)
	}
	if key.Clock != "" {
		r.NotRemembered = key.Clock + " does not say the same twice"
	}
	if key.Narrow != nil {
		r.NotNarrowed = key.Narrow.Error()
	}
	switch {
	case s == nil || r.NotRemembered != "":
	case s.cfg.Use == Never:
		r.NotShared = "CACHE_SHARED=never"
	case key.LocalOnly:
		r.NotShared = "the policy reads the whole request"
	case s.cfg.Use == Auto && !s.pays(t):
		r.NotShared = "evaluating is cheaper than asking redis"
	}
	return r
}

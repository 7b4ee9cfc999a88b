// Package tally counts what became of requests, for each policy and each shape
// of grants, and estimates what evaluating takes.
//
// It trusts its caller and decides nothing. It is bounded: it knows the
// policies seen last.
package tally

import (
	"sync/atomic"
	"time"

	"github.com/mtls-authz/mtls-authz/rego"
	"github.com/mtls-authz/mtls-authz/rego/reads"
)

// A Tally counts what became of requests with one key's paths.
type Tally struct {
	key     atomic.Pointer[reads.Key]
	lookups [rego.Shared + 1]atomic.Uint64 // by tier
	// Evaluation is what evaluating takes.
	Evaluation Estimate
}

// Key is what the requests are keyed by; nil: there were none.
func (t *Tally) Key() *reads.Key { return t.key.Load() }

// Count notes where a decision came from.
func (t *Tally) Count(tier rego.Tier) { t.lookups[tier].Add(1) }

// Of is how many decisions came from a tier.
func (t *Tally) Of(tier rego.Tier) uint64 { return t.lookups[tier].Load() }

// Asked is how many lookups memory did not answer.
func (t *Tally) Asked() uint64 { return t.lookups[rego.Shared].Load() + t.lookups[rego.Miss].Load() }

// Tallies are those of the policies seen last. The zero value is ready; it is
// safe for concurrent use.
type Tallies struct{ recent atomic.Pointer[[]*Policy] }

// A Policy has the tallies of one policy.
type Policy struct {
	Digest [32]byte
	shapes [reads.Shapes + 1]Tally
}

// maxPolicies is more than are in use at once while a policy is replaced.
const maxPolicies = 3

// Of returns the tally of a policy's key. It takes no lock.
func (t *Tallies) Of(digest [32]byte, needed *reads.Key) *Tally {
	for {
		recent := t.recent.Load()
		list := t.Policies()
		for _, p := range list {
			if p.Digest == digest {
				return p.shape(needed)
			}
		}
		p := &Policy{Digest: digest}
		list = append([]*Policy{p}, list[:min(len(list), maxPolicies-1)]...)
		if t.recent.CompareAndSwap(recent, &list) {
			return p.shape(needed)
		}
	}
}

func (p *Policy) shape(needed *reads.Key) *Tally {
	found := &p.shapes[needed.Shape]
	if found.key.Load() == nil {
		found.key.Store(needed)
	}
	return found
}

// Policies are the policies seen last, the newest first.
func (t *Tallies) Policies() []*Policy {
	if recent := t.recent.Load(); recent != nil {
		return *recent
	}
	return nil
}

// Shapes are the tallies of the shapes of grants that there were requests for.
func (p *Policy) Shapes() []*Tally {
	var list []*Tally
	for i := range p.shapes {
		if p.shapes[i].Key() != nil {
			list = append(list, &p.shapes[i])
		}
	}
	return list
}

// An Estimate is a moving average of durations. It follows improvements faster
// than outliers: the first evaluation of a policy takes ten times the others.
type Estimate struct{ nanos, samples atomic.Int64 }

// Add takes a sample.
func (e *Estimate) Add(d time.Duration) {
	old := e.nanos.Load()
	switch {
	case e.samples.Add(1) == 1:
		e.nanos.Store(int64(d))
	case int64(d) < old:
		e.nanos.Store(old - (old-int64(d))/2)
	default:
		e.nanos.Store(old + (int64(d)-old)/8)
	}
}

// Value is 0 before the first sample.
func (e *Estimate) Value() time.Duration { return time.Duration(e.nanos.Load()) }

// Samples is how many there were.
func (e *Estimate) Samples() int64 { return e.samples.Load() }

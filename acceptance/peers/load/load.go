// Package load sends requests and takes the time: as fast as callers get
// answers, or at a rate. It trusts its callers to tell a wrong answer by an
// error, and ends with the first one: figures of refusals are no figures.
package load

import (
	"context"
	"slices"
	"sync"
	"time"
)

// A Caller sends one request and reads the answer. Any answer but the one that
// was wanted is an error.
type Caller func(ctx context.Context) error

// Result is what became of the requests.
type Result struct {
	// Requests that were answered, and the time from the first to the last.
	Requests int
	Took     time.Duration
	// latencies in ascending order.
	latencies []time.Duration
}

// PerSecond is the throughput.
func (r Result) PerSecond() float64 { return float64(r.Requests) / r.Took.Seconds() }

// Quantile is the latency that a share q of the requests did not exceed; 0 if
// there were none.
func (r Result) Quantile(q float64) time.Duration {
	if len(r.latencies) == 0 {
		return 0
	}
	return r.latencies[int(q*float64(len(r.latencies)-1)+0.5)]
}

// Run lets the callers call for a while: with a rate, that many requests a
// second all together, whose latency counts from when each was due, whether or not
// the one before was answered in time; with rate 0, one after the other.
func Run(ctx context.Context, callers []Caller, rate int, during time.Duration) (Result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	start := time.Now()
	latencies := make([][]time.Duration, len(callers))
	var calling sync.WaitGroup
	for i, call := range callers {
		calling.Go(func() {
			for k := i; ; k += len(callers) {
				due := time.Now()
				if rate > 0 {
					due = start.Add(time.Duration(k) * time.Second / time.Duration(rate))
				}
				if due.Sub(start) >= during || ctx.Err() != nil {
					return
				}
				time.Sleep(time.Until(due))
				if err := call(ctx); err != nil {
					cancel(err)
					return
				}
				latencies[i] = append(latencies[i], time.Since(due))
			}
		})
	}
	calling.Wait()
	result := Result{Took: time.Since(start), latencies: slices.Concat(latencies...)}
	slices.Sort(result.latencies)
	result.Requests = len(result.latencies)
	return result, context.Cause(ctx)
}

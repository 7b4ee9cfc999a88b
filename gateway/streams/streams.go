// Package streams keeps what stays open for long, upgraded connections and event
// streams, and cuts those whose permission has ended. A request is decided on
// once, when it comes; without this, a revoked caller would keep what it opened
// before. It fails closed: a stream about which nobody can say that it is still
// permitted is cut.
package streams

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Interval is how often each open stream is asked about.
const Interval = time.Second

// Open are the streams that are open. It is safe for concurrent use.
type Open struct {
	cuts prometheus.Counter

	mu      sync.Mutex
	streams map[*stream]struct{}
}

type stream struct {
	permitted func(context.Context) error
	cut       func(error)
}

// New returns an Open without streams and registers its collectors.
func New(registry prometheus.Registerer) *Open {
	o := &Open{
		streams: map[*stream]struct{}{},
		cuts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "mtls_authz_streams_cut_total", Help: "Upgraded connections and event streams that were cut because their permission ended.",
		}),
	}
	registry.MustRegister(o.cuts, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "mtls_authz_streams_open", Help: "Upgraded connections and event streams that are open now.",
	}, func() float64 { o.mu.Lock(); defer o.mu.Unlock(); return float64(len(o.streams)) }))
	return o
}

// Add keeps a stream until its end is told by calling done. Meanwhile permitted
// is asked, by one goroutine, whether it may go on; its first error is given to
// cut.
func (o *Open) Add(permitted func(context.Context) error, cut func(error)) (done func()) {
	s := &stream{permitted, cut}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.streams[s] = struct{}{}
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		delete(o.streams, s)
	}
}

// Run asks about each stream every [Interval], until ctx ends.
func (o *Open) Run(ctx context.Context) {
	tick := time.NewTicker(Interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			o.check(ctx)
		}
	}
}

func (o *Open) check(ctx context.Context) {
	o.mu.Lock()
	open := slices.Collect(maps.Keys(o.streams))
	o.mu.Unlock()
	for _, s := range open {
		if ctx.Err() != nil { // the gateway is going: not the streams' fault
			return
		}
		err := s.permitted(ctx)
		if err == nil {
			continue
		}
		o.mu.Lock()
		_, still := o.streams[s]
		delete(o.streams, s)
		o.mu.Unlock()
		if still {
			o.cuts.Inc()
			s.cut(err)
		}
	}
}

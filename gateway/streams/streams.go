// Package streams keeps what stays open for long, upgraded connections and event
// streams, and cuts those whose permission has ended. A request is decided on
// once, when it comes; without this, a revoked caller would keep what it opened
// before. It fails closed: a stream about which nobody can say that it is still
// permitted is cut.
package streams

import (
	"context"
	"errors"
	"maps"
	"mime"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
)

// Interval is how often each open stream is asked about.
const Interval = time.Second

// Open are the streams that are open. It is safe for concurrent use.
type Open struct {
	cuts prometheus.Counter

	mu      sync.Mutex
	streams map[*Stream]struct{}
}

// A Stream is what stays open for long.
type Stream struct {
	// Permitted returns why the stream may not go on; nil: it may. It is not
	// called while it runs.
	Permitted func(context.Context) error
	// Cut ends the stream.
	Cut func(error)
	// Leave tells both sides that this end goes away, if it can be told; they
	// are expected to end the stream then. Optional.
	Leave func()
}

// StaysOpen reports whether an answer goes on for as long as both sides like.
// What just takes long, such as a download, runs to its end.
func StaysOpen(res *http.Response) bool {
	media, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	return res.StatusCode == http.StatusSwitchingProtocols || media == "text/event-stream"
}

// New returns an Open without streams and registers its collectors.
func New(registry prometheus.Registerer) *Open {
	o := &Open{
		streams: map[*Stream]struct{}{},
		cuts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "mtls_authz_streams_cut_total", Help: "Upgraded connections and event streams that were cut because their permission ended.",
		}),
	}
	registry.MustRegister(o.cuts, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "mtls_authz_streams_open", Help: "Upgraded connections and event streams that are open now.",
	}, func() float64 { return float64(len(o.all())) }))
	return o
}

// Add keeps a stream until its end is told by calling done.
func (o *Open) Add(s Stream) (done func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.streams[&s] = struct{}{}
	return func() { o.remove(&s) }
}

// remove reports whether the stream was there.
func (o *Open) remove(s *Stream) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, there := o.streams[s]
	delete(o.streams, s)
	return there
}

func (o *Open) all() []*Stream {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Collect(maps.Keys(o.streams))
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

// askers ask at once: a policy may take its time, and a revoked stream must not
// wait for all others.
const askers = 16

func (o *Open) check(ctx context.Context) {
	var asking errgroup.Group
	asking.SetLimit(askers)
	for _, s := range o.all() {
		if ctx.Err() != nil { // the gateway is going: not the streams' fault
			break
		}
		asking.Go(func() error {
			if err := s.Permitted(ctx); err != nil && ctx.Err() == nil && o.remove(s) {
				o.cuts.Inc()
				s.Cut(err)
			}
			return nil
		})
	}
	_ = asking.Wait() // there are no errors
}

// ErrLeaving is why a stream is cut when the gateway goes away.
var ErrLeaving = errors.New("the gateway is going away")

// Farewell ends every stream: it takes leave where that can be done, waits until
// those have ended, for [farewellTimeout] and until ctx ends at most, and cuts
// what is left.
func (o *Open) Farewell(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, farewellTimeout)
	defer cancel()
	for _, s := range o.all() {
		if s.Leave == nil {
			o.end(s)
			continue
		}
		s.Leave()
	}
	look := time.NewTicker(farewellTimeout / 50)
	defer look.Stop()
	for len(o.all()) > 0 && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-look.C:
		}
	}
	for _, s := range o.all() {
		o.end(s)
	}
}

func (o *Open) end(s *Stream) {
	if o.remove(s) {
		s.Cut(ErrLeaving)
	}
}

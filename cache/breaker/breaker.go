// Package breaker keeps requests from waiting for something that fails: after
// one failure nobody asks again until a trial, which is nobody's request, has
// gone well.
//
// It trusts its owner to try when a trial is due, and fails towards leaving the
// other side alone: what fails again soon after it came back is left alone for
// longer.
package breaker

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

const (
	shortest = time.Second
	longest  = 16 * time.Second
	// steady is how long things must go well before a failure counts as the
	// first again.
	steady = 30 * time.Second
)

// Config configures [New]. All fields are required.
type Config struct {
	// Opened and Closed are what is logged at each transition.
	Opened, Closed string
	Log            *slog.Logger
	// Now is the clock.
	Now func() time.Time
}

// A Breaker is closed while things go well. It is safe for concurrent use.
type Breaker struct {
	cfg   Config
	state atomic.Pointer[failure] // nil while closed
	mu    sync.Mutex              // held by those that change the state
	pause time.Duration
	since time.Time // of the last transition
}

type failure struct {
	reason string
	retry  time.Time
}

// New returns a closed Breaker.
func New(cfg Config) *Breaker { return &Breaker{cfg: cfg} }

// Closed reports whether the other side may be asked. It takes no lock.
func (b *Breaker) Closed() bool { return b.state.Load() == nil }

// Reason says why the breaker is open, "" while it is closed.
func (b *Breaker) Reason() string {
	if f := b.state.Load(); f != nil {
		return f.reason
	}
	return ""
}

// Due reports whether the breaker is open and it is time for a trial, whose
// result goes to [Breaker.Note].
func (b *Breaker) Due() bool {
	f := b.state.Load()
	return f != nil && !b.cfg.Now().Before(f.retry)
}

// Note takes the result of a call: an error opens the breaker, or keeps it open
// for longer; nil closes it.
func (b *Breaker) Note(err error) {
	if err == nil && b.Closed() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now, open := b.cfg.Now(), !b.Closed()
	switch {
	case err == nil && open:
		b.state.Store(nil)
		b.since = now
		b.cfg.Log.Info(b.cfg.Closed)
	case err != nil && !open:
		if b.pause == 0 || now.Sub(b.since) > steady {
			b.pause = shortest
		} else {
			b.pause = min(2*b.pause, longest)
		}
		b.since = now
		b.state.Store(&failure{err.Error(), now.Add(b.pause)})
		b.cfg.Log.Warn(b.cfg.Opened, slog.String("error", err.Error()))
	case err != nil:
		b.state.Store(&failure{err.Error(), now.Add(b.pause)})
	}
}

package envelope

import (
	"context"
	"sync"
	"time"
)

// fair gives each name one turn at a time, so that one user or one service instance
// does not take all there are.
type fair struct {
	mu    sync.Mutex
	lines map[string]*line
}

// line is who waits for the turn of one name.
type line struct {
	turn    chan struct{}
	waiting int
}

// take waits for the turn of a name; false: it took too long.
func (f *fair) take(ctx context.Context, name string, most time.Duration) (release func(), ok bool) {
	f.mu.Lock()
	if f.lines == nil {
		f.lines = map[string]*line{}
	}
	l := f.lines[name]
	if l == nil {
		l = &line{turn: make(chan struct{}, 1)}
		f.lines[name] = l
	}
	l.waiting++
	f.mu.Unlock()
	leave := func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if l.waiting--; l.waiting == 0 {
			delete(f.lines, name)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	select {
	case l.turn <- struct{}{}:
		return func() { <-l.turn; leave() }, true
	case <-ctx.Done():
		leave()
		return nil, false
	}
}

package gateway

import (
	"sync"
	"sync/atomic"
)

// load counts the requests in flight, in all and by binding.
type load struct {
	most, mostOfRoute int
	total             atomic.Int64

	mu      sync.Mutex
	ofRoute map[string]int
}

func newLoad(most, mostOfRoute int) *load {
	return &load{most: most, mostOfRoute: mostOfRoute, ofRoute: map[string]int{}}
}

func (l *load) enter() bool {
	if l.total.Add(1) > int64(l.most) {
		l.total.Add(-1)
		return false
	}
	return true
}

func (l *load) leave() { l.total.Add(-1) }

func (l *load) enterRoute(binding string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ofRoute[binding] >= l.mostOfRoute {
		return false
	}
	l.ofRoute[binding]++
	return true
}

func (l *load) leaveRoute(binding string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ofRoute[binding]--; l.ofRoute[binding] <= 0 {
		delete(l.ofRoute, binding)
	}
}

// Package load bounds the requests in flight, in all and of one route, so that
// one noisy route cannot take the others' places. What does not fit is turned
// away at once.
package load

import (
	"sync"
	"sync/atomic"
)

// Load counts the requests in flight, in all and by binding. It is safe for
// concurrent use.
type Load struct {
	most, mostOfRoute int
	total             atomic.Int64

	mu      sync.Mutex
	ofRoute map[string]int
}

// New bounds the requests in all to most and those of one binding to mostOfRoute.
func New(most, mostOfRoute int) *Load {
	return &Load{most: most, mostOfRoute: mostOfRoute, ofRoute: map[string]int{}}
}

// Enter takes a place, if there is one.
func (l *Load) Enter() bool {
	if l.total.Add(1) > int64(l.most) {
		l.total.Add(-1)
		return false
	}
	return true
}

// Leave gives the place back.
func (l *Load) Leave() { l.total.Add(-1) }

// EnterRoute takes one of the places of a binding, if there is one.
func (l *Load) EnterRoute(binding string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ofRoute[binding] >= l.mostOfRoute {
		return false
	}
	l.ofRoute[binding]++
	return true
}

// LeaveRoute gives it back.
func (l *Load) LeaveRoute(binding string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ofRoute[binding]--; l.ofRoute[binding] <= 0 {
		delete(l.ofRoute, binding)
	}
}

// InFlight is the number of requests in flight.
func (l *Load) InFlight() int64 { return l.total.Load() }

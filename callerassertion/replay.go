package callerassertion

import (
	"crypto/sha256"
	"fmt"
	"sync"
	"time"
)

// memory remembers assertions for as long as they could be accepted again. It
// has two generations, so that forgetting is one assignment.
type memory struct {
	// keep is the least time that an id is remembered, limit the most ids in so
	// much time.
	keep  time.Duration
	limit int

	mu                sync.Mutex
	current, previous map[memoryKey]struct{}
	// since is when current began.
	since time.Time
}

// memoryKey is a digest, so that an id of any length takes the same room.
type memoryKey [16]byte

// add takes an id, once. What is full takes none: forgetting early would let an
// assertion be used twice.
func (m *memory) add(id string, now time.Time) error {
	sum := sha256.Sum256([]byte(id))
	key := memoryKey(sum[:])
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forget(now)
	_, inCurrent := m.current[key]
	_, inPrevious := m.previous[key]
	if inCurrent || inPrevious {
		return ErrReplay
	}
	if len(m.current) >= m.limit {
		return fmt.Errorf("%w: more than %d assertions within %s; see Config.Remember", ErrUnavailable, m.limit, m.keep)
	}
	m.current[key] = struct{}{}
	return nil
}

// forget begins a new generation once the current one is older than keep: all
// of previous is older than that by then.
func (m *memory) forget(now time.Time) {
	age := now.Sub(m.since)
	if m.current != nil && age < m.keep {
		return
	}
	m.previous = m.current
	if age >= 2*m.keep {
		m.previous = nil
	}
	m.current, m.since = map[memoryKey]struct{}{}, now
}

package sightings

import "sync"

// room is what a bound in memory leaves. Once half of it is taken, no owner of
// routes gets more than a tenth, so that none takes it from the others.
type room struct {
	most int

	mu    sync.Mutex
	taken int
	of    map[string]int
}

// take takes one place; false: there is none for this owner.
func (r *room) take(owner string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.taken >= r.most || r.taken >= r.most/2 && r.of[owner] >= r.most/10 {
		return false
	}
	if r.of == nil {
		r.of = map[string]int{}
	}
	r.taken++
	r.of[owner]++
	return true
}

// leave gives places back.
func (r *room) leave(owner string, places int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.taken -= places; r.of[owner] > places {
		r.of[owner] -= places
		return
	}
	delete(r.of, owner)
}

// Package view is the state in memory, ready to decide by: the effective access
// of every binding. It is loaded from the database and follows it, whichever
// process changes it.
//
// It takes what was read in any order and never goes back: it trusts that what
// is read at a revision holds all changes up to it. Without the database it
// stays as it is, and says since when.
package view

import (
	"context"
	"errors"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/names"
	"github.com/mtls-authz/mtls-authz/store/database"
)

// ErrStale: the database has not been reached for too long.
var ErrStale = errors.New("the state is too old")

// Config configures [New]. All of it is required.
type Config struct {
	// ReportAllowed is the operator's word on report mode; see parameters.Bound.
	ReportAllowed bool
	// Timeout bounds every call.
	Timeout time.Duration
	// PollInterval is how often changes are looked for, MaxStale how long the
	// view may be decided by without the database.
	PollInterval, MaxStale time.Duration
	// Names tells what sources by name stand for.
	Names *names.Book
	// Progress is told while many bindings are loaded.
	Progress func(loaded, total int)
	// Now is the clock.
	Now func() time.Time
}

// A View answers what applies to a binding.
type View struct {
	cfg     Config
	db      *database.Database
	access  sync.Map // binding id -> *grants.Access
	damaged atomic.Pointer[[]error]
	contact atomic.Pointer[contact]
	lookups singleflight.Group
	unknown unknown

	mu         sync.Mutex
	ofInstance map[string][]string // instance id -> binding ids
	// named has the names that are looked up, by instance; uses counts the instances
	// of each. wanted are all of them, nil if that has changed.
	named  map[string][]names.Reference
	uses   map[names.Reference]int
	wanted *names.Set
	// synced is the revision up to which all changes are here; ahead holds
	// the instances that are here at a later one.
	synced int64
	ahead  map[string]int64
}

// New returns an empty view of a database; see [View.Load] and [View.Follow].
func New(db *database.Database, cfg Config) *View {
	v := &View{cfg: cfg, db: db, ofInstance: map[string][]string{}, named: map[string][]names.Reference{}, uses: map[names.Reference]int{}, ahead: map[string]int64{}}
	v.damaged.Store(&[]error{})
	v.contact.Store(&contact{})
	return v
}

// bounded limits what a call may wait for the database.
func (v *View) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, v.cfg.Timeout)
}

// Access returns what applies to a binding; nil if there is no such binding. It
// takes no lock and never waits.
func (v *View) Access(bindingID string) *grants.Access {
	if found, ok := v.access.Load(bindingID); ok {
		return found.(*grants.Access)
	}
	return nil
}

// References are the names that somebody has to look up. It is the same set as
// long as they are the same.
func (v *View) References() *names.Set {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.wanted == nil {
		v.wanted = names.NewSet(maps.Keys(v.uses))
	}
	return v.wanted
}

// rename takes down which names an instance uses from now on.
func (v *View) rename(instanceID string, bound []*grants.Access) {
	used := map[names.Reference]bool{}
	for _, access := range bound {
		for _, reference := range access.References() {
			used[reference] = true
		}
	}
	former := v.named[instanceID]
	delete(v.named, instanceID)
	for reference := range used {
		v.named[instanceID] = append(v.named[instanceID], reference)
		if v.uses[reference]++; v.uses[reference] == 1 {
			v.wanted = nil
		}
	}
	for _, reference := range former {
		if v.uses[reference]--; v.uses[reference] == 0 {
			delete(v.uses, reference)
			v.wanted = nil
		}
	}
}

// Synced is the revision up to which every change is in the view.
func (v *View) Synced() int64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.synced
}

// isAt reports whether an instance is here at this revision or a later one.
func (v *View) isAt(instanceID string, revision int64) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.holds(instanceID, revision)
}

func (v *View) holds(instanceID string, revision int64) bool {
	return max(v.synced, v.ahead[instanceID]) >= revision
}

// Set replaces what the view holds of one instance by what was read at a
// revision, unless it holds that already; nothing bound removes it.
func (v *View) Set(revision int64, instanceID string, bound []*grants.Access) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.holds(instanceID, revision) {
		return
	}
	v.replace(instanceID, bound)
	v.ahead[instanceID] = revision
}

// update takes all instances that have changed since the last call, as they were
// at a revision.
func (v *View) update(revision int64, changed map[string][]*grants.Access) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.sync(revision, changed)
}

// replaceAll takes all instances that there were at a revision, and removes the
// others. A revision before the one of the last call is that of a database that
// was restored: it is believed.
func (v *View) replaceAll(revision int64, all map[string][]*grants.Access) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if revision < v.synced {
		clear(v.ahead)
	}
	for instanceID := range v.ofInstance {
		if _, ok := all[instanceID]; !ok {
			all[instanceID] = nil
		}
	}
	v.sync(revision, all)
}

func (v *View) sync(revision int64, changed map[string][]*grants.Access) {
	for instanceID, bound := range changed {
		if v.ahead[instanceID] <= revision {
			v.replace(instanceID, bound)
		}
	}
	v.synced = revision
	for instanceID, at := range v.ahead {
		if at <= revision {
			delete(v.ahead, instanceID)
		}
	}
}

func (v *View) replace(instanceID string, bound []*grants.Access) {
	former := v.ofInstance[instanceID]
	delete(v.ofInstance, instanceID)
	v.rename(instanceID, bound)
	kept := make(map[string]bool, len(bound))
	for _, access := range bound {
		v.access.Store(access.Binding, access)
		kept[access.Binding] = true
		v.ofInstance[instanceID] = append(v.ofInstance[instanceID], access.Binding)
	}
	for _, id := range former {
		// Another instance may have the id since.
		if access := v.Access(id); !kept[id] && access != nil && access.Owner.Instance == instanceID {
			v.access.Delete(id)
		}
	}
}

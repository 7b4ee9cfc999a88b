package view

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/store/database"
	"github.com/mtls-authz/mtls-authz/store/record"
)

const (
	// unknownLife is how long the store remembers that a binding is not there.
	unknownLife = time.Second
	maxUnknown  = 10_000
)

// unknown remembers bindings that are not there.
type unknown struct {
	mu sync.Mutex
	at map[string]time.Time
}

func (u *unknown) has(id string, now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	at, ok := u.at[id]
	age := now.Sub(at)
	return ok && age >= 0 && age < unknownLife
}

func (u *unknown) add(id string, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.at == nil || len(u.at) >= maxUnknown {
		u.at = map[string]time.Time{}
	}
	u.at[id] = now
}

// Lookup returns what applies to a binding, nil if there is no such binding. It
// asks the database about one that the view does not hold: once however many
// wait for it, and not again for a second after it was not there. Without the
// database, it is [database.ErrUnavailable].
func (v *View) Lookup(ctx context.Context, bindingID string) (*grants.Access, error) {
	if access := v.Access(bindingID); access != nil {
		return access, nil
	}
	if v.unknown.has(bindingID, v.cfg.Now()) {
		return nil, nil
	}
	done := v.lookups.DoChan(bindingID, func() (any, error) {
		// Whoever asked first may go away; the others still wait.
		ctx, cancel := v.bounded(context.WithoutCancel(ctx))
		defer cancel()
		err := v.readThrough(ctx, bindingID)
		if errors.Is(err, database.ErrUnavailable) && !errors.Is(err, database.ErrDamaged) {
			err = v.readThrough(ctx, bindingID) // the connection may be one to a server that has restarted since
		}
		return nil, err
	})
	select {
	case <-ctx.Done():
		return nil, database.Unavailable(ctx.Err())
	case result := <-done:
		if result.Err != nil {
			return nil, result.Err
		}
		return v.Access(bindingID), nil
	}
}

// readThrough puts a binding's instance into the view.
func (v *View) readThrough(ctx context.Context, bindingID string) error {
	tx, err := v.db.Snapshot(ctx)
	if err != nil {
		return database.Unavailable(err)
	}
	defer func() { _ = tx.Rollback() }() // only read
	revision, err := database.ReadNumber(ctx, tx, `SELECT revision FROM counter WHERE id = 1`)
	if err != nil {
		return err
	}
	binding, err := record.ReadBinding(ctx, tx, bindingID)
	if errors.Is(err, database.ErrNotFound) || errors.Is(err, database.ErrDamaged) {
		v.unknown.add(bindingID, v.cfg.Now())
		return nil
	}
	if err != nil {
		return err
	}
	bound, err := v.Read(ctx, tx, binding.InstanceID)
	if err != nil {
		return err
	}
	v.Set(revision, binding.InstanceID, bound)
	if v.Access(bindingID) == nil { // its instance is damaged
		v.unknown.add(bindingID, v.cfg.Now())
	}
	return nil
}

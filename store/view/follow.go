package view

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"time"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/store/database"
)

// maxCatchUp is how many instances are read one by one; more are cheaper to read
// with all others.
const maxCatchUp = 200

// contact is when the database was last reached, and why not since.
type contact struct {
	at  time.Time
	err error
}

// LastContact returns when the view was last known to hold everything that the
// database does, and why not since then; nil if nothing failed since.
func (v *View) LastContact() (time.Time, error) {
	c := v.contact.Load()
	return c.at, c.err
}

// Fresh returns an [ErrStale] if the last contact is longer ago than MaxStale.
func (v *View) Fresh() error {
	at, err := v.LastContact()
	age := v.cfg.Now().Sub(at)
	if age <= v.cfg.MaxStale {
		return nil
	}
	if err == nil { // the process was frozen
		err = database.ErrUnavailable
	}
	return fmt.Errorf("%w: the database was last reached %s ago: %w", ErrStale, age.Round(time.Second), err)
}

// Follow brings the changes of other processes into the view: when the
// database tells of one, and every PollInterval. It ends with its context.
func (v *View) Follow(ctx context.Context) {
	wake := make(chan struct{}, 1)
	var listening sync.WaitGroup
	defer listening.Wait()
	listening.Go(func() {
		for ctx.Err() == nil {
			_ = v.db.Listen(ctx, func() { // without it, polling finds the changes
				select {
				case wake <- struct{}{}:
				default:
				}
			})
			sleep(ctx, time.Second)
		}
	})
	ticker := time.NewTicker(v.cfg.PollInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-wake:
		}
		if err := v.catchUp(ctx); err != nil && ctx.Err() == nil {
			v.contact.Store(&contact{v.contact.Load().at, err})
		}
	}
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// catchUp takes over what has changed since the view's revision.
func (v *View) catchUp(ctx context.Context) error {
	started := v.cfg.Now()
	bounded, cancel := v.bounded(ctx)
	defer cancel()
	revision, err := database.ReadNumber(bounded, v.db, `SELECT revision FROM counter WHERE id = 1`)
	if err != nil {
		return err
	}
	complete := true
	if revision != v.Synced() {
		// The database answers: many changes, or large ones, may take longer.
		patient, cancel := context.WithTimeout(ctx, 4*v.cfg.Timeout)
		defer cancel()
		if complete, err = v.readChanges(patient); err != nil {
			return err
		}
	}
	if !complete {
		return v.Load(ctx)
	}
	v.contact.Store(&contact{at: started})
	return nil
}

// readChanges reports false if the audit does not tell of every change: a
// gateway of a release without it writes too, the audit was cleared, or the
// database was restored.
func (v *View) readChanges(ctx context.Context) (bool, error) {
	tx, err := v.db.Snapshot(ctx)
	if err != nil {
		return false, database.Unavailable(err)
	}
	defer func() { _ = tx.Rollback() }() // only read
	revision, err := database.ReadNumber(ctx, tx, `SELECT revision FROM counter WHERE id = 1`)
	if err != nil {
		return false, err
	}
	type step struct {
		instanceID   string
		last, number int64
	}
	synced := v.Synced()
	steps, _, err := database.ReadAll(ctx, tx, func(row *sql.Rows) func() (step, error) {
		var one step
		err := row.Scan(&one.instanceID, &one.last, &one.number)
		return func() (step, error) { return one, err }
	}, `SELECT instance_id, MAX(revision), COUNT(DISTINCT revision) FROM audit WHERE revision > $1 GROUP BY instance_id LIMIT $2`, synced, maxCatchUp+1)
	if err != nil {
		return false, err
	}
	changed := make(map[string][]*grants.Access, len(steps))
	for _, step := range steps {
		synced += step.number
		if len(steps) > maxCatchUp || v.isAt(step.instanceID, step.last) {
			continue
		}
		if changed[step.instanceID], err = v.Read(ctx, tx, step.instanceID); err != nil {
			return false, err
		}
	}
	if len(steps) > maxCatchUp || synced != revision {
		return false, nil
	}
	v.update(revision, changed)
	return true, nil
}

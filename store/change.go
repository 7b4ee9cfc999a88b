package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/mtls-authz/mtls-authz/store/database"
	"github.com/mtls-authz/mtls-authz/store/record"
)

// Tombstones: a platform may send a DELETE before the PUT that it takes back,
// and would never delete what the late PUT creates.
const (
	tombstoneLife = time.Hour
	maxTombstones = 100_000
	// tombstonesAtOnce is how many expired ones a change removes.
	tombstonesAtOnce = 1000
)

// errUnchanged ends a transaction that found nothing to do.
var errUnchanged = errors.New("unchanged")

// transaction is a change on its way: of one instance and its bindings, at one
// revision, for one cause.
type transaction struct {
	*sql.Tx
	instanceID string // "": not known yet
	cause      Cause
	id         string // of the change; random
	revision   int64
	now        time.Time
	parts      int      // of the audit
	done       []string // what they say was done, in pairs of kind and action
}

func (t *transaction) exec(ctx context.Context, query string, args ...any) error {
	if _, err := t.ExecContext(ctx, query, args...); err != nil {
		return database.Unavailable(err)
	}
	return nil
}

// change runs f in one transaction with the next revision, and puts the new
// state of the instance into the view before it returns. It reports false if f
// found nothing to do or failed.
func (s *Store) change(ctx context.Context, cause Cause, instanceID string, f func(context.Context, *transaction) error) (bool, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	select {
	case s.writing <- struct{}{}:
		defer func() { <-s.writing }()
	case <-ctx.Done():
		return false, database.Unavailable(ctx.Err())
	}
	tx, err := s.db.Begin(ctx)
	if err != nil {
		return false, database.Unavailable(err)
	}
	defer func() { _ = tx.Rollback() }() // no effect after a commit
	t := &transaction{Tx: tx, instanceID: instanceID, cause: cause, id: rand.Text(), now: s.cfg.Now()}
	// Taken first: the row's lock makes the order of revisions that of commits.
	err = tx.QueryRowContext(ctx, `UPDATE counter SET revision = revision + 1 WHERE id = 1 RETURNING revision`).Scan(&t.revision)
	if err != nil {
		return false, database.Unavailable(err)
	}
	switch err := f(ctx, t); {
	case errors.Is(err, errUnchanged):
		return false, s.catchUp(ctx, t)
	case err != nil:
		return false, err
	case t.parts == 0:
		return false, fmt.Errorf("%w: a change without an audit entry", ErrUnavailable)
	}
	bound, err := s.view.Read(ctx, tx, t.instanceID)
	if err != nil {
		return false, err
	}
	if err := s.db.Announce(ctx, tx); err != nil {
		return false, database.Unavailable(err)
	}
	if err := s.commit(ctx, t); err != nil {
		return false, err
	}
	s.view.Set(t.revision, t.instanceID, bound)
	for i := 0; i < len(t.done); i += 2 {
		s.changes.WithLabelValues(t.done[i], t.done[i+1]).Inc()
	}
	return true, nil
}

// catchUp brings into the view what a change found done already, perhaps by
// another process a moment ago: whoever repeats a request there, because its
// answer was lost, hears that it is in force here. The counter's row is locked,
// so the revision before this one is the last.
func (s *Store) catchUp(ctx context.Context, t *transaction) error {
	bound, err := s.view.Read(ctx, t, t.instanceID)
	if err == nil {
		s.view.Set(t.revision-1, t.instanceID, bound)
	}
	return err
}

// remove deletes an instance with its bindings, or one of its bindings. What is
// not there leaves a tombstone too.
func (s *Store) remove(ctx context.Context, cause Cause, kind, instanceID, id string) error {
	missing := false
	_, err := s.change(ctx, cause, instanceID, func(ctx context.Context, t *transaction) error {
		gone, err := t.deleteRows(ctx, kind, id)
		if err != nil {
			return err
		}
		missing = len(gone) == 0
		if missing {
			gone = []Entry{{Kind: kind, ID: id}}
		}
		for _, entry := range gone {
			if err := t.bury(ctx, entry); err != nil {
				return err
			}
		}
		return t.forgetOldTombstones(ctx)
	})
	if err == nil && missing {
		return ErrNotFound
	}
	return err
}

// deleteRows returns what it deleted, bindings first. It does not parse it:
// damaged rows can be deleted.
func (t *transaction) deleteRows(ctx context.Context, kind, id string) ([]Entry, error) {
	if kind == record.KindInstance {
		bindings, _, err := database.ReadAll(ctx, t, record.ScanDeletedBinding, `DELETE FROM bindings WHERE instance_id = $1 RETURNING `+record.DeletedBindingColumns, id)
		if err != nil {
			return nil, err
		}
		instances, _, err := database.ReadAll(ctx, t, record.ScanDeletedInstance, `DELETE FROM instances WHERE id = $1 RETURNING `+record.DeletedInstanceColumns, id)
		return append(bindings, instances...), err
	}
	gone, _, err := database.ReadAll(ctx, t, record.ScanDeletedBinding,
		`DELETE FROM bindings WHERE id = $1 AND ($2 = '' OR instance_id = $2) RETURNING `+record.DeletedBindingColumns, id, t.instanceID)
	if len(gone) > 0 {
		t.instanceID = gone[0].InstanceID
	}
	if err != nil || len(gone) > 0 {
		return gone, err
	}
	others, err := database.ReadNumber(ctx, t, `SELECT COUNT(*) FROM bindings WHERE id = $1`, id)
	if err == nil && others > 0 {
		err = ErrNotFound // it lives on in another instance
	}
	return nil, err
}

// audit adds an entry to what the transaction changes.
func (t *transaction) audit(ctx context.Context, e Entry) error {
	t.parts++
	t.done = append(t.done, e.Kind, e.Action)
	return t.exec(ctx, `INSERT INTO audit (part, change_id, `+record.EntryColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
		t.parts, t.id, t.revision, t.now.UnixMilli(), e.Action, e.Kind, e.ID, t.instanceID,
		t.cause.By, t.cause.RequestID, t.cause.RequestIdentity, string(e.Before), string(e.After))
}

func (t *transaction) bury(ctx context.Context, entry Entry) error {
	err := t.exec(ctx, `INSERT INTO tombstones (kind, id, revision, deleted_at) VALUES ($1, $2, $3, $4)
		ON CONFLICT (kind, id) DO UPDATE SET revision = excluded.revision, deleted_at = excluded.deleted_at`,
		entry.Kind, entry.ID, t.revision, t.now.UnixMilli())
	if err != nil {
		return err
	}
	entry.Action = "delete"
	return t.audit(ctx, entry)
}

// forgetOldTombstones goes by revision where it bounds the number, because a
// clock may step back.
func (t *transaction) forgetOldTombstones(ctx context.Context) error {
	if err := t.exec(ctx, `DELETE FROM tombstones WHERE (kind, id) IN (SELECT kind, id FROM tombstones WHERE deleted_at <= $1 ORDER BY deleted_at LIMIT $2)`,
		t.now.Add(-tombstoneLife).UnixMilli(), tombstonesAtOnce); err != nil {
		return err
	}
	return t.exec(ctx, `DELETE FROM tombstones WHERE revision <= (SELECT revision FROM tombstones ORDER BY revision DESC LIMIT 1 OFFSET $1)`, maxTombstones)
}

func (t *transaction) refuseDeleted(ctx context.Context, kind, id string) error {
	found, err := database.ReadNumber(ctx, t, `SELECT COUNT(*) FROM tombstones WHERE kind = $1 AND id = $2 AND deleted_at > $3`, kind, id, t.now.Add(-tombstoneLife).UnixMilli())
	if err == nil && found > 0 {
		err = fmt.Errorf("service %s %q %w", kind, id, ErrDeleted)
	}
	return err
}

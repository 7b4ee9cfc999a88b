package store

import (
	"context"
	"time"

	"github.com/mtls-authz/mtls-authz/store/database"
)

// commitRetry is how long to wait before a database that does not answer is
// asked again.
const commitRetry = 20 * time.Millisecond

// commit commits. An error of the driver may be that of an answer that was lost:
// then the database is asked what became of the change, as long as ctx lasts.
func (s *Store) commit(ctx context.Context, t *transaction) error {
	err := t.Commit()
	if err == nil {
		return nil
	}
	for {
		committed, unanswered := s.committed(ctx, t)
		switch {
		case unanswered == nil && committed:
			return nil
		case unanswered == nil, ctx.Err() != nil:
			return database.Unavailable(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(commitRetry):
		}
	}
}

// committed reports whether the transaction's change is in the database. It takes
// the lock that the transaction held, and so cannot look before that has ended.
func (s *Store) committed(ctx context.Context, t *transaction) (bool, error) {
	tx, err := s.db.Begin(ctx)
	if err != nil {
		return false, err
	}
	defer func() { _ = tx.Rollback() }() // nothing was changed
	if _, err := tx.ExecContext(ctx, `UPDATE counter SET revision = revision WHERE id = 1`); err != nil {
		return false, err
	}
	entries, err := database.ReadNumber(ctx, tx, `SELECT COUNT(*) FROM audit WHERE revision = $1 AND change_id = $2`, t.revision, t.id)
	return entries > 0, err
}

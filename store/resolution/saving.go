package resolution

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"strings"
	"time"

	"github.com/mtls-authz/mtls-authz/grants/names"
	"github.com/mtls-authz/mtls-authz/store/database"
)

const (
	// rowsAtOnce is how many rows a transaction writes: a broker's change must not
	// wait for long.
	rowsAtOnce = 500
	// keptFor is how long a forgotten name keeps its row, so that gateways see it.
	keptFor = time.Hour
)

// Saving is what [Resolutions.Begin] has started.
type Saving struct {
	of      *Resolutions
	page    *names.Page
	version int64
}

// Begin returns what is known, on which a look-up may build. What another one
// saves in the meantime is not overwritten.
func (r *Resolutions) Begin(ctx context.Context) (*Saving, error) {
	if err := r.Load(ctx); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return &Saving{r, r.book.Page(), r.version}, nil
}

// Known are the names that were looked up before, and what they stood for.
func (s *Saving) Known() *names.Page { return s.page }

// Save writes what has changed and forgets what nobody names any more, and
// brings the book up to date. If it fails, a part may be written.
func (s *Saving) Save(ctx context.Context, changed map[names.Reference]names.Resolution, forget []names.Reference) error {
	rows := make([][2]string, 0, len(changed)+len(forget))
	for reference, found := range changed {
		rows = append(rows, [2]string{referenceText(reference), foundText(found)})
	}
	for _, reference := range forget {
		rows = append(rows, [2]string{referenceText(reference), forgotten})
	}
	if len(rows) == 0 {
		return nil
	}
	for len(rows) > 0 {
		part := rows[:min(len(rows), rowsAtOnce)]
		if err := s.inTurn(ctx, func(ctx context.Context, tx *sql.Tx) error { return s.write(ctx, tx, part) }); err != nil {
			return err
		}
		rows = rows[len(part):]
	}
	if len(forget) > 0 {
		if err := s.inTurn(ctx, s.deleteForgotten); err != nil {
			return err
		}
	}
	return s.of.Load(ctx)
}

func (s *Saving) inTurn(ctx context.Context, write func(context.Context, *sql.Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.of.cfg.Timeout)
	defer cancel()
	return s.of.db.WriteInTurn(ctx, s.of.cfg.Turn, func(tx *sql.Tx) error { return write(ctx, tx) })
}

// nextVersion orders the transactions that write: others wait for it.
func nextVersion(ctx context.Context, tx *sql.Tx) (version int64, err error) {
	err = tx.QueryRowContext(ctx, `UPDATE resolution_turns SET version = version + 1 WHERE id = 0 RETURNING version`).Scan(&version)
	return version, err
}

// upsert takes rows for its %. A row that is newer than what is known was saved
// by another in the meantime; those of this saving have other references.
const upsert = `INSERT INTO resolutions (id, reference, found, version) VALUES % ON CONFLICT (id) DO UPDATE
	SET found = excluded.found, version = excluded.version WHERE resolutions.version <= $1`

func (s *Saving) write(ctx context.Context, tx *sql.Tx, rows [][2]string) error {
	version, err := nextVersion(ctx, tx)
	if err != nil {
		return err
	}
	q := database.Query{Args: []any{s.version}}
	values := make([]string, len(rows))
	for i, row := range rows {
		values[i] = "(" + q.Row("TEXT", idOf(row[0]), row[0], row[1]) + ", " + q.Row("BIGINT", version) + ")"
	}
	_, err = tx.ExecContext(ctx, strings.Replace(upsert, "%", strings.Join(values, ", "), 1), q.Args...)
	return err
}

// deleteForgotten deletes now and then the rows of names that nobody uses. Who has
// not seen them to be forgotten reads everything once more.
func (s *Saving) deleteForgotten(ctx context.Context, tx *sql.Tx) error {
	version, err := nextVersion(ctx, tx)
	if err != nil {
		return err
	}
	now := s.of.cfg.Now()
	due, err := tx.ExecContext(ctx, `UPDATE resolution_turns SET version = $1, taken_at = $2 WHERE id = 3 AND (taken_at <= $3 OR taken_at > $2)`,
		version, now.UnixMilli(), now.Add(-keptFor).UnixMilli())
	if err != nil {
		return err
	}
	if n, err := due.RowsAffected(); err != nil || n == 0 {
		return err
	}
	_, err = tx.ExecContext(ctx, `DELETE FROM resolutions WHERE found = ''`)
	return err
}

func idOf(reference string) string {
	digest := sha256.Sum256([]byte(reference))
	return hex.EncodeToString(digest[:])
}

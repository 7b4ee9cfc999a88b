// Package resolution keeps what sources by name stand for, so that all gateways
// of one foundation decide alike, and after a restart without Cloud Controller
// too.
//
// It trusts whoever saves to have looked the names up; of two that looked at
// once, the first one's word stands. Without the database the book stays as it
// is; a row that does not parse stands for nobody.
package resolution

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"maps"
	"sync"
	"time"

	"github.com/mtls-authz/mtls-authz/grants/names"
	"github.com/mtls-authz/mtls-authz/store/database"
)

// Config configures [New]. All of it is required.
type Config struct {
	// Timeout bounds every call, PollInterval is how often the changes of other
	// processes are looked for.
	Timeout, PollInterval time.Duration
	// Turn holds one transaction at a time of all that write in this process.
	Turn chan struct{}
	Now  func() time.Time
}

// Resolutions is safe for concurrent use.
type Resolutions struct {
	cfg  Config
	db   *database.Database
	book names.Book

	mu      sync.Mutex // held while the book changes
	version int64
	rows    map[names.Reference]row
	loaded  bool
}

// row is a resolution as the database has it.
type row struct {
	names.Resolution
	version int64
}

// New returns what a database keeps; see [Resolutions.Load] and
// [Resolutions.Follow].
func New(db *database.Database, cfg Config) *Resolutions {
	return &Resolutions{cfg: cfg, db: db}
}

// Book tells what names stand for. It follows the database.
func (r *Resolutions) Book() *names.Book { return &r.book }

// Follow brings the changes of other processes into the book, until its context
// ends.
func (r *Resolutions) Follow(ctx context.Context) {
	ticker := time.NewTicker(r.cfg.PollInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			_ = r.Load(ctx) // again at the next tick
		}
	}
}

// Load brings the book up to date.
func (r *Resolutions) Load(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	r.mu.Lock()
	defer r.mu.Unlock()
	version, err := database.ReadNumber(ctx, r.db, `SELECT version FROM resolution_turns WHERE id = 0`)
	if err != nil || r.loaded && version == r.version {
		return err
	}
	tx, err := r.db.Snapshot(ctx) // one moment for both tables
	if err != nil {
		return database.Unavailable(err)
	}
	defer func() { _ = tx.Rollback() }() // only read
	if version, err = database.ReadNumber(ctx, tx, `SELECT version FROM resolution_turns WHERE id = 0`); err != nil {
		return err
	}
	list, _, err := database.ReadAll(ctx, tx, scan, `SELECT reference, found, version FROM resolutions`)
	if err != nil {
		return err
	}
	rows, entries := make(map[names.Reference]row, len(list)), make(map[names.Reference]names.Resolution, len(list))
	for _, one := range list {
		rows[one.reference], entries[one.reference] = row{one.found, one.version}, one.found
	}
	r.version, r.rows, r.loaded = version, rows, true
	r.book.Turn(names.NewPage(entries))
	return nil
}

// The turns that gateways take.
const (
	// Round is looking every name up.
	Round = 1
	// News is looking up the names that were never looked up.
	News = 2
)

// TakeTurn reports whether this process is the one to look up, which somebody is
// once in this while.
func (r *Resolutions) TakeTurn(ctx context.Context, turn int, every time.Duration) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	now := r.cfg.Now()
	// A time in the future is of a clock that was wrong.
	result, err := r.db.ExecContext(ctx, `UPDATE resolution_turns SET taken_at = $1 WHERE id = $2 AND (taken_at <= $3 OR taken_at > $4)`,
		now.UnixMilli(), turn, now.Add(-every).UnixMilli(), now.Add(every).UnixMilli())
	if err != nil {
		return false, database.Unavailable(err)
	}
	taken, err := result.RowsAffected()
	return taken > 0, err
}

// Saving is what [Resolutions.Begin] has started.
type Saving struct {
	of   *Resolutions
	rows map[names.Reference]row
}

// Begin returns what is known, on which a look-up may build. What another one
// saves in the meantime is not overwritten.
func (r *Resolutions) Begin(ctx context.Context) (*Saving, error) {
	if err := r.Load(ctx); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return &Saving{r, maps.Clone(r.rows)}, nil
}

// Known are the names that were looked up before, and what they stood for.
func (s *Saving) Known() map[names.Reference]names.Resolution {
	known := make(map[names.Reference]names.Resolution, len(s.rows))
	for reference, row := range s.rows {
		known[reference] = row.Resolution
	}
	return known
}

// Save writes what has changed and forgets what nobody names any more, and
// brings the book up to date.
func (s *Saving) Save(ctx context.Context, changed map[names.Reference]names.Resolution, forget []names.Reference) error {
	if len(changed) == 0 && len(forget) == 0 {
		return nil
	}
	bounded, cancel := context.WithTimeout(ctx, s.of.cfg.Timeout)
	defer cancel()
	select {
	case s.of.cfg.Turn <- struct{}{}:
	case <-bounded.Done():
		return database.Unavailable(bounded.Err())
	}
	err := s.write(bounded, changed, forget)
	<-s.of.cfg.Turn
	if err != nil {
		return database.Unavailable(err)
	}
	return s.of.Load(ctx)
}

func (s *Saving) write(ctx context.Context, changed map[names.Reference]names.Resolution, forget []names.Reference) error {
	tx, err := s.of.db.BeginYielding(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // no effect after a commit
	var version int64
	err = tx.QueryRowContext(ctx, `UPDATE resolution_turns SET version = version + 1 WHERE id = 0 RETURNING version`).Scan(&version)
	if err != nil {
		return err
	}
	for reference, found := range changed {
		text := referenceText(reference)
		_, err := tx.ExecContext(ctx, `INSERT INTO resolutions (id, reference, found, version) VALUES ($1, $2, $3, $4)
			ON CONFLICT (id) DO UPDATE SET found = excluded.found, version = excluded.version WHERE resolutions.version = $5`,
			idOf(text), text, foundText(found), version, s.rows[reference].version)
		if err != nil {
			return err
		}
	}
	for _, reference := range forget {
		_, err := tx.ExecContext(ctx, `DELETE FROM resolutions WHERE id = $1 AND version = $2`, idOf(referenceText(reference)), s.rows[reference].version)
		if err != nil {
			return err
		}
	}
	return tx.Commit()
}

func idOf(reference string) string {
	digest := sha256.Sum256([]byte(reference))
	return hex.EncodeToString(digest[:])
}

type scanned struct {
	reference names.Reference
	found     names.Resolution
	version   int64
}

// scan is a [database.Scanner].
func scan(row *sql.Rows) func() (scanned, error) {
	var one scanned
	var reference, found string
	err := row.Scan(&reference, &found, &one.version)
	return func() (scanned, error) {
		if err == nil {
			one.reference, err = parseReference(reference)
		}
		if err == nil {
			one.found, err = parseFound(found)
		}
		return one, err
	}
}

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
	"sync"
	"time"

	"github.com/mtls-authz/mtls-authz/grants/names"
	"github.com/mtls-authz/mtls-authz/store/database"
)

// loadTimeout bounds reading everything.
const loadTimeout = time.Minute

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

	mu sync.Mutex // held while the book changes
	// version is that of the newest row in the book.
	version int64
	loaded  bool
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
	r.mu.Lock()
	defer r.mu.Unlock()
	look, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	version, err := database.ReadNumber(look, r.db, `SELECT version FROM resolution_turns WHERE id = 0`)
	if err != nil || r.loaded && version == r.version {
		return err
	}
	ctx, cancel = context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	return r.read(ctx)
}

// read reads what has changed, and everything if that does not tell: at first,
// after a restore of the database, or where rows have been deleted since that were
// not seen to be forgotten.
func (r *Resolutions) read(ctx context.Context) error {
	tx, err := r.db.Snapshot(ctx) // one moment for both tables
	if err != nil {
		return database.Unavailable(err)
	}
	defer func() { _ = tx.Rollback() }() // only read
	version, err := database.ReadNumber(ctx, tx, `SELECT version FROM resolution_turns WHERE id = 0`)
	if err != nil {
		return err
	}
	deleted, err := database.ReadNumber(ctx, tx, `SELECT version FROM resolution_turns WHERE id = 3`)
	if err != nil {
		return err
	}
	page, since := r.book.Page(), r.version
	if !r.loaded || since < deleted || version < since {
		page, since = nil, -1
	}
	rows, _, err := database.ReadAll(ctx, tx, scan, `SELECT reference, found FROM resolutions WHERE version > $1`, since)
	if err != nil {
		return err
	}
	changed, gone := make(map[names.Reference]names.Resolution, len(rows)), []names.Reference(nil)
	for _, row := range rows {
		if row.forgotten {
			gone = append(gone, row.reference)
		} else {
			changed[row.reference] = row.found
		}
	}
	r.version, r.loaded = version, true
	r.book.Turn(page.With(changed, gone))
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

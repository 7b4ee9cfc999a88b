// Package board is where gateways of one foundation tell one another what they
// have found out: each note has a kind, a name, and an end. It is no state: no
// revision, no audit, and whoever reads a note judges for himself what it is
// worth.
//
// It trusts its callers to keep notes few and secrets out of them. Its errors are
// database.ErrUnavailable: then nothing was told, or nothing is known.
package board

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/mtls-authz/mtls-authz/store/database"
)

const (
	// maxValue bounds a note, in bytes.
	maxValue = 64 << 10
	// maxNotes bounds what is read of a kind: the newest.
	maxNotes = 10_000
	// endedAtOnce is how many that have ended a post removes.
	endedAtOnce = 1000
)

// A Note is a fact and how long it is worth something.
type Note struct {
	Name, Value string
	// At is when it was found out: of two notes of one name the later one
	// stands. Until is when it ends. Both to the millisecond.
	At, Until time.Time
}

// Config configures [New]. All of it is required.
type Config struct {
	// Timeout bounds every call.
	Timeout time.Duration
	// Turn holds one transaction at a time of all that write in this process, so
	// that they take turns: SQLite's lock goes to whoever asks most often.
	Turn chan struct{}
	Now  func() time.Time
}

// Board is safe for concurrent use.
type Board struct {
	cfg Config
	db  *database.Database
}

// New returns the board of a database.
func New(db *database.Database, cfg Config) *Board { return &Board{cfg, db} }

// Post puts notes of one kind on the board, all of them or none. A note that is
// older than the one of its name that is there changes nothing.
func (b *Board) Post(ctx context.Context, kind string, notes ...Note) error {
	for _, note := range notes {
		if len(note.Value) > maxValue {
			return fmt.Errorf("note %q of kind %q: %d bytes; expected at most %d", note.Name, kind, len(note.Value), maxValue)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	return b.db.WriteInTurn(ctx, b.cfg.Turn, func(tx *sql.Tx) error { return b.write(ctx, tx, kind, notes) })
}

func (b *Board) write(ctx context.Context, tx *sql.Tx, kind string, notes []Note) error {
	for _, note := range notes {
		_, err := tx.ExecContext(ctx, `INSERT INTO board (kind, name, value, made_at, ends_at) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (kind, name) DO UPDATE SET value = excluded.value, made_at = excluded.made_at, ends_at = excluded.ends_at
			WHERE board.made_at <= excluded.made_at`,
			kind, note.Name, note.Value, note.At.UnixMilli(), note.Until.UnixMilli())
		if err != nil {
			return err
		}
	}
	_, err := tx.ExecContext(ctx, `DELETE FROM board WHERE (kind, name) IN (SELECT kind, name FROM board WHERE ends_at <= $1 ORDER BY ends_at LIMIT $2)`,
		b.cfg.Now().UnixMilli(), endedAtOnce)
	return err
}

// Read returns the notes of a kind that have not ended, the newest first.
func (b *Board) Read(ctx context.Context, kind string) ([]Note, error) {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	notes, damaged, err := database.ReadAll(ctx, b.db, scan, `SELECT name, value, made_at, ends_at FROM board
		WHERE kind = $1 AND ends_at > $2 ORDER BY made_at DESC, name LIMIT $3`, kind, b.cfg.Now().UnixMilli(), maxNotes)
	if err == nil && len(damaged) > 0 {
		err = database.Unavailable(damaged[0])
	}
	return notes, err
}

func scan(row *sql.Rows) func() (Note, error) {
	var note Note
	var at, until int64
	err := row.Scan(&note.Name, &note.Value, &at, &until)
	note.At, note.Until = time.UnixMilli(at).UTC(), time.UnixMilli(until).UTC()
	return func() (Note, error) { return note, err }
}

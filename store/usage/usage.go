// Package usage keeps when each binding was last used. The hot path notes it in
// memory; now and then it is written to the database, where of several
// gateways' words the latest counts.
//
// It trusts its callers to note only bindings that are there. What it cannot
// write it keeps for the next time, and what it cannot keep it forgets: the last
// use is for people, and nothing is decided by it.
package usage

import (
	"context"
	"database/sql"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mtls-authz/mtls-authz/store/database"
)

const (
	// maxNoted bounds the bindings that are kept while the database is away.
	maxNoted = 200_000
	// farewell bounds the last write, when the process ends.
	farewell = 2 * time.Second
)

// Config configures [New]. All of it is required.
type Config struct {
	// Timeout bounds every call, Interval is how often is written what was
	// noted.
	Timeout, Interval time.Duration
	// Turn holds one transaction at a time of all that write in this process,
	// so that they take turns: SQLite's lock goes to whoever asks most often.
	Turn chan struct{}
}

// Uses are the last uses that this process knows of. It is safe for concurrent
// use.
type Uses struct {
	cfg Config
	db  *database.Database
	// noted holds what was used since the last write but one, and more only if
	// that failed.
	noted  sync.Map // binding id -> *use
	number atomic.Int64
	// writing holds one [Uses.Write] at a time.
	writing chan struct{}
}

// use is the last one of a binding, in seconds of Unix time.
type use struct {
	at      atomic.Int64
	written int64 // of whoever writes
}

// New returns uses of which none is known yet; see [Uses.Run].
func New(db *database.Database, cfg Config) *Uses {
	return &Uses{cfg: cfg, db: db, writing: make(chan struct{}, 1)}
}

// Note remembers that a binding was used. It never waits, and of all uses within
// a second only the first writes to memory that others read.
func (u *Uses) Note(bindingID string, at time.Time) {
	found, ok := u.noted.Load(bindingID)
	if !ok {
		if u.number.Load() >= maxNoted {
			return
		}
		// The id may be part of a longer text, such as a request.
		if found, ok = u.noted.LoadOrStore(strings.Clone(bindingID), &use{}); !ok {
			u.number.Add(1)
		}
	}
	last, second := &found.(*use).at, at.Unix()
	for known := last.Load(); known < second && !last.CompareAndSwap(known, second); known = last.Load() {
	}
}

// Last returns when a binding was last used, to the second, as far as it is
// noted here; zero if it is not.
func (u *Uses) Last(bindingID string) time.Time {
	if found, ok := u.noted.Load(bindingID); ok {
		if at := found.(*use).at.Load(); at > 0 {
			return time.Unix(at, 0).UTC()
		}
	}
	return time.Time{}
}

// Run writes every Interval, and once more when its context ends.
func (u *Uses) Run(ctx context.Context) {
	ticker := time.NewTicker(u.cfg.Interval)
	defer ticker.Stop()
	for {
		// What fails is kept; that the database is away, the view tells.
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
			defer cancel()
			_ = u.Write(last)
			return
		case <-ticker.C:
			_ = u.Write(ctx)
		}
	}
}

// Write writes what is noted. Its error is a [database.ErrUnavailable]: what was
// not written is kept for the next time.
func (u *Uses) Write(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, u.cfg.Timeout)
	defer cancel()
	select {
	case u.writing <- struct{}{}:
		defer func() { <-u.writing }()
	case <-ctx.Done():
		return database.Unavailable(ctx.Err())
	}
	fresh := u.fresh()
	for len(fresh) > 0 {
		batch := fresh[:min(len(fresh), maxBatch)]
		if err := u.writeBatch(ctx, batch); err != nil {
			return err
		}
		fresh = fresh[len(batch):]
	}
	return nil
}

func (u *Uses) writeBatch(ctx context.Context, batch []row) error {
	if err := u.db.WriteInTurn(ctx, u.cfg.Turn, func(tx *sql.Tx) error { return write(ctx, tx, batch) }); err != nil {
		return err
	}
	for _, one := range batch {
		one.use.written = one.at
	}
	return nil
}

// fresh are the uses that are not written yet. It forgets those that are and have
// not changed since.
func (u *Uses) fresh() (fresh []row) {
	u.noted.Range(func(id, noted any) bool {
		use := noted.(*use)
		if at := use.at.Load(); at > use.written {
			fresh = append(fresh, row{id.(string), at, use})
		} else if u.noted.CompareAndDelete(id, noted) {
			u.number.Add(-1)
		}
		return true
	})
	return fresh
}

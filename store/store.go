package store

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mtls-authz/mtls-authz/store/board"
	"github.com/mtls-authz/mtls-authz/store/database"
	"github.com/mtls-authz/mtls-authz/store/list"
	"github.com/mtls-authz/mtls-authz/store/record"
	"github.com/mtls-authz/mtls-authz/store/resolution"
	"github.com/mtls-authz/mtls-authz/store/sightings"
	"github.com/mtls-authz/mtls-authz/store/usage"
	"github.com/mtls-authz/mtls-authz/store/view"
)

var (
	// ErrNotFound: there is no such instance or binding.
	ErrNotFound = database.ErrNotFound
	// ErrExists: the id is taken by an instance or binding with other content.
	ErrExists = errors.New("exists already with other content")
	// ErrDeleted: the id was deleted, known or not, less than an hour ago. Who
	// creates it now is late: nobody would delete it again.
	ErrDeleted = errors.New("was deleted less than an hour ago and is not created again under the same id")
	// ErrUnavailable: the database did not do what it was asked, or not in
	// time. Nothing was changed, unless it went away during the commit and did
	// not come back in time to tell: then everything was, or nothing.
	ErrUnavailable = database.ErrUnavailable
	// ErrDamaged: the row is there and does not parse. It is an ErrUnavailable
	// too.
	ErrDamaged = database.ErrDamaged
	// ErrStale: the database has not been reached for too long.
	ErrStale = view.ErrStale
	// ErrTooLarge: the page of a list holds too much; a smaller page may not.
	ErrTooLarge = list.ErrTooLarge
)

// Config configures [Open].
type Config struct {
	// URL is that of the database; see [database.Config]. Required.
	URL string
	// CA holds PostgreSQL's authorities in PEM; see [database.Config].
	CA []byte
	// Connections is the most that are open at once. Default: 8.
	Connections int
	// ReportAllowed is the operator's word on report mode; see parameters.Bound.
	ReportAllowed bool
	// Timeout bounds every call. Default: 5 s.
	Timeout time.Duration
	// PollInterval is how often the changes of other processes are looked for.
	// Default: 250 ms.
	PollInterval time.Duration
	// UsageInterval is how often the last uses of bindings are written.
	// Default: 30 s.
	UsageInterval time.Duration
	// SightingsInterval is how often is written who has called. Default: 5 s.
	SightingsInterval time.Duration
	// MaxStale is how long the view may be decided by without the database.
	// Default: 24 h.
	MaxStale time.Duration
	// Metrics gets the counter of changes; nil means none.
	Metrics prometheus.Registerer
	// Progress is told while many bindings are loaded, if it is set.
	Progress func(loaded, total int)
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

func (c *Config) setDefaults() {
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	if c.PollInterval == 0 {
		c.PollInterval = 250 * time.Millisecond
	}
	if c.UsageInterval == 0 {
		c.UsageInterval = 30 * time.Second
	}
	if c.SightingsInterval == 0 {
		c.SightingsInterval = 5 * time.Second
	}
	if c.MaxStale == 0 {
		c.MaxStale = 24 * time.Hour
	}
	if c.Progress == nil {
		c.Progress = func(int, int) {}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
}

// A Store keeps the state in a database and the View of it in memory. It is
// safe for concurrent use.
type Store struct {
	cfg  Config
	db   *database.Database
	view *view.View
	uses *usage.Uses
	// seen is who has called.
	seen *sightings.Sightings
	// board has what gateways tell one another.
	board *board.Board
	// names has what sources by name stand for.
	names   *resolution.Resolutions
	changes *prometheus.CounterVec
	// writing holds one transaction at a time, so that changes that wait hold
	// no connection.
	writing chan struct{}
	// stop ends what runs in the background, running waits for it.
	stop    context.CancelFunc
	running sync.WaitGroup
}

// What the store keeps.
type (
	// Instance is a service instance.
	Instance = record.Instance
	// Binding is a route bound to a service instance.
	Binding = record.Binding
	// Cause is why something changes.
	Cause = record.Cause
	// Entry is one line of the audit.
	Entry = record.Entry
)

// Open opens the database, migrates it, loads the view, and follows the changes
// of other processes until Close. Its errors show no password.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	cfg.setDefaults()
	db, err := database.Open(database.Config{URL: cfg.URL, CA: cfg.CA, Connections: cfg.Connections, Timeout: cfg.Timeout})
	if err != nil {
		return nil, err
	}
	writing := make(chan struct{}, 1)
	resolved := resolution.New(db, resolution.Config{Timeout: cfg.Timeout, PollInterval: cfg.PollInterval, Turn: writing, Now: cfg.Now})
	s := &Store{
		cfg: cfg, db: db, writing: writing, names: resolved,
		view: view.New(db, view.Config{
			ReportAllowed: cfg.ReportAllowed, Timeout: cfg.Timeout, PollInterval: cfg.PollInterval, MaxStale: cfg.MaxStale,
			Progress: cfg.Progress, Now: cfg.Now, Names: resolved.Book(),
		}),
		uses:  usage.New(db, usage.Config{Timeout: cfg.Timeout, Interval: cfg.UsageInterval, Turn: writing}),
		seen:  sightings.New(db, sightings.Config{Timeout: cfg.Timeout, Interval: cfg.SightingsInterval, Turn: writing}),
		board: board.New(db, board.Config{Timeout: cfg.Timeout, Turn: writing, Now: cfg.Now}),
	}
	s.changes, err = countChanges(cfg.Metrics)
	if err == nil {
		err = s.ping(ctx)
	}
	if err == nil {
		err = db.Migrate(ctx)
	}
	if err == nil {
		err = s.names.Load(ctx)
	}
	if err == nil {
		err = s.view.Load(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", db, err), db.Close())
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.running.Go(func() { s.view.Follow(background) })
	s.running.Go(func() { s.uses.Run(background) })
	s.running.Go(func() { s.names.Follow(background) })
	s.running.Go(func() { s.seen.Run(background) })
	return s, nil
}

// Close ends following, writes the last uses, and closes the database. The view
// stays as it is.
func (s *Store) Close() error {
	s.stop()
	s.running.Wait()
	return s.db.Close()
}

// View is the in-memory view, kept up to date.
func (s *Store) View() *view.View { return s.view }

// Board is where the gateways on this database tell one another what they have
// found out.
func (s *Store) Board() *board.Board { return s.board }

// Names is what sources by name stand for.
func (s *Store) Names() *resolution.Resolutions { return s.names }

// Sightings are who has called, with what outcome.
func (s *Store) Sightings() *sightings.Sightings { return s.seen }

// Used notes that a request was allowed by a binding; see [BoundRoute]. It is for
// the hot path: it never waits, and allocates only where it has not been used for
// a while. No change comes of it: no revision, no audit.
func (s *Store) Used(bindingID string, at time.Time) { s.uses.Note(bindingID, at) }

// Damaged are the rows that could not be read when everything was; see
// [view.View.Damaged].
func (s *Store) Damaged() []error { return s.view.Damaged() }

// bounded limits what a call may wait for the database.
func (s *Store) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.cfg.Timeout)
}

// Ping reports whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	if err := s.ping(ctx); err != nil {
		return database.Unavailable(err)
	}
	return nil
}

func (s *Store) ping(ctx context.Context) error { return s.db.PingContext(ctx) }

const keyBytes = 32

// Key returns 32 random bytes that are made once under this name and kept.
func (s *Store) Key(ctx context.Context, name string) ([]byte, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	fresh := make([]byte, keyBytes)
	rand.Read(fresh) // never fails
	_, err := s.db.ExecContext(ctx, `INSERT INTO keys (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING`,
		name, base64.StdEncoding.EncodeToString(fresh))
	if err != nil {
		return nil, database.Unavailable(err)
	}
	var text string
	if err := s.db.QueryRowContext(ctx, `SELECT value FROM keys WHERE name = $1`, name).Scan(&text); err != nil {
		return nil, database.Unavailable(err)
	}
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(key) != keyBytes {
		return nil, fmt.Errorf("%w: key %q in the database is damaged", ErrUnavailable, name)
	}
	return key, nil
}

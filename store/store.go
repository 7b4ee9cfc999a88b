package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/mtls-authz/mtls-authz/grants/parameters"

	"github.com/mtls-authz/mtls-authz/grants/route"

	"github.com/pressly/goose/v3"

	"github.com/mtls-authz/mtls-authz/grants"
)

var (
	// ErrNotFound: there is no such instance or binding.
	ErrNotFound = errors.New("not found")
	// ErrExists: the id is taken by an instance or binding with other content.
	ErrExists = errors.New("exists already with other content")
	// ErrUnavailable: the database did not do what it was asked; nothing was
	// changed as far as is known.
	ErrUnavailable = errors.New("the state store is not available")
	// ErrDamaged: the row is there and does not parse. It is an ErrUnavailable
	// too.
	ErrDamaged = errors.New("damaged in the database")
)

//go:embed migrations/*.sql
var migrations embed.FS

// Config configures [Open].
type Config struct {
	// URL is sqlite:///absolute/path or sqlite://relative/path. Required.
	URL string
	// ReportAllowed is the operator's word on report mode; see parameters.Bound.
	ReportAllowed bool
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// A Store keeps the state in a database and the View of it in memory. It is
// safe for concurrent use.
type Store struct {
	db   *sql.DB
	view *View
	now  func() time.Time
	// damaged is written once, by load.
	damaged []error
	// writing makes the order of changes to the view that of the commits.
	writing sync.Mutex
}

// Instance is a service instance.
type Instance struct {
	ID string
	// PlanID is the plan's id in the catalog, Plan the scope that it sets.
	PlanID     string
	Plan       grants.Scope
	Owner      grants.Owner
	Parameters parameters.Parameters
	// Revision is the store's revision at the last change.
	Revision             int64
	CreatedAt, UpdatedAt time.Time
	// CreatedBy and UpdatedBy are originating identities as the platform
	// named them; "" where it named nobody.
	CreatedBy, UpdatedBy string
}

// Binding is a route bound to a service instance.
type Binding struct {
	ID, InstanceID string
	Route          route.Route
	Parameters     parameters.Parameters
	// URL is the route_service_url that was given to the platform. It holds
	// the token and is a secret.
	URL       string
	Revision  int64
	CreatedAt time.Time
	CreatedBy string
}

// Open opens the database, migrates it and loads the view.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	db, err := openDatabase(cfg.URL)
	if err != nil {
		return nil, err
	}
	s := &Store{db: db, view: newView(cfg.ReportAllowed), now: cfg.Now}
	if s.now == nil {
		s.now = time.Now
	}
	if err := s.prepare(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", cfg.URL, err), db.Close())
	}
	return s, nil
}

func (s *Store) prepare(ctx context.Context) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, s.db, files)
	if err != nil {
		return err
	}
	if err := migrate(ctx, provider); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return s.load(ctx)
}

// migrate tries again as long as the schema advances: of two processes that
// start at once, the slower one fails at each migration that the other has
// just committed.
func migrate(ctx context.Context, provider *goose.Provider) error {
	for before := int64(-1); ; {
		_, err := provider.Up(ctx)
		if err == nil {
			return nil
		}
		now, versionErr := provider.GetDBVersion(ctx)
		if versionErr != nil || now <= before {
			return err
		}
		before = now
	}
}

// Close closes the database.
func (s *Store) Close() error { return s.db.Close() }

// View is the in-memory view, kept up to date.
func (s *Store) View() *View { return s.view }

// Ping reports whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.db.PingContext(ctx); err != nil {
		return unavailable(err)
	}
	return nil
}

const keyBytes = 32

// Key returns 32 random bytes that are made once under this name and kept.
func (s *Store) Key(ctx context.Context, name string) ([]byte, error) {
	fresh := make([]byte, keyBytes)
	rand.Read(fresh) // never fails
	_, err := s.db.ExecContext(ctx, `INSERT INTO keys (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING`,
		name, base64.StdEncoding.EncodeToString(fresh))
	if err != nil {
		return nil, unavailable(err)
	}
	var text string
	if err := s.db.QueryRowContext(ctx, `SELECT value FROM keys WHERE name = $1`, name).Scan(&text); err != nil {
		return nil, unavailable(err)
	}
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(key) != keyBytes {
		return nil, fmt.Errorf("%w: key %q in the database is damaged", ErrUnavailable, name)
	}
	return key, nil
}

// errUnchanged ends a transaction that found nothing to do.
var errUnchanged = errors.New("unchanged")

// change runs f in one transaction with the next revision, and puts the new
// state of the instance into the view before it returns. It reports false if f
// found nothing to do or failed.
func (s *Store) change(ctx context.Context, instanceID string, f func(tx *sql.Tx, revision int64) error) (bool, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return false, unavailable(err)
	}
	defer func() { _ = tx.Rollback() }() // no effect after a commit
	var revision int64
	// Taken first: the row's lock makes the order of revisions that of commits.
	err = tx.QueryRowContext(ctx, `UPDATE counter SET revision = revision + 1 WHERE id = 1 RETURNING revision`).Scan(&revision)
	if err != nil {
		return false, unavailable(err)
	}
	switch err := f(tx, revision); {
	case errors.Is(err, errUnchanged):
		return false, nil
	case err != nil:
		return false, err
	}
	instance, bindings, err := readBound(ctx, tx, instanceID)
	if err != nil {
		return false, err
	}
	if err := tx.Commit(); err != nil {
		return false, unavailable(err)
	}
	s.view.set(instanceID, instance, bindings)
	return true, nil
}

// readBound reads what the view holds of an instance. A deleted instance is
// zero and has no bindings; so is a damaged one, which admits nobody but can be
// deleted. Damaged bindings are left out.
func readBound(ctx context.Context, q querier, instanceID string) (Instance, []Binding, error) {
	instance, err := readInstance(ctx, q, instanceID)
	switch {
	case errors.Is(err, ErrNotFound), errors.Is(err, ErrDamaged):
		return Instance{}, nil, nil
	case err != nil:
		return Instance{}, nil, err
	}
	bindings, _, err := readBindings(ctx, q, instanceID)
	return instance, bindings, err
}

func deleteOne(result sql.Result, err error) error {
	if err != nil {
		return unavailable(err)
	}
	rows, err := result.RowsAffected()
	if err != nil {
		return unavailable(err)
	}
	if rows == 0 {
		return ErrNotFound
	}
	return nil
}

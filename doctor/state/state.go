// Package state reads what the gateways keep in their database, and changes
// nothing there: no schema, no key, no file is made. It tells what is bound without
// the secret in route service URLs.
//
// It trusts the database's content, which gateways wrote. Its errors show no
// password; an error means that nothing is known.
package state

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/mtls-authz/mtls-authz/doctor"
	"github.com/mtls-authz/mtls-authz/store/database"
)

var (
	// ErrNone: there is no SQLite file, as on an operator's machine, or in a task
	// beside the gateway.
	ErrNone = errors.New("there is no such file here")
	// ErrEmpty: no gateway has used this database yet.
	ErrEmpty = errors.New("no gateway has used this database yet")
)

// Config configures [Open].
type Config struct {
	// URL is STORE_URL, CA the authorities of PostgreSQL's certificate in PEM.
	URL string
	CA  []byte
}

// State is a database that is only read. Close it.
type State struct {
	db       *database.Database
	postgres bool
}

// Open opens a database and does not connect to it yet.
func Open(cfg Config) (*State, error) {
	path, sqlite := strings.CutPrefix(cfg.URL, "sqlite://")
	if sqlite {
		// Opening it would make the file, and a database of an empty one.
		info, err := os.Stat(path)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%q: %w", path, ErrNone)
		case info.Size() == 0:
			return nil, fmt.Errorf("%q: %w", path, ErrEmpty)
		}
	}
	db, err := database.Open(database.Config{URL: cfg.URL, CA: cfg.CA, Connections: 2})
	if err != nil {
		return nil, err
	}
	return &State{db, !sqlite}, nil
}

// Close closes the database.
func (s *State) Close() error { return s.db.Close() }

// Server is what answers.
type Server struct {
	// Kind is PostgreSQL or SQLite.
	Kind, Version string
	// Major is the number of PostgreSQL's release, 0 for SQLite.
	Major int
	// TLS tells whether the connection is encrypted, Standby that the server does
	// not take changes.
	TLS, Standby bool
	// Latency is the shortest of several round trips.
	Latency time.Duration
	// Ahead is how much the server's clock is ahead of this one, beyond what a round
	// trip can explain; negative: behind.
	Ahead time.Duration
	// Schema is the newest migration that was applied; 0: none.
	Schema int64
}

// roundTrips are made to measure one.
const roundTrips = 5

// Server asks the database who it is.
func (s *State) Server(ctx context.Context) (server Server, err error) {
	for range roundTrips {
		begun := time.Now()
		if _, err := database.ReadNumber(ctx, s.db, `SELECT 1`); err != nil {
			return server, err
		}
		if took := time.Since(begun); server.Latency == 0 || took < server.Latency {
			server.Latency = took
		}
	}
	if s.postgres {
		err = s.askPostgres(ctx, &server)
	} else {
		server.Kind = "SQLite"
		err = s.db.QueryRowContext(ctx, `SELECT sqlite_version()`).Scan(&server.Version)
	}
	if err != nil {
		return server, database.Unavailable(err)
	}
	server.Schema, err = s.schema(ctx)
	return server, err
}

func (s *State) askPostgres(ctx context.Context, server *Server) error {
	server.Kind = "PostgreSQL"
	var number int
	var milliseconds int64
	begun := time.Now()
	err := s.db.QueryRowContext(ctx, `SELECT current_setting('server_version'), current_setting('server_version_num')::int, pg_is_in_recovery(),
		COALESCE((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false), (EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::bigint`).
		Scan(&server.Version, &number, &server.Standby, &server.TLS, &milliseconds)
	server.Major, server.Ahead = number/10_000, doctor.Ahead(time.UnixMilli(milliseconds), begun, time.Now(), time.Millisecond)
	return err
}

func (s *State) schema(ctx context.Context) (int64, error) {
	there := `SELECT COUNT(*) FROM sqlite_master WHERE name = 'goose_db_version'`
	if s.postgres {
		there = `SELECT COUNT(*) WHERE to_regclass('goose_db_version') IS NOT NULL`
	}
	if n, err := database.ReadNumber(ctx, s.db, there); n == 0 || err != nil {
		return 0, err
	}
	return database.ReadNumber(ctx, s.db, `SELECT COALESCE(MAX(version_id), 0) FROM goose_db_version WHERE is_applied`)
}

func (s *State) used(ctx context.Context) error {
	version, err := s.schema(ctx)
	if err == nil && version == 0 {
		return ErrEmpty
	}
	return err
}

// Key is one that the gateways keep under a name; nil: they have none.
func (s *State) Key(ctx context.Context, name string) ([]byte, error) {
	if err := s.used(ctx); err != nil {
		return nil, err
	}
	n, err := database.ReadNumber(ctx, s.db, `SELECT COUNT(*) FROM keys WHERE name = $1`, name)
	if n == 0 || err != nil {
		return nil, err
	}
	var text string
	if err := s.db.QueryRowContext(ctx, `SELECT value FROM keys WHERE name = $1`, name).Scan(&text); err != nil {
		return nil, database.Unavailable(err)
	}
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("key %q in the database is damaged", name)
	}
	return key, nil
}

// Binding is a bound route.
type Binding struct {
	ID, Instance string
	// Route is host[/path].
	Route string
	// Prefix is scheme and host of the route service URL that the platform was
	// given: the rest is a secret.
	Prefix string
	// Org and Space are guids of the instance.
	Org, Space string
}

// Host is the host of the route, Path the rest.
func (b Binding) Host() string { host, _, _ := strings.Cut(b.Route, "/"); return host }

// Path is the route's context path, "" if it has none.
func (b Binding) Path() string { return b.Route[len(b.Host()):] }

// Bindings are all, in the order of their routes.
func (s *State) Bindings(ctx context.Context) (all []Binding, err error) {
	if err := s.used(ctx); err != nil {
		return nil, err
	}
	rows, err := s.db.QueryContext(ctx, `SELECT b.id, b.instance_id, b.route, b.url, i.org, i.space
		FROM bindings b JOIN instances i ON i.id = b.instance_id ORDER BY b.route, b.id`)
	if err != nil {
		return nil, database.Unavailable(err)
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	for rows.Next() {
		var b Binding
		var secret string
		if err := rows.Scan(&b.ID, &b.Instance, &b.Route, &secret, &b.Org, &b.Space); err != nil {
			return nil, database.Unavailable(err)
		}
		b.Prefix = Prefix(secret)
		all = append(all, b)
	}
	if err := rows.Err(); err != nil {
		return nil, database.Unavailable(err)
	}
	return all, nil
}

// Prefix is scheme and host of a route service URL, without what is secret in it;
// "" for what is none.
func Prefix(routeServiceURL string) string {
	u, err := url.Parse(routeServiceURL)
	if err != nil || u.Host == "" {
		return ""
	}
	return strings.ToLower(u.Scheme + "://" + u.Host)
}

package database

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Config configures [Open].
type Config struct {
	// URL is sqlite:///absolute/path, sqlite://relative/path or
	// postgres://user:password@host:port/name?sslmode=... Required.
	URL string
	// CA holds, in PEM, the only authorities that PostgreSQL's certificate may
	// come from. With it, TLS is required and the host's name verified, unless
	// the URL has sslmode=require or verify-ca, which do not look at the name.
	CA []byte
	// Connections is the most that are open at once, one for notifications
	// not counted. Default: 8.
	Connections int
	// Timeout bounds dialling, and waiting for another process's transaction
	// on a SQLite file. Default: 5 s.
	Timeout time.Duration
}

const (
	defaultConnections = 8
	defaultTimeout     = 5 * time.Second
	// channel is where PostgreSQL tells of commits.
	channel = "mtls_authz"
)

// A Database is open. It is safe for concurrent use.
type Database struct {
	*sql.DB
	// name tells the database in errors, without secrets.
	name string
	// postgres is nil for SQLite.
	postgres *pgx.ConnConfig
}

// Open opens a database and does not connect to it yet. A SQLite file is made
// if it is not there.
func Open(cfg Config) (*Database, error) {
	if cfg.Connections == 0 {
		cfg.Connections = defaultConnections
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
	var d *Database
	var err error
	if strings.HasPrefix(cfg.URL, "postgres://") || strings.HasPrefix(cfg.URL, "postgresql://") {
		d, err = openPostgres(cfg)
	} else {
		d, err = openSQLite(cfg)
	}
	if err != nil {
		return nil, err
	}
	d.SetMaxOpenConns(cfg.Connections)
	d.SetMaxIdleConns(cfg.Connections)
	// A connection to a server that has become a standby must not stay.
	d.SetConnMaxLifetime(10 * time.Minute)
	return d, nil
}

// String names the database without secrets.
func (d *Database) String() string { return d.name }

// Begin begins a transaction that writes.
func (d *Database) Begin(ctx context.Context) (*sql.Tx, error) {
	// A gateway that freezes here must not hold up all others.
	return d.begin(ctx, `SET LOCAL idle_in_transaction_session_timeout = '10s'`)
}

// WriteInTurn writes, in one transaction, what may as well be written later:
// rather than wait for another's lock, or make others wait, it fails, with an
// [ErrUnavailable]. On SQLite, where nothing is locked for long, it waits as all
// do. The turn is held by one transaction at a time of all that write in this
// process: SQLite's lock goes to whoever asks most often.
func (d *Database) WriteInTurn(ctx context.Context, turn chan struct{}, write func(*sql.Tx) error) error {
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	case <-ctx.Done():
		return Unavailable(ctx.Err())
	}
	// Less than deadlock_timeout, after which the other might be the one to fail.
	tx, err := d.begin(ctx, `SET LOCAL idle_in_transaction_session_timeout = '1s'; SET LOCAL lock_timeout = '200ms'`)
	if err != nil {
		return Unavailable(err)
	}
	defer func() { _ = tx.Rollback() }() // no effect after a commit
	if err := write(tx); err != nil {
		return Unavailable(err)
	}
	if err := tx.Commit(); err != nil {
		return Unavailable(err)
	}
	return nil
}

func (d *Database) begin(ctx context.Context, ofPostgres string) (*sql.Tx, error) {
	tx, err := d.BeginTx(ctx, nil)
	if err != nil || d.postgres == nil {
		return tx, err
	}
	if _, err := tx.ExecContext(ctx, ofPostgres); err != nil {
		_ = tx.Rollback() // the first error tells
		return nil, err
	}
	return tx, nil
}

// Snapshot begins a transaction that reads one moment of the database.
func (d *Database) Snapshot(ctx context.Context) (*sql.Tx, error) {
	options := &sql.TxOptions{ReadOnly: true}
	if d.postgres != nil {
		options.Isolation = sql.LevelRepeatableRead // SQLite's readers always have it
	}
	return d.BeginTx(ctx, options)
}

// Announce makes the commit of a transaction heard by [Database.Listen] of
// every process. SQLite cannot.
func (d *Database) Announce(ctx context.Context, tx *sql.Tx) error {
	if d.postgres == nil {
		return nil
	}
	_, err := tx.ExecContext(ctx, `NOTIFY `+channel)
	return err
}

// Listen calls heard once it listens, and for each announced commit, until ctx
// ends or the connection does. On SQLite nothing is ever heard.
func (d *Database) Listen(ctx context.Context, heard func()) error {
	if d.postgres == nil {
		<-ctx.Done()
		return ctx.Err()
	}
	conn, err := pgx.ConnectConfig(ctx, d.postgres)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	defer func() {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(ending) // nothing was written
	}()
	if _, err := conn.Exec(ctx, `LISTEN `+channel); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	for {
		heard()
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return fmt.Errorf("listen: %w", err)
		}
	}
}

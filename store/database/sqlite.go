package database

import (
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// openSQLite opens the file of a sqlite URL, which it makes if it is not
// there. Errors name the file; of another URL they show at most the scheme,
// because the rest may hold a password.
func openSQLite(cfg Config) (*Database, error) {
	path, ok := strings.CutPrefix(cfg.URL, "sqlite://")
	first, _, _ := strings.Cut(path, "/")
	// What stands before the first slash may be user:password@host, and
	// ":memory:" would be another database for each connection.
	if !ok || path == "" || strings.ContainsAny(first, "@:") {
		return nil, fmt.Errorf("store URL%s: expected sqlite:///path/to/file or postgres://user:password@host:port/name", shownScheme(cfg.URL))
	}
	if len(cfg.CA) > 0 {
		return nil, fmt.Errorf("store URL %q: a ca came with it, which only PostgreSQL can use", cfg.URL)
	}
	// The file holds the keys and the secret URLs. SQLite would make it
	// readable for all, and would open a file that it cannot write.
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	_ = file.Close() // nothing was written
	db, err := sql.Open("sqlite", sqliteDSN(path, cfg.Timeout))
	if err != nil {
		return nil, err
	}
	return &Database{DB: db, name: cfg.URL}, nil
}

func shownScheme(storeURL string) string {
	scheme, _, ok := strings.Cut(storeURL, "://")
	if !ok || strings.Trim(scheme, "abcdefghijklmnopqrstuvwxyz") != "" {
		return ""
	}
	return fmt.Sprintf(" %q", scheme+"://...")
}

// sqliteDSN makes every transaction take the write lock at its start, so that
// a read in it is never stale when it writes, and every commit durable.
func sqliteDSN(path string, timeout time.Duration) string {
	query := url.Values{
		"_pragma": {fmt.Sprintf("busy_timeout(%d)", timeout.Milliseconds()), "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(ON)"},
		"_txlock": {"immediate"},
	}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + query.Encode()
}

package store

import (
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"strings"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// openDatabase opens the file of a sqlite URL, which it makes if it is not
// there. Errors name the file; of another URL they show at most the scheme,
// because the rest may hold a password.
func openDatabase(storeURL string) (*sql.DB, error) {
	path, ok := strings.CutPrefix(storeURL, "sqlite://")
	first, _, _ := strings.Cut(path, "/")
	// What stands before the first slash may be user:password@host, and
	// ":memory:" would be another database for each connection.
	if !ok || path == "" || strings.ContainsAny(first, "@:") {
		return nil, fmt.Errorf("store URL%s: expected sqlite:///path/to/file", shownScheme(storeURL))
	}
	// The file holds the keys and the secret URLs. SQLite would make it
	// readable for all, and would open a file that it cannot write.
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	_ = file.Close() // nothing was written
	return sql.Open("sqlite", sqliteDSN(path))
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
func sqliteDSN(path string) string {
	query := url.Values{
		"_pragma": {"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(ON)"},
		"_txlock": {"immediate"},
	}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + query.Encode()
}

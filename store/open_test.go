package store_test

import (
	"bytes"
	"context"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/store"
)

func TestOpenErrorsNameTheFile(t *testing.T) {
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage.db")
	require.NoError(t, os.WriteFile(garbage, bytes.Repeat([]byte("not a database. "), 1024), 0o600))
	cut := filepath.Join(dir, "cut.db")
	require.NoError(t, twoInstances(t, "sqlite://"+cut).Close())
	require.NoError(t, os.Truncate(cut, 3*4096+100))
	old := filepath.Join(dir, "old.db")
	require.NoError(t, open(t, "sqlite://"+old).Close())
	sqlOn(t, "sqlite://"+old, `DROP TABLE bindings`)

	for name, file := range map[string]string{
		"a directory":        dir,
		"no such directory":  filepath.Join(dir, "no", "such.db"),
		"not a database":     garbage,
		"cut short":          cut,
		"a table is missing": old,
	} {
		_, err := store.Open(ctx, store.Config{URL: "sqlite://" + file})
		require.ErrorContains(t, err, file, name)
	}
}

func TestOpenErrorsShowNoPassword(t *testing.T) {
	for _, storeURL := range []string{
		"", "s3cret", "user=u password=s3cret host=db", "u:s3cret@db/x", "POSTGRES://u:s3cret@db/x", "mysql://u:s3cret@db/x",
		"s3cret://db/x", "sqlite:", "sqlite:/s3cret", "sqlite://", "sqlite://u:s3cret@db/x", "sqlite://s3cret@db/x", " postgres://u:s3cret@db", "sqlite://:memory:",
	} {
		_, err := store.Open(ctx, store.Config{URL: storeURL})
		require.ErrorContains(t, err, "expected sqlite:///path/to/file or postgres://", storeURL)
		if storeURL != "s3cret://db/x" { // a scheme is shown
			require.NotContains(t, err.Error(), "s3cret", storeURL)
		}
	}
	for _, storeURL := range []string{
		"postgres://u:s3cret@", "postgres://u:s3cret@/x", "postgres://u:s3cret@db", "postgresql://u:s3cret@db/", "postgres://u:s3cret@db:99999/x", "postgres://u:s3cret@db:port/x",
		"postgres://u:s3cret%zz@db/x", "postgres://u:s3cret@db/x?sslmode=s3cret", "postgres://u:s3cret@db/x?sslrootcert=/no/s3cret", "postgres://u:s3cret@db/x?connect_timeout=s3cret", "postgres://u:s3cret @db/x",
	} {
		_, err := store.Open(ctx, store.Config{URL: storeURL})
		require.ErrorContains(t, err, "expected postgres://user:password@host:port/name", storeURL)
		require.NotContains(t, err.Error(), "s3cret", storeURL)
	}
	wrong, err := url.Parse(newPostgres(t))
	require.NoError(t, err)
	wrong.User = url.UserPassword("gateway", "s3cret-but-wrong")
	gone := "postgres://gateway:" + postgresPassword + "@127.0.0.1:1/state?sslmode=disable"
	for _, storeURL := range []string{wrong.String(), gone} {
		_, err := store.Open(ctx, store.Config{URL: storeURL})
		require.ErrorContains(t, err, "open postgres://127.0.0.1:")
		require.NotContains(t, err.Error(), "s3cret")
	}
}

func TestAnyFileNameIsTakenAsItIs(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a b.db", "a?mode=memory.db", "a#b.db", "a%20b.db", "a&b=c.db", "ü.db", "a+b.db", "a:b@c.db"} {
		file := filepath.Join(dir, name)
		open(t, "sqlite://"+file)
		require.FileExists(t, file)
	}
	t.Chdir(dir)
	open(t, "sqlite://relative.db")
	require.FileExists(t, filepath.Join(dir, "relative.db"))
}

// It holds the keys and the secret URLs.
func TestOnlyTheOwnerCanReadTheFiles(t *testing.T) {
	file := newFile(t)
	create(t, open(t, "sqlite://"+file), "i", "{}")
	entries, err := os.ReadDir(filepath.Dir(file))
	require.NoError(t, err)
	require.Len(t, entries, 3, "database, log and index")
	for _, entry := range entries {
		info, err := entry.Info()
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode(), entry.Name())
	}
}

func TestOpenEndsWithItsContext(t *testing.T) { onEach(t, testOpenEndsWithItsContext) }

func testOpenEndsWithItsContext(t *testing.T, fresh database) {
	ended, cancel := context.WithCancel(ctx)
	cancel()
	url := fresh(t)
	_, err := store.Open(ended, store.Config{URL: url})
	require.ErrorIs(t, err, context.Canceled)
	open(t, url)
}

// Two processes that start at once on an empty database.
func TestStoresThatOpenOneFileAtOnceAgreeOnItsKeys(t *testing.T) {
	onEach(t, testStoresThatOpenOneFileAtOnceAgreeOnItsKeys)
}

func testStoresThatOpenOneFileAtOnceAgreeOnItsKeys(t *testing.T, fresh database) {
	url := fresh(t)
	keys, errs := make([][]byte, 4), make([]error, 4)
	var started sync.WaitGroup
	for i := range keys {
		started.Go(func() {
			var s *store.Store
			if s, errs[i] = store.Open(ctx, store.Config{URL: url}); errs[i] != nil {
				return
			}
			defer func() { _ = s.Close() }()
			keys[i], errs[i] = s.Key(ctx, store.TokenKeyName)
		})
	}
	started.Wait()
	for i := range keys {
		require.NoError(t, errs[i])
		require.Len(t, keys[i], 32)
		require.Equal(t, keys[0], keys[i])
	}
}

func TestKeysAreMadeOnceAndDiffer(t *testing.T) { onEach(t, testKeysAreMadeOnceAndDiffer) }

func testKeysAreMadeOnceAndDiffer(t *testing.T, fresh database) {
	url := fresh(t)
	s := open(t, url)
	a, err := s.Key(ctx, "a")
	require.NoError(t, err)
	again, err := s.Key(ctx, "a")
	require.NoError(t, err)
	require.Equal(t, a, again)
	b, err := s.Key(ctx, "b")
	require.NoError(t, err)
	require.NotEqual(t, a, b)
	elsewhere, err := open(t, fresh(t)).Key(ctx, "a")
	require.NoError(t, err)
	require.NotEqual(t, a, elsewhere)

	for _, damage := range []string{"", "AAAA", "not base64", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="} {
		sqlOn(t, url, `UPDATE keys SET value = $1 WHERE name = 'a'`, damage)
		_, err = s.Key(ctx, "a")
		require.ErrorIs(t, err, store.ErrUnavailable, damage)
		require.ErrorContains(t, err, `"a"`)
		require.NotContains(t, err.Error(), "AAAA", "no part of a key is shown")
	}
}

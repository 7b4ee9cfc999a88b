package store_test

import (
	"bytes"
	"context"
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
	require.NoError(t, twoInstances(t, cut).Close())
	require.NoError(t, os.Truncate(cut, 3*4096+100))
	old := filepath.Join(dir, "old.db")
	require.NoError(t, open(t, old).Close())
	sqlOn(t, old, `DROP TABLE bindings`)

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
		"", "s3cret", "user=u password=s3cret host=db", "u:s3cret@db/x", "postgres://u:s3cret@db/x", "POSTGRES://u:s3cret@db/x",
		"s3cret://db/x", "sqlite:", "sqlite:/s3cret", "sqlite://", "sqlite://u:s3cret@db/x", "sqlite://s3cret@db/x", " postgres://u:s3cret@db", "sqlite://:memory:",
	} {
		_, err := store.Open(ctx, store.Config{URL: storeURL})
		require.ErrorContains(t, err, "expected sqlite:///path/to/file", storeURL)
		if storeURL != "s3cret://db/x" { // a scheme is shown
			require.NotContains(t, err.Error(), "s3cret", storeURL)
		}
	}
	_, err := store.Open(ctx, store.Config{URL: "postgres://u:p@db/x"})
	require.ErrorContains(t, err, `"postgres://..."`)
}

func TestAnyFileNameIsTakenAsItIs(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a b.db", "a?mode=memory.db", "a#b.db", "a%20b.db", "a&b=c.db", "ü.db", "a+b.db", "a:b@c.db"} {
		file := filepath.Join(dir, name)
		open(t, file)
		require.FileExists(t, file)
	}
	t.Chdir(dir)
	open(t, "relative.db")
	require.FileExists(t, filepath.Join(dir, "relative.db"))
}

// It holds the keys and the secret URLs.
func TestOnlyTheOwnerCanReadTheFiles(t *testing.T) {
	file := newFile(t)
	create(t, open(t, file), "i", "{}")
	entries, err := os.ReadDir(filepath.Dir(file))
	require.NoError(t, err)
	require.Len(t, entries, 3, "database, log and index")
	for _, entry := range entries {
		info, err := entry.Info()
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode(), entry.Name())
	}
}

func TestOpenEndsWithItsContext(t *testing.T) {
	ended, cancel := context.WithCancel(ctx)
	cancel()
	file := newFile(t)
	_, err := store.Open(ended, store.Config{URL: "sqlite://" + file})
	require.ErrorIs(t, err, context.Canceled)
	open(t, file)
}

// Two processes that start at once on an empty database.
func TestStoresThatOpenOneFileAtOnceAgreeOnItsKeys(t *testing.T) {
	file := newFile(t)
	keys, errs := make([][]byte, 4), make([]error, 4)
	var started sync.WaitGroup
	for i := range keys {
		started.Go(func() {
			var s *store.Store
			if s, errs[i] = store.Open(ctx, store.Config{URL: "sqlite://" + file}); errs[i] != nil {
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

func TestKeysAreMadeOnceAndDiffer(t *testing.T) {
	file := newFile(t)
	s := open(t, file)
	a, err := s.Key(ctx, "a")
	require.NoError(t, err)
	again, err := s.Key(ctx, "a")
	require.NoError(t, err)
	require.Equal(t, a, again)
	b, err := s.Key(ctx, "b")
	require.NoError(t, err)
	require.NotEqual(t, a, b)
	elsewhere, err := open(t, newFile(t)).Key(ctx, "a")
	require.NoError(t, err)
	require.NotEqual(t, a, elsewhere)

	for _, damage := range []string{"", "AAAA", "not base64", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="} {
		sqlOn(t, file, `UPDATE keys SET value = $1 WHERE name = 'a'`, damage)
		_, err = s.Key(ctx, "a")
		require.ErrorIs(t, err, store.ErrUnavailable, damage)
		require.ErrorContains(t, err, `"a"`)
		require.NotContains(t, err.Error(), "AAAA", "no part of a key is shown")
	}
}

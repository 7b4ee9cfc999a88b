package store_test

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/store"
)

// latest is the schema of this release.
const latest = 7

// migrate brings a database to a schema, as another release would: 0 is the
// newest of the migrations in files.
func migrate(t testing.TB, url string, files fs.FS, version int64) {
	t.Helper()
	dialect := goose.DialectPostgres
	if strings.HasPrefix(url, "sqlite:") {
		dialect = goose.DialectSQLite3
	}
	db := connect(t, url)
	defer func() { require.NoError(t, db.Close()) }()
	provider, err := goose.NewProvider(dialect, db, files)
	require.NoError(t, err)
	if version == 0 {
		_, err = provider.Up(ctx)
	} else {
		_, err = provider.UpTo(ctx, version)
	}
	require.NoError(t, err)
}

var migrations = os.DirFS("database/migrations")

// writtenBefore are an instance and a binding as releases write them since the
// first schema.
func writtenBefore(t testing.TB, url string, revision int) {
	sqlOn(t, url, `INSERT INTO instances (id, plan_id, plan_scope, org, space, parameters, revision, created_at, created_by, updated_at, updated_by)
		VALUES ('old', 'plan', 'any', $1, $2, '{"allow":["cf:any"]}', $3, 0, '', 0, '')`, guid(1).String(), guid(2).String(), revision-1)
	sqlOn(t, url, `INSERT INTO bindings (id, instance_id, route, parameters, url, revision, created_at, created_by)
		VALUES ('b-old', 'old', 'old.example', '{}', 'https://gw/r/b-old/t', $1, 0, '')`, revision)
	// Last, since these are not one transaction: whoever sees it sees all.
	sqlOn(t, url, `UPDATE counter SET revision = $1`, revision)
}

// The state of any release before is taken over.
func TestMigrationKeepsTheState(t *testing.T) {
	onEach(t, func(t *testing.T, fresh database) {
		for version := int64(1); version < latest; version++ {
			url := fresh(t)
			migrate(t, url, migrations, version)
			writtenBefore(t, url, 2)
			s := open(t, url)
			require.NotNil(t, s.View().Access("b-old"), version)
			bind(t, s, "old", "new", "{}")
			require.NoError(t, s.DeleteBinding(ctx, by, "old", "b-old"))
		}
	})
}

// A release that knows only the schemas before this one writes beside it: what it
// always wrote is taken, seen, and can be deleted by either.
func TestReleaseBeforeOnThisSchema(t *testing.T) {
	onEach(t, func(t *testing.T, fresh database) {
		url := fresh(t)
		s := open(t, url)
		writtenBefore(t, url, 2)
		await(t, func() bool { return s.View().Access("b-old") != nil })
		for _, statement := range []string{
			`UPDATE instances SET plan_id = 'p', plan_scope = 'org', parameters = '{}', revision = 3, updated_at = 1, updated_by = 'x' WHERE id = 'old'`,
			`INSERT INTO audit (part, revision, made_at, action, kind, id, instance_id, made_by, request_id, request_identity, content_before, content_after)
				VALUES (1, 3, 1, 'update', 'instance', 'old', 'old', 'x', '', '', '{}', '{}')`,
			`UPDATE counter SET revision = 3`,
		} {
			sqlOn(t, url, statement)
		}
		await(t, func() bool { return len(accessOf(s, "b-old").Rules) == 0 })
		for _, statement := range []string{
			`DELETE FROM bindings WHERE id = 'b-old' AND instance_id = 'old'`,
			`INSERT INTO tombstones (kind, id, revision, deleted_at) VALUES ('binding', 'b-old', 4, 0)
				ON CONFLICT (kind, id) DO UPDATE SET revision = excluded.revision, deleted_at = excluded.deleted_at`,
			`UPDATE counter SET revision = 4`,
		} {
			sqlOn(t, url, statement)
		}
		await(t, func() bool { return s.View().Access("b-old") == nil })
		bind(t, s, "old", "new", "{}")
	})
}

// A newer release has migrated; this one still works on what it knows.
func TestSchemaOfTheNextRelease(t *testing.T) {
	onEach(t, func(t *testing.T, fresh database) {
		url := fresh(t)
		here := twoInstances(t, url)
		next := fstest.MapFS{"99999_next.sql": {Data: []byte(`-- +goose Up
			ALTER TABLE bindings ADD COLUMN next_release TEXT NOT NULL DEFAULT '';
			ALTER TABLE instances ADD COLUMN next_release BIGINT;
			ALTER TABLE audit ADD COLUMN next_release TEXT NOT NULL DEFAULT '';
			ALTER TABLE last_used ADD COLUMN next_release BIGINT NOT NULL DEFAULT 0;
			CREATE TABLE next_release (id TEXT PRIMARY KEY);
			CREATE INDEX next_release_route ON bindings (route, next_release);`)}}
		names, err := fs.Glob(migrations, "*.sql")
		require.NoError(t, err)
		require.Contains(t, names[len(names)-1], fmt.Sprintf("%05d_", latest))
		for _, name := range names {
			data, err := fs.ReadFile(migrations, name)
			require.NoError(t, err)
			next[name] = &fstest.MapFile{Data: data}
		}
		migrate(t, url, next, 0)
		for n, s := range []*store.Store{here, open(t, url)} { // one that runs, one that starts
			id := string(rune('x' + n))
			create(t, s, id, "{}")
			bind(t, s, id, "b"+id, "{}")
			require.NoError(t, s.UpdateInstance(ctx, by, id, setTo(given(t, allow(app(1))))))
			require.NotNil(t, s.View().Access("b"+id))
			require.Len(t, accessOf(s, "b"+id).Rules, 1)
			require.NoError(t, s.DeleteInstance(ctx, by, id))
		}
	})
}

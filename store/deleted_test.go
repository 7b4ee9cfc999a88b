package store_test

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/grants/parameters"
	"github.com/mtls-authz/mtls-authz/store"
)

func TestDeletedIDsAreNotTakenForAnHour(t *testing.T) { onEach(t, testDeletedIDsAreNotTakenForAnHour) }

func testDeletedIDsAreNotTakenForAnHour(t *testing.T, fresh database) {
	url, clock := fresh(t), newClock()
	s := openWith(t, store.Config{URL: url, Now: clock.Now})
	create(t, s, "i", "{}")
	create(t, s, "gone", "{}")
	bind(t, s, "i", "b", "{}")
	bind(t, s, "gone", "went-along", "{}")
	require.NoError(t, s.DeleteBinding(ctx, by, "i", "b"))
	require.NoError(t, s.DeleteInstance(ctx, by, "gone"))
	require.ErrorIs(t, s.DeleteBinding(ctx, by, "i", "unknown"), store.ErrNotFound)
	require.ErrorIs(t, s.DeleteBinding(ctx, by, "no-such", "unknown2"), store.ErrNotFound)
	require.ErrorIs(t, s.DeleteInstance(ctx, by, "unknown"), store.ErrNotFound)

	refused := func(s *store.Store) {
		for _, id := range []string{"b", "unknown", "unknown2", "went-along"} {
			_, created, err := s.CreateBinding(ctx, by, binding(t, "i", id, "{}"))
			require.ErrorIs(t, err, store.ErrDeleted, id)
			require.ErrorContains(t, err, `"`+id+`"`)
			require.False(t, created)
			require.Nil(t, s.View().Access(id))
		}
		for _, id := range []string{"gone", "unknown"} {
			created, err := s.CreateInstance(ctx, by, instance(t, id, "{}"))
			require.ErrorIs(t, err, store.ErrDeleted, id)
			require.False(t, created)
		}
	}
	refused(s)
	refused(openWith(t, store.Config{URL: url, Now: clock.Now})) // after a restart, and elsewhere
	clock.add(-48 * time.Hour)
	refused(s) // a clock that steps back forgets nothing
	clock.add(48*time.Hour + 59*time.Minute)
	refused(s)
	create(t, s, "b", "{}") // the id of a binding is not that of an instance
	clock.add(time.Minute)
	bind(t, s, "i", "unknown", "{}")
	create(t, s, "gone", "{}")
}

func TestDeletingAnotherInstancesBindingBuriesNothing(t *testing.T) {
	onEach(t, func(t *testing.T, fresh database) {
		s := open(t, fresh(t))
		create(t, s, "i", "{}")
		create(t, s, "other", "{}")
		bind(t, s, "i", "b", "{}")
		require.ErrorIs(t, s.DeleteBinding(ctx, by, "other", "b"), store.ErrNotFound)
		_, created, err := s.CreateBinding(ctx, by, binding(t, "i", "b", "{}"))
		require.NoError(t, err)
		require.False(t, created, "it is there")
	})
}

// The queries are the same for both; under the race detector, SQLite takes half a
// minute for a hundred thousand rows.
func TestTombstonesAreBounded(t *testing.T) {
	t.Parallel()
	if os.Getenv("MTLS_AUTHZ_HEAVY") != "" {
		onEach(t, testTombstonesAreBounded)
		return
	}
	testTombstonesAreBounded(t, newPostgres)
}

func testTombstonesAreBounded(t *testing.T, fresh database) {
	url, clock := fresh(t), newClock()
	s := openWith(t, store.Config{URL: url, Now: clock.Now})
	create(t, s, "i", "{}")
	sqlOn(t, url, `INSERT INTO tombstones (kind, id, revision, deleted_at)
		WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 100000)
		SELECT 'binding', 'old' || x, x - 100000, $1 FROM n`, start.UnixMilli())
	require.ErrorIs(t, s.DeleteBinding(ctx, by, "i", "newest"), store.ErrNotFound)
	for id, want := range map[string]error{"newest": store.ErrDeleted, "old2": store.ErrDeleted, "old1": nil} {
		_, _, err := s.CreateBinding(ctx, by, binding(t, "i", id, "{}"))
		require.ErrorIs(t, err, want, id)
	}
	clock.add(time.Hour)
	require.ErrorIs(t, s.DeleteBinding(ctx, by, "i", "later"), store.ErrNotFound)
	// A thousand a change; the division fails at any other number.
	sqlOn(t, url, `INSERT INTO tombstones SELECT 'binding', 'counted', 1 / (CASE COUNT(*) WHEN 99001 THEN 1 ELSE 0 END), 0 FROM tombstones`)
}

// Whatever the order, two gateways leave nothing of what was deleted after it
// was asked for.
func TestDeleteDuringItsCreateInAnotherGateway(t *testing.T) {
	onEach(t, func(t *testing.T, fresh database) {
		url := fresh(t)
		here, there := open(t, url), open(t, url)
		create(t, here, "i", "{}")
		for n := range 20 {
			id := fmt.Sprintf("b%d", n)
			var running sync.WaitGroup
			running.Go(func() {
				if _, _, err := here.CreateBinding(ctx, by, binding(t, "i", id, "{}")); err != nil && !errors.Is(err, store.ErrDeleted) {
					t.Error(err)
				}
			})
			running.Go(func() {
				if err := there.DeleteBinding(ctx, by, "i", id); err != nil && !errors.Is(err, store.ErrNotFound) {
					t.Error(err)
				}
			})
			running.Wait()
			_, err := here.Binding(ctx, "i", id)
			require.ErrorIs(t, err, store.ErrNotFound)
			await(t, func() bool { return here.View().Access(id) == nil && there.View().Access(id) == nil })
			_, _, err = here.CreateBinding(ctx, by, binding(t, "i", id, "{}"))
			require.ErrorIs(t, err, store.ErrDeleted)
		}
	})
}

func TestAudit(t *testing.T) { onEach(t, testAudit) }

func testAudit(t *testing.T, fresh database) {
	s := open(t, fresh(t))
	create(t, s, "i", allow(app(1)))
	bind(t, s, "i", "b", allow(app(2)))
	who := store.Cause{By: "updater", RequestID: "vcap-2", RequestIdentity: "request-2"}
	require.NoError(t, s.UpdateInstance(ctx, who, "i", setTo(parameters.Parameters{})))
	create(t, s, "i2", "{}")
	require.NoError(t, s.DeleteInstance(ctx, who, "i"))
	require.ErrorIs(t, s.DeleteBinding(ctx, store.Cause{}, "i", "unknown"), store.ErrNotFound)
	// What changes nothing has no entry.
	require.NoError(t, s.UpdateInstance(ctx, who, "i2", setTo(parameters.Parameters{})))
	_, err := s.CreateInstance(ctx, who, instance(t, "i", "{}"))
	require.ErrorIs(t, err, store.ErrDeleted)

	content := func(raw string) string {
		return `{"plan_id":"plan-org","plan":"org","org":"` + guid(1001).String() + `","space":"` + guid(1002).String() + `","parameters":` + raw + `}`
	}
	route := `{"route":"b.apps.identity/path","parameters":` + allow(app(2)) + `}`
	want := []string{
		`6 delete binding unknown of i by {  } "" ""`,
		`5 delete instance i of i by {updater vcap-2 request-2} "` + content("{}") + `" ""`,
		`5 delete binding b of i by {updater vcap-2 request-2} "` + route + `" ""`,
		`4 create instance i2 of i2 by {creator vcap-1 request-1} "" "` + content("{}") + `"`,
		`3 update instance i of i by {updater vcap-2 request-2} "` + content(allow(app(1))) + `" "` + content("{}") + `"`,
		`2 create binding b of i by {creator vcap-1 request-1} "" "` + route + `"`,
		`1 create instance i of i by {creator vcap-1 request-1} "" "` + content(allow(app(1))) + `"`,
	}
	read := func(f store.AuditFilter, p store.Page) (lines []string, total int) {
		list, total, err := s.Audit(ctx, f, p)
		require.NoError(t, err)
		for _, e := range list {
			require.Equal(t, start, e.At)
			lines = append(lines, fmt.Sprintf(`%d %s %s %s of %s by %v "%s" "%s"`, e.Revision, e.Action, e.Kind, e.ID, e.InstanceID, e.Cause, e.Before, e.After))
		}
		return lines, total
	}
	all, total := read(store.AuditFilter{}, store.Page{Descending: true})
	require.Equal(t, want, all)
	require.Equal(t, 7, total)
	page, total := read(store.AuditFilter{}, store.Page{Number: 2, Size: 3, Descending: true})
	require.Equal(t, want[3:6], page)
	require.Equal(t, 7, total)
	page, total = read(store.AuditFilter{IDs: []string{"b"}}, store.Page{Descending: true})
	require.Equal(t, []string{want[2], want[5]}, page)
	require.Equal(t, 2, total)
}

func TestDamagedRowsAreAuditedAsTheyWere(t *testing.T) {
	onEach(t, func(t *testing.T, fresh database) {
		url := fresh(t)
		s := twoInstances(t, url)
		sqlOn(t, url, `UPDATE bindings SET parameters = '{"cut' WHERE id = 'b1'`)
		require.NoError(t, s.DeleteBinding(ctx, by, "i", "b1"))
		list, _, err := s.Audit(ctx, store.AuditFilter{IDs: []string{"b1"}}, store.Page{Size: 1, Descending: true})
		require.NoError(t, err)
		require.JSONEq(t, `{"route":"b1.apps.identity/path","parameters":"{\"cut"}`, string(list[0].Before))
	})
}

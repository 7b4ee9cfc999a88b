package store_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/grants/parameters"
	"github.com/mtls-authz/mtls-authz/store"
)

func TestChangesOfAnotherGatewayAreSeen(t *testing.T) { onEach(t, testChangesOfAnotherGatewayAreSeen) }

func testChangesOfAnotherGatewayAreSeen(t *testing.T, fresh database) {
	url := fresh(t)
	here, there := open(t, url), open(t, url)
	seen := func(id string, rules ...string) {
		t.Helper()
		await(t, func() bool {
			access := accessOf(there, id)
			return access != nil && fmt.Sprint(access.Rules) == fmt.Sprint(rules)
		})
	}
	create(t, here, "i", allow(app(1)))
	bind(t, here, "i", "b1", "{}")
	bind(t, here, "i", "b2", allow(app(2)))
	seen("b1", `instance "`+app(1)+`"`)
	seen("b2", `instance "`+app(1)+`"`, `binding "`+app(2)+`"`)
	require.NoError(t, here.UpdateInstance(ctx, by, "i", setTo(parameters.Parameters{})))
	seen("b2", `binding "`+app(2)+`"`)
	require.NoError(t, here.DeleteBinding(ctx, by, "i", "b1"))
	await(t, func() bool { return there.View().Access("b1") == nil })
	require.NoError(t, here.DeleteInstance(ctx, by, "i"))
	await(t, func() bool { return there.View().Access("b2") == nil })
	// And what the other then does is seen here.
	create(t, there, "j", "{}")
	bind(t, there, "j", "b3", "{}")
	await(t, func() bool { return here.View().Access("b3") != nil })
}

// PostgreSQL tells of commits: nobody waits for the next poll.
func TestNotificationsComeWithoutPolling(t *testing.T) {
	url := newPostgres(t)
	here, there := open(t, url), openWith(t, store.Config{URL: url, PollInterval: time.Hour})
	create(t, here, "i", "{}")
	bind(t, here, "i", "b", "{}")
	await(t, func() bool { return there.View().Access("b") != nil })
	require.NoError(t, here.DeleteBinding(ctx, by, "i", "b"))
	await(t, func() bool { return there.View().Access("b") == nil })
}

// A gateway of the release before writes no audit: its changes, deletions above
// all, must be found too.
func TestChangesWithoutAuditAreSeen(t *testing.T) { onEach(t, testChangesWithoutAuditAreSeen) }

func testChangesWithoutAuditAreSeen(t *testing.T, fresh database) {
	url := fresh(t)
	s := twoInstances(t, url)
	await(t, func() bool { return s.View().Synced() == 5 })
	sqlOn(t, url, `UPDATE counter SET revision = 6`)
	sqlOn(t, url, `DELETE FROM bindings WHERE id = 'b1'`)
	sqlOn(t, url, `UPDATE counter SET revision = 7`)
	await(t, func() bool { return s.View().Access("b1") == nil })
	require.NotNil(t, s.View().Access("b2"))

	sqlOn(t, url, `DELETE FROM bindings WHERE id = 'b2'`)
	sqlOn(t, url, `DELETE FROM audit`)
	sqlOn(t, url, `UPDATE counter SET revision = 8`)
	require.NoError(t, s.DeleteBinding(ctx, by, "healthy", "b3")) // revision 9, with audit
	await(t, func() bool { return s.View().Access("b2") == nil })
}

func TestMoreChangesThanAreReadOneByOne(t *testing.T) {
	onEach(t, func(t *testing.T, fresh database) {
		url := fresh(t)
		here, there := open(t, url), openWith(t, store.Config{URL: url, PollInterval: time.Second})
		for n := range 300 {
			create(t, here, fmt.Sprintf("i%d", n), "{}")
		}
		bind(t, here, "i0", "first", "{}")
		bind(t, here, "i299", "last", "{}")
		await(t, func() bool { return there.View().Access("first") != nil && there.View().Access("last") != nil })
	})
}

// A database that was restored from a backup is behind the view.
func TestRestoredDatabaseIsBelieved(t *testing.T) {
	onEach(t, func(t *testing.T, fresh database) {
		url := fresh(t)
		s := twoInstances(t, url)
		await(t, func() bool { return s.View().Synced() == 5 })
		sqlOn(t, url, `DELETE FROM bindings WHERE id = 'b3'`)
		sqlOn(t, url, `DELETE FROM audit WHERE revision > 2`)
		sqlOn(t, url, `UPDATE counter SET revision = 2`)
		await(t, func() bool { return s.View().Access("b3") == nil })
		create(t, s, "later", "{}")
		bind(t, s, "later", "b4", "{}")
		require.NotNil(t, s.View().Access("b4"))
		require.NotNil(t, s.View().Access("b1"))
	})
}

func TestLookupReadsThrough(t *testing.T) { onEach(t, testLookupReadsThrough) }

func testLookupReadsThrough(t *testing.T, fresh database) {
	url, clock := fresh(t), newClock()
	// Nothing but the look-up can bring the binding here: the revision is as
	// it was.
	s := openWith(t, store.Config{URL: url, Now: clock.Now, PollInterval: time.Hour})
	create(t, s, "i", allow("cf:any"))
	access, err := s.View().Lookup(ctx, "b")
	require.NoError(t, err)
	require.Nil(t, access)
	sqlOn(t, url, `INSERT INTO bindings (id, instance_id, route, parameters, url, revision, created_at, created_by) VALUES ('b', 'i', 'b.example', '{}', 'https://gw/r/b/t', 7, 0, '')`)
	sqlOn(t, url, `UPDATE counter SET revision = 7`)
	access, err = s.View().Lookup(ctx, "b")
	require.NoError(t, err)
	if strings.HasPrefix(url, "sqlite:") { // PostgreSQL's notifications may have begun only now
		require.Nil(t, access, "remembered for a second")
	}
	clock.add(time.Second)
	var running sync.WaitGroup
	for range 20 {
		running.Go(func() {
			if access, err := s.View().Lookup(ctx, "b"); err != nil || access == nil || access.Binding != "b" {
				t.Error(access, err)
			}
		})
	}
	running.Wait()
	require.NotNil(t, s.View().Access("b"))

	sqlOn(t, url, `UPDATE bindings SET route = ''`)
	other := openWith(t, store.Config{URL: url, Now: clock.Now})
	access, err = other.View().Lookup(ctx, "b")
	require.NoError(t, err)
	require.Nil(t, access, "damaged")
	require.Len(t, other.Damaged(), 1)

	require.NoError(t, s.Close())
	_, err = s.View().Lookup(ctx, "unknown")
	require.ErrorIs(t, err, store.ErrUnavailable)
	access, err = s.View().Lookup(ctx, "b")
	require.NoError(t, err)
	require.NotNil(t, access, "the view serves on")
}

func TestLookupEndsWithItsCallerAndNotWithAnother(t *testing.T) {
	s := open(t, newPostgres(t))
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err := s.View().Lookup(ended, "b")
	if err != nil { // the database may have been faster
		require.ErrorIs(t, err, store.ErrUnavailable)
	}
	access, err := s.View().Lookup(ctx, "b")
	require.NoError(t, err)
	require.Nil(t, access)
}

func TestLoadingTellsOfItsProgress(t *testing.T) {
	url := newPostgres(t)
	require.NoError(t, open(t, url).Close())
	sqlOn(t, url, `INSERT INTO instances VALUES ('i', 'plan', 'any', '`+guid(1).String()+`', '`+guid(2).String()+`', '{}', 1, 0, '', 0, '')`)
	sqlOn(t, url, `INSERT INTO bindings SELECT 'b' || n, 'i', 'r.example', '{}', 'u', 1, 0, '' FROM generate_series(1, 20500) n`)
	var told []string
	openWith(t, store.Config{URL: url, Progress: func(loaded, total int) { told = append(told, fmt.Sprintf("%d/%d", loaded, total)) }})
	require.Equal(t, []string{"10000/20500", "20000/20500"}, told)
}

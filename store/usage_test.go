package store_test

import (
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/store"
)

// lastUsed is what the list says.
func lastUsed(t *testing.T, s *store.Store, id string) time.Time {
	t.Helper()
	list, _, err := s.AllBindings(ctx, store.BindingFilter{IDs: []string{id}}, store.Page{})
	require.NoError(t, err)
	require.Len(t, list, 1)
	return list[0].LastUsed
}

// unused are the bindings that were not used at this time or later.
func unused(t *testing.T, s *store.Store, since time.Time) []string {
	t.Helper()
	list, total, err := s.AllBindings(ctx, store.BindingFilter{UnusedSince: since}, store.Page{})
	require.NoError(t, err)
	require.Equal(t, len(list), min(total, 50))
	return ids(list, boundRouteID)
}

func TestLastUsed(t *testing.T) { onEach(t, testLastUsed) }

func testLastUsed(t *testing.T, fresh database) {
	url := fresh(t)
	s, there := twoInstances(t, url), open(t, url)
	before := state(t, s, []string{"i", "healthy"}, []string{"b1", "b2", "b3"})
	require.Zero(t, lastUsed(t, s, "b1"))
	noon := start.Add(2 * time.Hour)
	s.Used("b1", noon.Add(999*time.Millisecond))
	require.Equal(t, noon, lastUsed(t, s, "b1"), "known at once, to the second")
	require.Zero(t, lastUsed(t, s, "b2"))
	require.Zero(t, lastUsed(t, there, "b1"), "and elsewhere when it is written")
	require.NoError(t, s.Close())
	require.Equal(t, noon, lastUsed(t, there, "b1"))

	there.Used("b1", noon.Add(-time.Hour))
	require.Equal(t, noon, lastUsed(t, there, "b1"), "a clock that steps back takes nothing back")
	there.Used("b2", noon.Add(-time.Hour))
	there.Used("b2", noon.Add(time.Hour))
	there.Used("b2", noon)
	require.NoError(t, there.Close())
	s = open(t, url)
	require.Equal(t, noon, lastUsed(t, s, "b1"), "nor when it is written")
	require.Equal(t, noon.Add(time.Hour), lastUsed(t, s, "b2"))
	require.Zero(t, lastUsed(t, s, "b3"))
	require.Equal(t, before, state(t, s, []string{"i", "healthy"}, []string{"b1", "b2", "b3"}), "no change comes of it")
	require.EqualValues(t, 5, s.View().Synced(), "no revision")
	_, total, err := s.Audit(ctx, store.AuditFilter{}, store.Page{})
	require.NoError(t, err)
	require.Equal(t, 5, total, "no audit")
}

func TestUnusedSince(t *testing.T) { onEach(t, testUnusedSince) }

func testUnusedSince(t *testing.T, fresh database) {
	clock := newClock()
	s := openWith(t, store.Config{URL: fresh(t), Now: clock.Now})
	create(t, s, "i", "{}")
	for _, id := range []string{"never", "once", "often"} {
		bind(t, s, "i", id, "{}")
	}
	clock.add(time.Hour)
	bind(t, s, "i", "young", "{}")
	s.Used("once", start.Add(time.Minute+300*time.Millisecond))
	s.Used("often", start.Add(time.Minute))
	require.Empty(t, unused(t, s, start))
	require.Equal(t, []string{"never"}, unused(t, s, start.Add(time.Second)))
	require.Equal(t, []string{"never"}, unused(t, s, start.Add(time.Minute)), "at this time is not unused")
	require.Equal(t, []string{"never"}, unused(t, s, start.Add(time.Minute+200*time.Millisecond)), "what it cannot tell")
	require.Equal(t, []string{"never", "often", "once"}, unused(t, s, start.Add(time.Minute+time.Second)))
	s.Used("often", start.Add(2*time.Minute))
	require.Equal(t, []string{"never", "once"}, unused(t, s, start.Add(time.Minute+time.Second)), "what is only in memory counts")
	require.Equal(t, []string{"never", "often", "once"}, unused(t, s, start.Add(time.Hour)))
	require.Equal(t, []string{"never", "often", "once", "young"}, unused(t, s, start.Add(24*time.Hour)))
}

// What is noted for a binding goes with it, and does not come back with its id.
func TestLastUseGoesWithItsBinding(t *testing.T) { onEach(t, testLastUseGoesWithItsBinding) }

func testLastUseGoesWithItsBinding(t *testing.T, fresh database) {
	url, clock := fresh(t), newClock()
	s := openWith(t, store.Config{URL: url, Now: clock.Now})
	create(t, s, "i", "{}")
	create(t, s, "j", "{}")
	for _, id := range []string{"written", "noted", "kept"} {
		bind(t, s, "i", id, "{}")
	}
	bind(t, s, "j", "with-its-instance", "{}")
	for _, id := range []string{"written", "with-its-instance", "kept"} {
		s.Used(id, start)
	}
	unused(t, s, start) // writes
	s.Used("noted", start)
	require.NoError(t, s.DeleteBinding(ctx, by, "i", "written"))
	require.NoError(t, s.DeleteBinding(ctx, by, "i", "noted"))
	require.NoError(t, s.DeleteInstance(ctx, by, "j"))
	s.Used("never-there", start)
	require.NoError(t, s.Close())
	// Only "kept" has a row; the division fails at any other number.
	sqlOn(t, url, `INSERT INTO keys SELECT 'counted', 1 / (CASE COUNT(*) WHEN 1 THEN 1 ELSE 0 END) FROM last_used`)
	clock.add(2 * time.Hour)
	s = openWith(t, store.Config{URL: url, Now: clock.Now})
	require.Equal(t, start, lastUsed(t, s, "kept"))
	bind(t, s, "i", "written", "{}")
	require.Zero(t, lastUsed(t, s, "written"))
}

func TestUsesAreWrittenInTheBackgroundByAllGateways(t *testing.T) {
	onEach(t, testUsesAreWrittenInTheBackgroundByAllGateways)
}

// More than fit in one statement, by several gateways at once, while bindings
// come and go: in the end the latest use of each is known.
func testUsesAreWrittenInTheBackgroundByAllGateways(t *testing.T, fresh database) {
	const bindings, rounds = 1200, 3
	url := fresh(t)
	gateways := 3
	if strings.HasPrefix(url, "sqlite:") {
		gateways = 1 // its lock would go to whoever asks most often
	}
	require.NoError(t, open(t, url).Close())
	sqlOn(t, url, `INSERT INTO instances VALUES ('i', 'plan', 'any', '`+guid(1).String()+`', '`+guid(2).String()+`', '{}', 1, 0, '', 0, '')`)
	sqlOn(t, url, `INSERT INTO bindings (id, instance_id, route, parameters, url, revision, created_at, created_by)
		WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < `+fmt.Sprint(bindings)+`)
		SELECT 'b' || x, 'i', 'r.example', '{}', 'u', 1, 0, '' FROM n`)
	reader := open(t, url)
	create(t, reader, "other", "{}")
	var running sync.WaitGroup
	for gateway := range gateways {
		s := openWith(t, store.Config{URL: url, UsageInterval: 100 * time.Millisecond})
		running.Go(func() {
			for round := range rounds {
				for n := range bindings {
					s.Used(fmt.Sprintf("b%d", n+1), start.Add(time.Duration(round*gateways+gateway)*time.Second))
				}
				id := fmt.Sprintf("w%d-%d", gateway, round)
				if _, _, err := s.CreateBinding(ctx, by, binding(t, "other", id, "{}")); err != nil {
					t.Error(err)
				}
				s.Used(id, start)
				if err := s.DeleteBinding(ctx, by, "other", id); err != nil {
					t.Error("a change must not fail because of what was noted: ", err)
				}
			}
		})
	}
	running.Wait()
	latest := start.Add(time.Duration(rounds*gateways-1) * time.Second)
	await(t, func() bool { return len(unused(t, reader, latest)) == 0 })
	require.Equal(t, latest, lastUsed(t, reader, "b1"))
	require.Equal(t, latest, lastUsed(t, reader, fmt.Sprintf("b%d", bindings)))
}

func TestUsesWaitForTheDatabase(t *testing.T) {
	t.Parallel()
	p := ownPostgres(t)
	url := p.newDatabase(t)
	s := openWith(t, store.Config{URL: url, UsageInterval: 10 * time.Millisecond})
	create(t, s, "i", "{}")
	bind(t, s, "i", "b", "{}")
	p.stop(syscall.SIGKILL)
	s.Used("b", start)
	await(t, func() bool { return s.Ping(ctx) != nil })
	_, _, err := s.AllBindings(ctx, store.BindingFilter{UnusedSince: start}, store.Page{})
	require.ErrorIs(t, err, store.ErrUnavailable)
	require.NoError(t, p.start())
	other := open(t, url)
	await(t, func() bool { return lastUsed(t, other, "b").Equal(start) })
}

func TestUsedDoesNotAllocate(t *testing.T) {
	s := twoInstances(t, databases["sqlite"](t))
	path := "/r/b1/token"
	at := start
	s.Used("b1", at)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		at = at.Add(time.Second)
		s.Used(path[3:5], at)
	}))
}

func BenchmarkUsed(b *testing.B) {
	s := open(b, databases["sqlite"](b))
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			s.Used("b1", start)
		}
	})
}

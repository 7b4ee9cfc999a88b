package store_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/store"
)

// traffic binds and unbinds beside the binding "kept" until it is stopped, and
// knows of each binding what was acknowledged.
type traffic struct {
	s       *store.Store
	stopped atomic.Bool
	running sync.WaitGroup
	failed  atomic.Int64
	mu      sync.Mutex
	bound   map[string]bool
	unclear map[string]bool // an answer was lost: either is right
}

func startTraffic(t *testing.T, s *store.Store) *traffic {
	f := &traffic{s: s, bound: map[string]bool{"kept": true}, unclear: map[string]bool{}}
	for worker := range 4 {
		f.running.Go(func() {
			for n := 0; !f.stopped.Load(); n++ {
				id := fmt.Sprintf("w%d-%d", worker, n)
				_, _, err := s.CreateBinding(ctx, by, binding(t, "i", id, "{}"))
				f.note(t, id, true, err)
				if n%2 == 0 {
					f.note(t, id, false, s.DeleteBinding(ctx, by, "i", id))
				}
				if n%8 == 0 {
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	return f
}

func (f *traffic) note(t *testing.T, id string, bound bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case err == nil:
		f.bound[id] = bound
		delete(f.unclear, id)
	case errors.Is(err, store.ErrNotFound) && !bound && f.unclear[id]:
		f.bound[id] = false
		delete(f.unclear, id)
	case errors.Is(err, store.ErrUnavailable):
		f.unclear[id] = true
		f.failed.Add(1)
	default:
		t.Errorf("%s: %v", id, err)
	}
}

// check asserts that nothing was lost and nothing invented, in the database and
// in the views.
func (f *traffic) check(t *testing.T, stores ...*store.Store) {
	t.Helper()
	f.stopped.Store(true)
	f.running.Wait()
	var list []store.Binding
	await(t, func() (ok bool) {
		var err error
		list, err = f.s.Bindings(ctx, "i")
		return err == nil
	})
	there := map[string]bool{}
	for _, b := range list {
		there[b.ID] = true
		require.True(t, f.bound[b.ID] || f.unclear[b.ID], "%s was invented", b.ID)
	}
	for id, bound := range f.bound {
		if bound && !f.unclear[id] {
			require.True(t, there[id], "%s was lost", id)
		}
	}
	for _, s := range stores {
		await(t, func() bool {
			for id := range f.bound {
				if (s.View().Access(id) != nil) != there[id] {
					return false
				}
			}
			return true
		})
	}
}

func TestPostgresKilledAndStartedAgain(t *testing.T) {
	t.Parallel()
	p := ownPostgres(t)
	url := p.newDatabase(t)
	s, other := open(t, url), open(t, url)
	create(t, s, "i", "{}")
	bind(t, s, "i", "kept", "{}")
	await(t, func() bool { return other.View().Access("kept") != nil })
	f := startTraffic(t, s)
	for range 3 {
		time.Sleep(100 * time.Millisecond)
		p.stop(syscall.SIGKILL)
		failed := f.failed.Load()
		await(t, func() bool { return f.failed.Load() > failed })
		_, err := s.Instance(ctx, "i")
		require.ErrorIs(t, err, store.ErrUnavailable)
		_, err = s.View().Lookup(ctx, "not-in-the-view")
		require.ErrorIs(t, err, store.ErrUnavailable)
		await(t, func() bool { _, err := other.View().LastContact(); return errors.Is(err, store.ErrUnavailable) })
		require.NotNil(t, s.View().Access("kept"), "the view serves on")
		require.NotNil(t, other.View().Access("kept"))
		require.NoError(t, p.start())
		await(t, func() bool { _, err := other.View().LastContact(); return err == nil && s.Ping(ctx) == nil })
	}
	f.check(t, s, other)
}

func TestPostgresFrozen(t *testing.T) {
	t.Parallel()
	p := ownPostgres(t)
	cfg := store.Config{URL: p.newDatabase(t), Timeout: time.Second}
	s, other := openWith(t, cfg), openWith(t, cfg)
	create(t, s, "i", "{}")
	bind(t, s, "i", "kept", "{}")
	await(t, func() bool { return other.View().Access("kept") != nil })
	f := startTraffic(t, s)
	for range 2 {
		time.Sleep(100 * time.Millisecond)
		p.freeze(t, syscall.SIGSTOP)
		for name, call := range map[string]func() error{
			"read":   func() error { _, err := s.Instance(ctx, "i"); return err },
			"change": func() error { _, err := s.CreateInstance(ctx, by, instance(t, "frozen", "{}")); return err },
			"lookup": func() error { _, err := s.View().Lookup(ctx, "not-in-the-view"); return err },
			"ping":   func() error { return s.Ping(ctx) },
			"key":    func() error { _, err := s.Key(ctx, "frozen"); return err },
			"list":   func() error { _, _, err := s.Instances(ctx, store.InstanceFilter{}, store.Page{}); return err },
		} {
			ended := make(chan error, 1)
			go func() { ended <- call() }()
			select {
			case err := <-ended:
				require.ErrorIs(t, err, store.ErrUnavailable, name)
			case <-time.After(patience):
				t.Fatal(name, "waits for a frozen database")
			}
		}
		require.NotNil(t, other.View().Access("kept"), "the view serves on")
		await(t, func() bool { _, err := other.View().LastContact(); return errors.Is(err, store.ErrUnavailable) })
		p.freeze(t, syscall.SIGCONT)
		await(t, func() bool { _, err := other.View().LastContact(); return err == nil && s.Ping(ctx) == nil })
	}
	f.check(t, s, other)
}

// A gateway that stops in the midst of a change holds the lock that all others
// need.
func TestFrozenGatewayDoesNotStopTheOthers(t *testing.T) {
	t.Parallel()
	url := newPostgres(t)
	frozen := openWith(t, store.Config{URL: url, Timeout: patience * 2})
	s := openWith(t, store.Config{URL: url, Timeout: time.Second})
	create(t, s, "i", "{}")
	thaw, inside, done := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		done <- frozen.UpdateInstance(ctx, by, "i", func(i store.Instance) (store.Instance, error) {
			close(inside)
			<-thaw
			i.PlanID = "plan-any"
			return i, nil
		})
	}()
	<-inside
	_, err := s.CreateInstance(ctx, by, instance(t, "j", "{}"))
	require.ErrorIs(t, err, store.ErrUnavailable)
	await(t, func() bool { _, err := s.CreateInstance(ctx, by, instance(t, "j", "{}")); return err == nil })
	close(thaw)
	require.ErrorIs(t, <-done, store.ErrUnavailable)
	i, err := s.Instance(ctx, "i")
	require.NoError(t, err)
	require.Equal(t, "plan-org", i.PlanID, "what was not acknowledged was not done")
}

func TestStaleness(t *testing.T) {
	t.Parallel()
	p := ownPostgres(t)
	clock := newClock()
	s := openWith(t, store.Config{URL: p.newDatabase(t), Now: clock.Now, MaxStale: time.Hour})
	require.NoError(t, s.View().Fresh())
	p.stop(syscall.SIGKILL)
	await(t, func() bool { _, err := s.View().LastContact(); return err != nil })
	clock.add(time.Hour)
	require.NoError(t, s.View().Fresh())
	clock.add(time.Second)
	require.ErrorIs(t, s.View().Fresh(), store.ErrStale)
	require.ErrorIs(t, s.View().Fresh(), store.ErrUnavailable)
	require.ErrorContains(t, s.View().Fresh(), "1h0m1s ago")
	require.NoError(t, p.start())
	await(t, func() bool { return s.View().Fresh() == nil })
	at, err := s.View().LastContact()
	require.NoError(t, err)
	require.Equal(t, clock.Now(), at)
	clock.add(-48 * time.Hour)
	require.NoError(t, s.View().Fresh(), "a clock that steps back makes nothing stale")
}

func TestSQLiteGone(t *testing.T) {
	url := databases["sqlite"](t)
	s := open(t, url)
	create(t, s, "i", "{}")
	bind(t, s, "i", "b", "{}")
	sqlOn(t, url, `ALTER TABLE counter RENAME TO away`)
	await(t, func() bool { _, err := s.View().LastContact(); return errors.Is(err, store.ErrUnavailable) })
	require.NotNil(t, s.View().Access("b"))
	sqlOn(t, url, `ALTER TABLE away RENAME TO counter`)
	await(t, func() bool { _, err := s.View().LastContact(); return err == nil })
}

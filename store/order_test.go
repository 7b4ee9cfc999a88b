package store_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/store"
)

// A change that begins after another has returned has a higher revision,
// whoever made it, and no revision is given twice.
func TestRevisionsGrowInTheOrderOfCommits(t *testing.T) {
	onEach(t, testRevisionsGrowInTheOrderOfCommits)
}

func testRevisionsGrowInTheOrderOfCommits(t *testing.T, fresh database) {
	url := fresh(t)
	stores := []*store.Store{open(t, url), open(t, url)}
	create(t, stores[0], "i", "{}")
	const writers, changes = 6, 15
	var highest atomic.Int64 // of the changes that have returned
	var seen sync.Map
	var running sync.WaitGroup
	for w := range writers {
		running.Go(func() {
			s := stores[w%2]
			for n := range changes {
				before := highest.Load()
				b, created, err := s.CreateBinding(ctx, by, binding(t, "i", fmt.Sprintf("b%d-%d", w, n), "{}"))
				if err != nil || !created || b.Revision <= before {
					t.Errorf("created %v, revision %d after %d, %v", created, b.Revision, before, err)
					return
				}
				if _, twice := seen.LoadOrStore(b.Revision, true); twice {
					t.Errorf("revision %d twice", b.Revision)
				}
				for old := highest.Load(); old < b.Revision && !highest.CompareAndSwap(old, b.Revision); old = highest.Load() {
				}
			}
		})
	}
	running.Wait()
	require.EqualValues(t, 1+writers*changes, highest.Load())
}

func TestOfManyEqualCreatesOneWins(t *testing.T) { onEach(t, testOfManyEqualCreatesOneWins) }

func testOfManyEqualCreatesOneWins(t *testing.T, fresh database) {
	s := open(t, fresh(t))
	create(t, s, "i", "{}")
	var created, bound, others atomic.Int32
	var running sync.WaitGroup
	for range 8 {
		running.Go(func() {
			ok, err := s.CreateInstance(ctx, by, instance(t, "same", "{}"))
			if err != nil {
				t.Error(err)
			}
			if ok {
				created.Add(1)
			}
			if _, ok, err = s.CreateBinding(ctx, by, binding(t, "i", "same", "{}")); err != nil {
				t.Error(err)
			}
			if ok {
				bound.Add(1)
			}
		})
	}
	for n := range 8 {
		running.Go(func() {
			ok, err := s.CreateInstance(ctx, by, instance(t, "contested", allow(app(n))))
			if ok {
				others.Add(1)
			} else if !errors.Is(err, store.ErrExists) {
				t.Error(err)
			}
		})
	}
	running.Wait()
	require.Equal(t, []int32{1, 1, 1}, []int32{created.Load(), bound.Load(), others.Load()})
}

// After any operations in two gateways, what each decides by is what a gateway
// would decide by that starts now. Ids are used again as soon as tombstones let
// them: the clock goes two hours further with every look at it.
func TestViewEqualsAFreshlyLoadedOne(t *testing.T) { onEach(t, testViewEqualsAFreshlyLoadedOne) }

func testViewEqualsAFreshlyLoadedOne(t *testing.T, fresh database) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var looks atomic.Int64
	cfg := store.Config{
		URL: fresh(t), PollInterval: 10 * time.Millisecond,
		Now: func() time.Time { return start.Add(time.Duration(looks.Add(2)) * time.Hour) },
	}
	stores := []*store.Store{openWith(t, cfg), openWith(t, cfg)}
	var instances, bindings []string
	for n := range 4 {
		instances = append(instances, fmt.Sprintf("i%d", n))
	}
	for n := range 8 {
		bindings = append(bindings, fmt.Sprintf("b%d", n))
	}
	for round := range 6 {
		var running sync.WaitGroup
		for worker := range 4 {
			random := rand.New(rand.NewPCG(seed, uint64(round*10+worker)))
			running.Go(func() {
				for range 20 {
					if err := someOperation(t, stores[worker%2], random, instances, bindings); err != nil {
						t.Error(err)
					}
				}
			})
		}
		running.Wait()
		want := state(t, open(t, cfg.URL), instances, bindings)
		for _, s := range stores {
			await(t, func() bool { return equal(want, state(t, s, instances, bindings)) })
		}
	}
}

// someOperation returns errors that no such operation may give.
func someOperation(t *testing.T, s *store.Store, random *rand.Rand, instances, bindings []string) error {
	i, b := instances[random.IntN(len(instances))], bindings[random.IntN(len(bindings))]
	raw := []string{
		"{}", allow("cf:any"), allow(app(random.IntN(3))), `{"scope":"space","labels":{"a":"b"}}`,
		`{"allow":[{"source":"cf:any","routes":["b1.apps.identity/path"]}]}`,
	}[random.IntN(5)]
	var err error
	switch random.IntN(8) {
	case 0, 1:
		_, err = s.CreateInstance(ctx, by, instance(t, i, raw))
	case 2, 3, 4:
		_, _, err = s.CreateBinding(ctx, by, binding(t, i, b, raw))
	case 5:
		err = s.UpdateInstance(ctx, by, i, func(i store.Instance) (store.Instance, error) {
			i.Plan = []grants.Scope{grants.ScopeSpace, grants.ScopeAny}[random.IntN(2)]
			i.PlanID, i.Parameters = "plan-"+i.Plan.String(), given(t, raw)
			return i, nil
		})
	case 6:
		err = s.DeleteBinding(ctx, by, i, b)
	case 7:
		if random.IntN(2) == 0 {
			err = s.DeleteInstance(ctx, by, i)
		}
	}
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrExists) || errors.Is(err, store.ErrDeleted) {
		return nil
	}
	return err
}

// A reader never sees a mixture of two revisions of a binding.
func TestReadersSeeWholeRevisionsOnly(t *testing.T) { onEach(t, testReadersSeeWholeRevisionsOnly) }

func testReadersSeeWholeRevisionsOnly(t *testing.T, fresh database) {
	s := open(t, fresh(t))
	create(t, s, "i", `{"scope":"space","labels":{"n":"space"}}`)
	bind(t, s, "i", "b", "{}")
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		for last := int64(0); ; {
			access := s.View().Access("b")
			if access == nil || access.Labels["n"] != access.Scope.String() || access.Revision < last {
				t.Errorf("saw %+v after revision %d", access, last)
				return
			}
			last = access.Revision
			select {
			case <-done:
				return
			default:
			}
		}
	})
	for n := range 40 {
		scope := []string{"org", "space"}[n%2]
		require.NoError(t, s.UpdateInstance(ctx, by, "i", setTo(given(t, `{"scope":"`+scope+`","labels":{"n":"`+scope+`"}}`))))
	}
	close(done)
	running.Wait()
}

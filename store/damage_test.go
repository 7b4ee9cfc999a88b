package store_test

import (
	"context"
	"strings"
	"testing"

	"github.com/mtls-authz/mtls-authz/grants/parameters"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/store"
)

// damages are statements that make the instance "i" or its binding "b1"
// unreadable. PostgreSQL keeps some of them out.
var damages = map[string]struct {
	statement  string
	instance   bool
	onlySQLite bool
}{
	"instance's parameters":          {`UPDATE instances SET parameters = '{"nope":1}' WHERE id = 'i'`, true, false},
	"instance's parameters cut":      {`UPDATE instances SET parameters = '{"allow":["cf:any"' WHERE id = 'i'`, true, false},
	"instance's plan":                {`UPDATE instances SET plan_scope = 'galaxy' WHERE id = 'i'`, true, false},
	"instance's org":                 {`UPDATE instances SET org = '' WHERE id = 'i'`, true, false},
	"instance's space":               {`UPDATE instances SET space = 'X' WHERE id = 'i'`, true, false},
	"instance's revision":            {`UPDATE instances SET revision = 'many' WHERE id = 'i'`, true, true},
	"binding's route":                {`UPDATE bindings SET route = '10.0.0.1' WHERE id = 'b1'`, false, false},
	"binding's route empty":          {`UPDATE bindings SET route = '' WHERE id = 'b1'`, false, false},
	"binding's parameters":           {`UPDATE bindings SET parameters = '[]' WHERE id = 'b1'`, false, false},
	"binding's url":                  {`UPDATE bindings SET url = '' WHERE id = 'b1'`, false, false},
	"binding's time":                 {`UPDATE bindings SET created_at = 'noon' WHERE id = 'b1'`, false, true},
	"binding's source that is no id": {`UPDATE bindings SET parameters = '{"allow":["cf:app:x"]}' WHERE id = 'b1'`, false, false},
}

func twoInstances(t *testing.T, file string) *store.Store {
	s := open(t, file)
	create(t, s, "i", allow("cf:any"))
	create(t, s, "healthy", allow("cf:any"))
	bind(t, s, "i", "b1", "{}")
	bind(t, s, "i", "b2", "{}")
	bind(t, s, "healthy", "b3", "{}")
	return s
}

func TestDamagedRowAdmitsNobodyAndDoesNotStopTheOthers(t *testing.T) {
	onEach(t, testDamagedRowAdmitsNobodyAndDoesNotStopTheOthers)
}

func testDamagedRowAdmitsNobodyAndDoesNotStopTheOthers(t *testing.T, fresh database) {
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			url := fresh(t)
			if damage.onlySQLite && !strings.HasPrefix(url, "sqlite:") {
				return
			}
			require.NoError(t, twoInstances(t, url).Close())
			sqlOn(t, url, damage.statement)

			s := open(t, url)
			id := "b1"
			if damage.instance {
				id = "i"
				require.Nil(t, s.View().Access("b2"), "all routes of a damaged instance")
			} else {
				require.NotNil(t, s.View().Access("b2"))
			}
			require.Nil(t, s.View().Access("b1"))
			require.NotNil(t, s.View().Access("b3"))
			require.Len(t, s.Damaged(), 1)
			require.ErrorContains(t, s.Damaged()[0], `"`+id+`"`)
			require.NoError(t, s.UpdateInstance(ctx, by, "healthy", setTo(parameters.Parameters{})))

			// What the route's owner can do about it: unbind, and bind anew.
			require.NoError(t, s.DeleteBinding(ctx, by, "i", "b2"), "a healthy sibling")
			require.NoError(t, s.DeleteBinding(ctx, by, "i", "b1"))
			require.NoError(t, s.DeleteInstance(ctx, by, "i"))
			create(t, s, "anew", allow("cf:any"))
			bind(t, s, "anew", "b1-anew", "{}")
			require.NotNil(t, s.View().Access("b1-anew"))
		})
	}
}

func TestDamagedRowIsAnErrorToWhoeverAsksForIt(t *testing.T) {
	onEach(t, testDamagedRowIsAnErrorToWhoeverAsksForIt)
}

func testDamagedRowIsAnErrorToWhoeverAsksForIt(t *testing.T, fresh database) {
	for name, damage := range damages {
		url := fresh(t)
		if damage.onlySQLite && !strings.HasPrefix(url, "sqlite:") {
			continue
		}
		s := twoInstances(t, url)
		sqlOn(t, url, damage.statement)
		var err error
		if damage.instance {
			_, err = s.Instance(ctx, "i")
			require.ErrorIs(t, s.UpdateInstance(ctx, by, "i", setTo(parameters.Parameters{})), store.ErrDamaged, name)
			_, _, bindErr := s.CreateBinding(ctx, by, binding(t, "i", "new", "{}"))
			require.ErrorIs(t, bindErr, store.ErrDamaged, name)
		} else {
			_, err = s.Binding(ctx, "i", "b1")
			list, listErr := s.Bindings(ctx, "i")
			require.ErrorIs(t, listErr, store.ErrDamaged, name)
			require.Len(t, list, 1, "the others are still listed: "+name)
			require.Equal(t, "b2", list[0].ID, name)
			require.NoError(t, s.UpdateInstance(ctx, by, "i", setTo(given(t, allow(app(1))))), name)
			require.Nil(t, s.View().Access("b1"), "seen at the next change: "+name)
			require.Equal(t, []string{`instance "` + app(1) + `"`}, accessOf(s, "b2").Rules, name)
		}
		require.ErrorIs(t, err, store.ErrDamaged, name)
		require.ErrorIs(t, err, store.ErrUnavailable, name)
		require.NotErrorIs(t, err, store.ErrNotFound, name)
	}
}

// ErrNotFound is a success to Cloud Controller when it deletes: it must never
// stand for a database that is broken.
func TestBrokenDatabaseIsNeverErrNotFound(t *testing.T) {
	onEach(t, testBrokenDatabaseIsNeverErrNotFound)
}

func testBrokenDatabaseIsNeverErrNotFound(t *testing.T, fresh database) {
	for _, statement := range []string{`DELETE FROM counter`, `DROP TABLE counter`, `ALTER TABLE bindings RENAME TO away`} {
		url := fresh(t)
		s := twoInstances(t, url)
		sqlOn(t, url, statement)
		for name, call := range map[string]func() error{
			"unbind":      func() error { return s.DeleteBinding(ctx, by, "i", "b1") },
			"deprovision": func() error { return s.DeleteInstance(ctx, by, "i") },
		} {
			err := call()
			require.ErrorIs(t, err, store.ErrUnavailable, statement+": "+name)
			require.NotErrorIs(t, err, store.ErrNotFound, statement+": "+name)
			require.NotNil(t, s.View().Access("b1"), "what was not deleted stays in force")
		}
	}
}

func TestCancelledCallLeavesNothingHalfDone(t *testing.T) {
	onEach(t, testCancelledCallLeavesNothingHalfDone)
}

func testCancelledCallLeavesNothingHalfDone(t *testing.T, fresh database) {
	s := twoInstances(t, fresh(t))
	instances, bindings := []string{"i", "healthy", "new"}, []string{"b1", "b2", "b3", "new"}
	before := state(t, s, instances, bindings)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	for name, call := range map[string]func() error{
		"create": func() error { _, err := s.CreateInstance(ended, by, instance(t, "new", "{}")); return err },
		"update": func() error { return s.UpdateInstance(ended, by, "i", setTo(parameters.Parameters{})) },
		"delete": func() error { return s.DeleteInstance(ended, by, "i") },
		"bind":   func() error { _, _, err := s.CreateBinding(ended, by, binding(t, "i", "new", "{}")); return err },
		"unbind": func() error { return s.DeleteBinding(ended, by, "i", "b1") },
		"read":   func() error { _, err := s.Instance(ended, "i"); return err },
		"list":   func() error { _, err := s.Bindings(ended, "i"); return err },
		"key":    func() error { _, err := s.Key(ended, "k"); return err },
		"in the midst of an update": func() error {
			half, cancel := context.WithCancel(ctx)
			return s.UpdateInstance(half, by, "i", func(i store.Instance) (store.Instance, error) {
				i.Parameters = given(t, allow(app(7)))
				cancel()
				return i, nil
			})
		},
	} {
		err := call()
		require.ErrorIs(t, err, store.ErrUnavailable, name)
		require.ErrorIs(t, err, context.Canceled, name)
		require.NotErrorIs(t, err, store.ErrDamaged, name)
		require.Equal(t, before, state(t, s, instances, bindings), name)
	}
	require.NoError(t, s.UpdateInstance(ctx, by, "i", setTo(parameters.Parameters{})), "and the store still works")
}

func TestClosedStoreIsUnavailableAndItsViewServesOn(t *testing.T) {
	onEach(t, testClosedStoreIsUnavailableAndItsViewServesOn)
}

func testClosedStoreIsUnavailableAndItsViewServesOn(t *testing.T, fresh database) {
	s := twoInstances(t, fresh(t))
	require.NoError(t, s.Ping(ctx))
	require.NoError(t, s.Close())
	require.ErrorIs(t, s.Ping(ctx), store.ErrUnavailable)
	require.ErrorIs(t, s.DeleteBinding(ctx, by, "i", "b1"), store.ErrUnavailable)
	require.NotNil(t, s.View().Access("b1"))
}

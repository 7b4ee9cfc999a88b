package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/mtls-authz/mtls-authz/grants/parameters"

	"github.com/mtls-authz/mtls-authz/grants/route"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/store"
)

func TestWhatIsStoredIsReadBack(t *testing.T) { onEach(t, testWhatIsStoredIsReadBack) }

func testWhatIsStoredIsReadBack(t *testing.T, fresh database) {
	s := open(t, fresh(t))
	const given = `{"scope":"space","mode":"report","allow":["cf:any"],"labels":{"team":"x"}}`
	create(t, s, "i", given)
	i, err := s.Instance(ctx, "i")
	require.NoError(t, err)
	require.Equal(t, store.Instance{
		ID: "i", PlanID: "plan-org", Plan: grants.ScopeOrg, Owner: grants.Owner{Instance: "i", Org: guid(1001), Space: guid(1002)},
		Parameters: i.Parameters, Revision: 1, CreatedAt: start, UpdatedAt: start, CreatedBy: "creator", UpdatedBy: "creator",
	}, i)
	require.JSONEq(t, given, string(i.Parameters.JSON()))

	stored := bind(t, s, "i", "b", allow(app(1)))
	b, err := s.Binding(ctx, "i", "b")
	require.NoError(t, err)
	require.Equal(t, stored, b, "what is answered is what is stored")
	require.Equal(t, "b.apps.identity/path", b.Route.String())
	require.Equal(t, "https://gw.example/r/b/token", b.URL)
	require.Equal(t, "creator", b.CreatedBy)
	require.Equal(t, start, b.CreatedAt)
	require.EqualValues(t, 2, b.Revision)
	require.JSONEq(t, allow(app(1)), string(b.Parameters.JSON()))
}

func TestRepeatedCreateChangesNothing(t *testing.T) { onEach(t, testRepeatedCreateChangesNothing) }

func testRepeatedCreateChangesNothing(t *testing.T, fresh database) {
	s := open(t, fresh(t))
	create(t, s, "i", allow(app(1)))
	first := bind(t, s, "i", "b", "{}")
	before := state(t, s, []string{"i"}, []string{"b"})

	again := instance(t, "i", allow(app(1)))
	again.CreatedBy = "somebody else"
	created, err := s.CreateInstance(ctx, by, again)
	require.NoError(t, err)
	require.False(t, created)

	other := binding(t, "i", "b", "{}")
	other.URL, other.CreatedBy = "https://moved.example/r/b/other", "somebody else"
	stored, created, err := s.CreateBinding(ctx, by, other)
	require.NoError(t, err)
	require.False(t, created)
	require.Equal(t, first, stored, "the url is the same for ever")
	require.Equal(t, before, state(t, s, []string{"i"}, []string{"b"}))
}

func TestCreateOverOtherContentIsErrExists(t *testing.T) {
	onEach(t, testCreateOverOtherContentIsErrExists)
}

func testCreateOverOtherContentIsErrExists(t *testing.T, fresh database) {
	s := open(t, fresh(t))
	create(t, s, "i", allow(app(1)))
	create(t, s, "j", allow(app(1)))
	bind(t, s, "i", "b", allow(app(2)))
	before := state(t, s, []string{"i", "j"}, []string{"b"})

	for name, change := range map[string]func(*store.Instance){
		"plan":       func(i *store.Instance) { i.PlanID = "plan-any" },
		"org":        func(i *store.Instance) { i.Owner.Org = guid(9) },
		"space":      func(i *store.Instance) { i.Owner.Space = guid(9) },
		"parameters": func(i *store.Instance) { i.Parameters = given(t, allow(app(3))) },
	} {
		other := instance(t, "i", allow(app(1)))
		change(&other)
		created, err := s.CreateInstance(ctx, by, other)
		require.ErrorIs(t, err, store.ErrExists, name)
		require.False(t, created, name)
	}
	for name, change := range map[string]func(*store.Binding){
		"instance":   func(b *store.Binding) { b.InstanceID = "j" },
		"route":      func(b *store.Binding) { b.Route.Host = "other.apps.identity" },
		"path":       func(b *store.Binding) { b.Route.Path = "" },
		"parameters": func(b *store.Binding) { b.Parameters = parameters.Parameters{} },
	} {
		other := binding(t, "i", "b", allow(app(2)))
		change(&other)
		_, created, err := s.CreateBinding(ctx, by, other)
		require.ErrorIs(t, err, store.ErrExists, name)
		require.False(t, created, name)
	}
	require.Equal(t, before, state(t, s, []string{"i", "j"}, []string{"b"}))
}

func TestWhatIsNotThereIsErrNotFound(t *testing.T) { onEach(t, testWhatIsNotThereIsErrNotFound) }

func testWhatIsNotThereIsErrNotFound(t *testing.T, fresh database) {
	s := open(t, fresh(t))
	create(t, s, "i", "{}")
	create(t, s, "other", "{}")
	bind(t, s, "i", "b", "{}")
	before := state(t, s, []string{"i", "other"}, []string{"b"})
	for name, call := range map[string]func() error{
		"read instance":                     func() error { _, err := s.Instance(ctx, "x"); return err },
		"update":                            func() error { return s.UpdateInstance(ctx, by, "x", setTo(parameters.Parameters{})) },
		"delete instance":                   func() error { return s.DeleteInstance(ctx, by, "x") },
		"read binding":                      func() error { _, err := s.Binding(ctx, "i", "x"); return err },
		"delete binding":                    func() error { return s.DeleteBinding(ctx, by, "i", "x") },
		"bind":                              func() error { _, _, err := s.CreateBinding(ctx, by, binding(t, "x", "new", "{}")); return err },
		"read another instance's binding":   func() error { _, err := s.Binding(ctx, "other", "b"); return err },
		"delete another instance's binding": func() error { return s.DeleteBinding(ctx, by, "other", "b") },
	} {
		err := call()
		require.ErrorIs(t, err, store.ErrNotFound, name)
		require.NotErrorIs(t, err, store.ErrUnavailable, name)
	}
	list, err := s.Bindings(ctx, "x")
	require.NoError(t, err)
	require.Empty(t, list)
	require.Equal(t, before, state(t, s, []string{"i", "other"}, []string{"b"}))
}

func TestUpdateReplacesPlanAndParametersAndNothingElse(t *testing.T) {
	onEach(t, testUpdateReplacesPlanAndParametersAndNothingElse)
}

func testUpdateReplacesPlanAndParametersAndNothingElse(t *testing.T, fresh database) {
	clock := newClock()
	s := openWith(t, store.Config{URL: fresh(t), Now: clock.Now})
	create(t, s, "i", allow(app(1)))
	clock.add(time.Hour)
	err := s.UpdateInstance(ctx, store.Cause{By: "updater"}, "i", func(i store.Instance) (store.Instance, error) {
		i.ID, i.Owner.Org, i.CreatedBy = "hijacked", guid(9), "hijacked"
		i.PlanID, i.Plan, i.Parameters = "plan-any", grants.ScopeAny, given(t, allow(app(2)))
		return i, nil
	})
	require.NoError(t, err)
	got, err := s.Instance(ctx, "i")
	require.NoError(t, err)
	want := instance(t, "i", allow(app(2)))
	want.PlanID, want.Plan, want.Revision = "plan-any", grants.ScopeAny, 2
	want.CreatedAt, want.UpdatedAt, want.UpdatedBy = start, start.Add(time.Hour), "updater"
	want.CreatedBy = by.By
	require.Equal(t, want, got)
}

func TestUpdateThatFailsOrFindsNothingToDoChangesNothing(t *testing.T) {
	onEach(t, testUpdateThatFailsOrFindsNothingToDoChangesNothing)
}

func testUpdateThatFailsOrFindsNothingToDoChangesNothing(t *testing.T, fresh database) {
	s := open(t, fresh(t))
	create(t, s, "i", allow(app(1)))
	bind(t, s, "i", "b", "{}")
	before := state(t, s, []string{"i"}, []string{"b"})
	refused := errors.New("refused")
	err := s.UpdateInstance(ctx, by, "i", func(i store.Instance) (store.Instance, error) {
		i.Parameters = given(t, allow("cf:any"))
		return i, refused
	})
	require.ErrorIs(t, err, refused)
	require.Equal(t, before, state(t, s, []string{"i"}, []string{"b"}), "an error of f")

	require.NoError(t, s.UpdateInstance(ctx, by, "i", setTo(given(t, allow(app(1))))))
	require.Equal(t, before, state(t, s, []string{"i"}, []string{"b"}), "the same parameters")

	require.Panics(t, func() {
		_ = s.UpdateInstance(ctx, by, "i", func(store.Instance) (store.Instance, error) { panic("f") })
	})
	require.Equal(t, before, state(t, s, []string{"i"}, []string{"b"}), "a panic of f")
	require.NoError(t, s.UpdateInstance(ctx, by, "i", setTo(parameters.Parameters{})), "and the store still works")
	i, err := s.Instance(ctx, "i")
	require.NoError(t, err)
	require.EqualValues(t, 3, i.Revision, "what changed nothing took no revision")
}

func TestDeleteInstanceTakesItsBindingsAlong(t *testing.T) {
	onEach(t, testDeleteInstanceTakesItsBindingsAlong)
}

func testDeleteInstanceTakesItsBindingsAlong(t *testing.T, fresh database) {
	clock := newClock()
	s := openWith(t, store.Config{URL: fresh(t), Now: clock.Now})
	create(t, s, "i", allow("cf:any"))
	create(t, s, "other", allow("cf:any"))
	bind(t, s, "i", "b1", "{}")
	bind(t, s, "i", "b2", "{}")
	bind(t, s, "other", "b3", "{}")
	require.NoError(t, s.DeleteInstance(ctx, by, "i"))
	_, err := s.Instance(ctx, "i")
	require.ErrorIs(t, err, store.ErrNotFound)
	for _, id := range []string{"b1", "b2"} {
		_, err := s.Binding(ctx, "i", id)
		require.ErrorIs(t, err, store.ErrNotFound)
		require.Nil(t, s.View().Access(id))
	}
	require.NotNil(t, s.View().Access("b3"))
	require.ErrorIs(t, s.DeleteInstance(ctx, by, "i"), store.ErrNotFound)

	clock.add(time.Hour)
	create(t, s, "i", "{}")
	list, err := s.Bindings(ctx, "i")
	require.NoError(t, err)
	require.Empty(t, list, "a new instance under the old id has none of the old bindings")
}

// What the caller is told to be done is decided by from then on.
func TestEveryChangeIsInForceWhenItReturns(t *testing.T) {
	onEach(t, testEveryChangeIsInForceWhenItReturns)
}

func testEveryChangeIsInForceWhenItReturns(t *testing.T, fresh database) {
	s := open(t, fresh(t))
	create(t, s, "i", allow(app(1)))
	require.Nil(t, s.View().Access("b"))
	bind(t, s, "i", "b", allow(app(2)))
	require.Equal(t, []string{`instance "` + app(1) + `"`, `binding "` + app(2) + `"`}, accessOf(s, "b").Rules)
	require.NoError(t, s.UpdateInstance(ctx, by, "i", setTo(parameters.Parameters{})))
	require.Equal(t, []string{`binding "` + app(2) + `"`}, accessOf(s, "b").Rules)
	require.EqualValues(t, 3, accessOf(s, "b").Revision)
	require.NoError(t, s.DeleteBinding(ctx, by, "i", "b"))
	require.Nil(t, s.View().Access("b"))
}

func TestRestartKeepsEverything(t *testing.T) { onEach(t, testRestartKeepsEverything) }

func testRestartKeepsEverything(t *testing.T, fresh database) {
	url := fresh(t)
	s := open(t, url)
	create(t, s, "i", `{"mode":"report","labels":{"team":"x"},"allow":["cf:any"]}`)
	create(t, s, "gone", "{}")
	bind(t, s, "i", "b1", allow(app(1)))
	bind(t, s, "i", "b2", `{"scope":"space"}`)
	bind(t, s, "i", "b3", "{}")
	require.NoError(t, s.DeleteBinding(ctx, by, "i", "b3"))
	require.NoError(t, s.DeleteInstance(ctx, by, "gone"))
	key, err := s.Key(ctx, "k")
	require.NoError(t, err)
	instances, bindings := []string{"i", "gone"}, []string{"b1", "b2", "b3"}
	before := state(t, s, instances, bindings)
	require.Len(t, before, 5)
	require.NoError(t, s.Close())

	s = open(t, url)
	require.Equal(t, before, state(t, s, instances, bindings))
	require.Empty(t, s.Damaged())
	again, err := s.Key(ctx, "k")
	require.NoError(t, err)
	require.Equal(t, key, again)
	create(t, s, "later", "{}")
	later, err := s.Instance(ctx, "later")
	require.NoError(t, err)
	require.EqualValues(t, 8, later.Revision, "revisions go on where they were")
}

// A platform that is told of a success must find it after the next start.
func TestWhatCouldNotBeReadBackIsNotStored(t *testing.T) {
	onEach(t, testWhatCouldNotBeReadBackIsNotStored)
}

func testWhatCouldNotBeReadBackIsNotStored(t *testing.T, fresh database) {
	s := open(t, fresh(t))
	create(t, s, "i", "{}")
	for name, change := range map[string]func(*store.Instance){
		"no plan":  func(i *store.Instance) { i.Plan = 0 },
		"no org":   func(i *store.Instance) { i.Owner.Org = [16]byte{} },
		"no space": func(i *store.Instance) { i.Owner.Space = [16]byte{} },
	} {
		wrong := instance(t, "wrong", "{}")
		change(&wrong)
		_, err := s.CreateInstance(ctx, by, wrong)
		require.ErrorIs(t, err, store.ErrUnavailable, name)
		_, err = s.Instance(ctx, "wrong")
		require.ErrorIs(t, err, store.ErrNotFound, name)
	}
	for name, change := range map[string]func(*store.Binding){
		"no url":   func(b *store.Binding) { b.URL = "" },
		"no route": func(b *store.Binding) { b.Route = route.Route{} },
	} {
		wrong := binding(t, "i", "wrong", "{}")
		change(&wrong)
		_, _, err := s.CreateBinding(ctx, by, wrong)
		require.ErrorIs(t, err, store.ErrUnavailable, name)
		_, err = s.Binding(ctx, "i", "wrong")
		require.ErrorIs(t, err, store.ErrNotFound, name)
		require.Nil(t, s.View().Access("wrong"), name)
	}
	err := s.UpdateInstance(ctx, by, "i", func(i store.Instance) (store.Instance, error) { i.Plan = 0; return i, nil })
	require.ErrorIs(t, err, store.ErrUnavailable)
	_, err = s.Instance(ctx, "i")
	require.NoError(t, err)
}

package store_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/parameters"
	"github.com/mtls-authz/mtls-authz/grants/route"
	"github.com/mtls-authz/mtls-authz/store"
)

// ids returns those of a page.
func ids[T any](list []T, id func(T) string) []string {
	out := []string{}
	for _, one := range list {
		out = append(out, id(one))
	}
	return out
}

func instanceID(i store.Instance) string     { return i.ID }
func boundRouteID(b store.BoundRoute) string { return b.ID }

// world has instances i1 (org 1, space 2), i2 (org 1, space 3, plan any) and i3
// (org 4, space 5), made in this order, one second apart; b1 and b2 of i1, b3
// and "twin" of i2, which stands for a failed bind on the route of b1.
func world(t *testing.T, url string) (*store.Store, *clock) {
	clock := newClock()
	s := openWith(t, store.Config{URL: url, Now: clock.Now})
	for id, owner := range map[string]grants.Owner{
		"i1": {Org: guid(1), Space: guid(2)}, "i2": {Org: guid(1), Space: guid(3)}, "i3": {Org: guid(4), Space: guid(5)},
	} {
		i := instance(t, id, allow(app(1)))
		i.Owner.Org, i.Owner.Space = owner.Org, owner.Space
		if id == "i2" {
			i.PlanID, i.Plan = "plan-any", grants.ScopeAny
		}
		clock.after.Store(int64(id[1]-'0') * int64(time.Second))
		_, err := s.CreateInstance(ctx, by, i)
		require.NoError(t, err)
	}
	for n, of := range []struct{ id, instance, route string }{
		{"b1", "i1", "one.example"}, {"b2", "i1", "one.example/api"}, {"b3", "i2", "one_example.example"}, {"twin", "i2", "one.example"},
	} {
		b := binding(t, of.instance, of.id, "{}")
		var err error
		b.Route, err = route.Parse(of.route)
		require.NoError(t, err)
		clock.after.Store(int64(time.Minute) + int64(n)*int64(time.Second))
		_, _, err = s.CreateBinding(ctx, by, b)
		require.NoError(t, err)
	}
	return s, clock
}

// hostile values select nothing, break nothing, and are no patterns.
var hostile = []string{"", "' OR 1=1 --", "%", "_", `\`, "$1", "?", "one.exampl_", "one%", "ONE.EXAMPLE", "\x7f", "\x00", "i1\x00", "\xff", "i1,i2", "ü"}

func TestInstancesByFilter(t *testing.T) { onEach(t, testInstancesByFilter) }

func testInstancesByFilter(t *testing.T, fresh database) {
	s, _ := world(t, fresh(t))
	read := func(f store.InstanceFilter) []string {
		list, total, err := s.Instances(ctx, f, store.Page{})
		require.NoError(t, err)
		require.Equal(t, len(list), total)
		return ids(list, instanceID)
	}
	org, other, space := guid(1).String(), guid(4).String(), guid(3).String()
	for _, c := range []struct {
		filter store.InstanceFilter
		want   []string
	}{
		{store.InstanceFilter{}, []string{"i1", "i2", "i3"}},
		{store.InstanceFilter{IDs: []string{}, Plans: []string{}}, []string{"i1", "i2", "i3"}},
		{store.InstanceFilter{IDs: []string{"i3", "i1", "i1", "none"}}, []string{"i1", "i3"}},
		{store.InstanceFilter{Organizations: []string{org}}, []string{"i1", "i2"}},
		{store.InstanceFilter{Organizations: []string{org, other}}, []string{"i1", "i2", "i3"}},
		{store.InstanceFilter{Organizations: []string{org}, Spaces: []string{space}}, []string{"i2"}},
		{store.InstanceFilter{Organizations: []string{other}, Spaces: []string{space}}, []string{}},
		{store.InstanceFilter{Plans: []string{"any"}}, []string{"i2"}},
		{store.InstanceFilter{Plans: []string{"org", "any"}, IDs: []string{"i1", "i2"}}, []string{"i1", "i2"}},
		{store.InstanceFilter{Plans: []string{"plan-any"}}, []string{}},
	} {
		require.Equal(t, c.want, read(c.filter), "%+v", c.filter)
	}
	for _, value := range hostile {
		for _, f := range []store.InstanceFilter{{IDs: []string{value}}, {Organizations: []string{value}}, {Spaces: []string{value}}, {Plans: []string{value}}} {
			require.Empty(t, read(f), "%+v", f)
		}
	}
}

func TestBindingsByFilter(t *testing.T) { onEach(t, testBindingsByFilter) }

func testBindingsByFilter(t *testing.T, fresh database) {
	s, _ := world(t, fresh(t))
	read := func(f store.BindingFilter) []string {
		list, total, err := s.AllBindings(ctx, f, store.Page{})
		require.NoError(t, err)
		require.Equal(t, len(list), total)
		return ids(list, boundRouteID)
	}
	for _, c := range []struct {
		filter store.BindingFilter
		want   []string
	}{
		{store.BindingFilter{}, []string{"b1", "b2", "b3", "twin"}},
		{store.BindingFilter{IDs: []string{"twin", "b2"}}, []string{"b2", "twin"}},
		{store.BindingFilter{InstanceIDs: []string{"i1"}}, []string{"b1", "b2"}},
		{store.BindingFilter{InstanceIDs: []string{"i1", "i2"}, IDs: []string{"b1", "b3"}}, []string{"b1", "b3"}},
		{store.BindingFilter{Organizations: []string{guid(1).String()}}, []string{"b1", "b2", "b3", "twin"}},
		{store.BindingFilter{Organizations: []string{guid(4).String()}}, []string{}},
		{store.BindingFilter{Spaces: []string{guid(3).String()}}, []string{"b3", "twin"}},
		{store.BindingFilter{Organizations: []string{guid(4).String()}, Spaces: []string{guid(3).String()}}, []string{}},
		{store.BindingFilter{Routes: []string{"one.example"}}, []string{"b1", "twin"}},
		{store.BindingFilter{Routes: []string{"one.example/api", "one_example.example"}}, []string{"b2", "b3"}},
		{store.BindingFilter{Routes: []string{"one.example/"}}, []string{}},
		{store.BindingFilter{Hosts: []string{"one.example"}}, []string{"b1", "b2", "twin"}},
		{store.BindingFilter{Hosts: []string{"example", "ne.example", "one", "one.example/api"}}, []string{}},
		{store.BindingFilter{Hosts: []string{"one_example.example", "no.example"}, InstanceIDs: []string{"i2"}}, []string{"b3"}},
		{store.BindingFilter{Hosts: []string{"one.example"}, Routes: []string{"one_example.example"}}, []string{}},
	} {
		require.Equal(t, c.want, read(c.filter), "%+v", c.filter)
	}
	for _, value := range hostile {
		for _, f := range []store.BindingFilter{
			{IDs: []string{value}}, {InstanceIDs: []string{value}}, {Organizations: []string{value}}, {Spaces: []string{value}}, {Routes: []string{value}}, {Hosts: []string{value}},
		} {
			require.Empty(t, read(f), "%+v", f)
		}
	}
}

func TestBoundRouteIsTheBindingWithWhatIsAroundIt(t *testing.T) {
	onEach(t, func(t *testing.T, fresh database) {
		s, clock := world(t, fresh(t))
		list, _, err := s.AllBindings(ctx, store.BindingFilter{}, store.Page{})
		require.NoError(t, err)
		others := map[string][]string{"b1": {"twin"}, "twin": {"b1"}}
		for _, got := range list {
			want, err := s.Binding(ctx, got.InstanceID, got.ID)
			require.NoError(t, err)
			require.Contains(t, want.URL, "token")
			want.URL = ""
			require.Equal(t, want, got.Binding, "without the url, which is a secret")
			owner, err := s.Instance(ctx, got.InstanceID)
			require.NoError(t, err)
			require.Equal(t, owner, got.Instance)
			require.Zero(t, got.LastUsed)
			require.ElementsMatch(t, others[got.ID], got.Others, got.ID)
		}
		require.NoError(t, s.DeleteBinding(ctx, by, "i2", "twin"))
		list, _, err = s.AllBindings(ctx, store.BindingFilter{IDs: []string{"b1"}}, store.Page{})
		require.NoError(t, err)
		require.Empty(t, list[0].Others)

		clock.add(time.Hour)
		for n := range 25 {
			b := binding(t, "i3", fmt.Sprintf("more%02d", n), "{}")
			b.Route = list[0].Route
			_, _, err := s.CreateBinding(ctx, by, b)
			require.NoError(t, err)
		}
		list, _, err = s.AllBindings(ctx, store.BindingFilter{IDs: []string{"b1", "more24"}}, store.Page{})
		require.NoError(t, err)
		require.Len(t, list[0].Others, 20)
		require.Equal(t, "more00", list[0].Others[0])
		require.Equal(t, []string{"b1", "more00"}, list[1].Others[:2], "the oldest")
		require.Len(t, list[1].Others, 20)
	})
}

func TestAuditByFilter(t *testing.T) { onEach(t, testAuditByFilter) }

func testAuditByFilter(t *testing.T, fresh database) {
	clock := newClock()
	s := openWith(t, store.Config{URL: fresh(t), Now: clock.Now})
	create(t, s, "i", "{}") // 1, at start
	clock.add(time.Second)
	bind(t, s, "i", "b", "{}") // 2
	clock.add(time.Second)
	who := store.Cause{By: "updater"}
	require.NoError(t, s.UpdateInstance(ctx, who, "i", setTo(given(t, allow(app(1)))))) // 3
	clock.add(-time.Hour)                                                               // the clock steps back
	create(t, s, "j", "{}")                                                             // 4
	require.NoError(t, s.DeleteInstance(ctx, store.Cause{}, "i"))                       // 5: b, then i
	read := func(f store.AuditFilter) []string {
		list, total, err := s.Audit(ctx, f, store.Page{})
		require.NoError(t, err)
		require.Equal(t, len(list), total)
		return ids(list, func(e store.Entry) string { return fmt.Sprintf("%d %s", e.Revision, e.ID) })
	}
	for _, c := range []struct {
		filter store.AuditFilter
		want   []string
	}{
		{store.AuditFilter{}, []string{"1 i", "2 b", "3 i", "4 j", "5 b", "5 i"}},
		{store.AuditFilter{IDs: []string{"b", "j"}}, []string{"2 b", "4 j", "5 b"}},
		{store.AuditFilter{InstanceIDs: []string{"i"}}, []string{"1 i", "2 b", "3 i", "5 b", "5 i"}},
		{store.AuditFilter{InstanceIDs: []string{"b"}}, []string{}},
		{store.AuditFilter{Kinds: []string{"binding"}}, []string{"2 b", "5 b"}},
		{store.AuditFilter{Actions: []string{"create", "update"}, Kinds: []string{"instance"}}, []string{"1 i", "3 i", "4 j"}},
		{store.AuditFilter{By: []string{"updater"}}, []string{"3 i"}},
		{store.AuditFilter{By: []string{""}}, []string{"5 b", "5 i"}},
		{store.AuditFilter{From: start.Add(time.Second)}, []string{"2 b", "3 i"}},
		{store.AuditFilter{From: start.Add(time.Second + 1)}, []string{"3 i"}},
		{store.AuditFilter{To: start.Add(time.Second)}, []string{"1 i", "4 j", "5 b", "5 i"}},
		{store.AuditFilter{To: start.Add(time.Second + 1)}, []string{"1 i", "2 b", "4 j", "5 b", "5 i"}},
		{store.AuditFilter{From: start, To: start.Add(time.Second)}, []string{"1 i"}},
		{store.AuditFilter{From: start.Add(time.Second), To: start}, []string{}},
	} {
		require.Equal(t, c.want, read(c.filter), "%+v", c.filter)
	}
	for _, value := range hostile[1:] {
		for _, f := range []store.AuditFilter{{IDs: []string{value}}, {InstanceIDs: []string{value}}, {Kinds: []string{value}}, {Actions: []string{value}}, {By: []string{value}}} {
			require.Empty(t, read(f), "%+v", f)
		}
	}
}

func TestPages(t *testing.T) { onEach(t, testPages) }

func testPages(t *testing.T, fresh database) {
	clock := newClock()
	s := openWith(t, store.Config{URL: fresh(t), Now: clock.Now})
	create(t, s, "i", "{}")
	for n := range 60 { // two and two at a time; of these, the id decides
		bind(t, s, "i", fmt.Sprintf("b%02d", n^1), "{}")
		clock.add(time.Duration(n%2) * time.Second)
	}
	read := func(p store.Page) []string {
		list, total, err := s.AllBindings(ctx, store.BindingFilter{}, p)
		require.NoError(t, err)
		require.Equal(t, 60, total)
		return ids(list, boundRouteID)
	}
	require.Equal(t, []string{"b00", "b01", "b02"}, read(store.Page{Size: 3}))
	require.Equal(t, []string{"b03", "b04", "b05"}, read(store.Page{Number: 2, Size: 3}))
	require.Equal(t, []string{"b59", "b58", "b57"}, read(store.Page{Size: 3, Descending: true}))
	require.Equal(t, []string{"b00"}, read(store.Page{Number: 60, Size: 1, Descending: true}))
	require.Equal(t, []string{"b59"}, read(store.Page{Number: 20, Size: 3})[2:])
	for _, p := range []store.Page{{}, {Number: -1, Size: -1}, {Number: math.MinInt, Size: math.MinInt}} {
		require.Len(t, read(p), 50, "%+v", p)
	}
	require.Len(t, read(store.Page{Size: math.MaxInt}), 60)
	for _, p := range []store.Page{{Number: 21, Size: 3}, {Number: math.MaxInt, Size: 1}, {Number: math.MaxInt, Size: math.MaxInt}, {Number: math.MaxInt}} {
		require.Empty(t, read(p), "%+v", p)
	}
	_, total, err := s.AllBindings(ctx, store.BindingFilter{IDs: []string{"b07", "b08"}}, store.Page{Size: 1})
	require.NoError(t, err)
	require.Equal(t, 2, total, "of what is selected")
}

func TestListsLeaveOutDamagedRowsAndSaySo(t *testing.T) {
	onEach(t, func(t *testing.T, fresh database) {
		url := fresh(t)
		s := twoInstances(t, url)
		create(t, s, "third", "{}")
		sqlOn(t, url, `UPDATE bindings SET parameters = '[]' WHERE id = 'b1'`)
		sqlOn(t, url, `UPDATE instances SET plan_scope = 'galaxy' WHERE id = 'healthy'`)
		bindings, total, err := s.AllBindings(ctx, store.BindingFilter{}, store.Page{})
		require.ErrorIs(t, err, store.ErrDamaged)
		require.ErrorContains(t, err, `"b1"`)
		require.ErrorContains(t, err, `"healthy"`, "the instance of b3")
		require.Equal(t, []string{"b2"}, ids(bindings, boundRouteID))
		require.Equal(t, 3, total)
		instances, total, err := s.Instances(ctx, store.InstanceFilter{}, store.Page{Descending: true})
		require.ErrorIs(t, err, store.ErrDamaged)
		require.Equal(t, []string{"third", "i"}, ids(instances, instanceID))
		require.Equal(t, 3, total)
		_, _, err = s.Instances(ctx, store.InstanceFilter{IDs: []string{"i"}}, store.Page{})
		require.NoError(t, err, "what was not asked for")

		require.NoError(t, s.Close())
		_, _, err = s.AllBindings(ctx, store.BindingFilter{}, store.Page{})
		require.ErrorIs(t, err, store.ErrUnavailable)
		require.NotErrorIs(t, err, store.ErrDamaged)
	})
}

// Operators delete what Cloud Controller has forgotten: they know the binding.
func TestDeleteBindingOfWhateverInstance(t *testing.T) {
	onEach(t, func(t *testing.T, fresh database) {
		url := fresh(t)
		s, there := twoInstances(t, url), open(t, url)
		require.NoError(t, s.DeleteBinding(ctx, by, "", "b1"))
		require.Nil(t, s.View().Access("b1"))
		require.NotNil(t, s.View().Access("b2"))
		await(t, func() bool { return there.View().Access("b1") == nil })
		_, _, err := s.CreateBinding(ctx, by, binding(t, "i", "b1", "{}"))
		require.ErrorIs(t, err, store.ErrDeleted)
		entry := func() store.Entry {
			list, _, err := s.Audit(ctx, store.AuditFilter{}, store.Page{Size: 1, Descending: true})
			require.NoError(t, err)
			return list[0]
		}
		require.Equal(t, "i", entry().InstanceID)
		require.Contains(t, string(entry().Before), "b1.apps.identity/path")

		require.ErrorIs(t, s.DeleteBinding(ctx, by, "", "unknown"), store.ErrNotFound)
		require.Equal(t, "unknown", entry().ID)
		require.Empty(t, entry().InstanceID)
		require.ErrorIs(t, s.DeleteBinding(ctx, by, "", ""), store.ErrNotFound)
		require.NotNil(t, s.View().Access("b2"))
		require.NoError(t, s.UpdateInstance(ctx, by, "i", setTo(parameters.Parameters{})))
		await(t, func() bool { return there.View().Synced() == 9 })
	})
}

package store_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/store"
	"github.com/mtls-authz/mtls-authz/store/sightings"
)

// seen is a decision about a binding, a second after the one before.
func seen(n int, binding, caller, outcome, reason string) *sightings.Decision {
	d := &sightings.Decision{
		DecisionID: fmt.Sprintf("decision-%d", n), At: start.Add(time.Duration(n) * time.Second), Binding: binding, Route: binding + ".apps.identity/path",
		Outcome: outcome, Reason: reason, Method: "GET", Path: "/a", Host: binding + ".apps.identity", PolicyRevision: "policy", Revision: 7, Mode: "enforce",
	}
	if caller != "" {
		d.App, d.Space, d.Org = caller, "space of "+caller, "org of "+caller
	}
	return d
}

// shown is a sighting in a few words.
func shown(list []sightings.Sighting) []string {
	words := []string{}
	for _, s := range list {
		words = append(words, strings.TrimRight(fmt.Sprintf("%s %s %s %d %s %s %s", s.Binding, s.App, s.Outcome, s.Times, s.Reason, s.Method, s.Path), " "))
	}
	return words
}

func TestSightingsOfAllGateways(t *testing.T) {
	onEach(t, func(t *testing.T, fresh database) {
		url := fresh(t)
		here, there := twoInstances(t, url), open(t, url)
		for n := range 3 {
			here.Sightings().Note(seen(n, "b1", "app-1", sightings.Allowed, ""))
		}
		here.Sightings().Note(seen(3, "b1", "app-2", sightings.Denied, "scope"))
		require.NoError(t, here.Sightings().Write(ctx))
		there.Sightings().Note(seen(10, "b1", "app-1", sightings.Allowed, ""))
		there.Sightings().Note(seen(11, "b1", "app-2", sightings.Denied, "scope"))
		there.Sightings().Note(seen(12, "b2", "", sightings.NotEnforced, "no_certificate"))
		require.NoError(t, there.Sightings().Write(ctx))

		callers, err := here.Sightings().Fresh(ctx).Callers(ctx, "b1")
		require.NoError(t, err)
		require.Equal(t, []string{"b1 app-2 denied 2", "b1 app-1 allowed 4"}, shown(callers))
		require.Equal(t, start, callers[1].First)
		require.Equal(t, start.Add(10*time.Second), callers[1].Last)
		require.Equal(t, "space of app-1", callers[1].Space)
		refusals, err := here.Sightings().Fresh(ctx).Refusals(ctx, 20, "b1", "b2")
		require.NoError(t, err)
		require.Equal(t, []string{"b2  not_enforced 1 no_certificate GET /a", "b1 app-2 denied 2 scope GET /a"}, shown(refusals))
		require.Equal(t, []string{"decision-12", "decision-11"}, []string{refusals[0].DecisionID, refusals[1].DecisionID}, "the newest of each")
		refusals, err = here.Sightings().Fresh(ctx).Refusals(ctx, 1, "b1", "b2")
		require.NoError(t, err)
		require.Len(t, refusals, 1)
		totals, err := here.Sightings().Fresh(ctx).Totals(ctx, "b1", "b2", "none")
		require.NoError(t, err)
		require.ElementsMatch(t, []string{"b1  allowed 4", "b1  denied 2", "b2  not_enforced 1"}, shown(totals))

		homes, err := there.Sightings().Fresh(ctx).Homes(ctx, []string{"app-1", "never"}, []string{"space of app-2"})
		require.NoError(t, err)
		require.Equal(t, map[string]sightings.Home{
			"app-1": {ID: "app-1", Space: "space of app-1", Org: "org of app-1"}, "space of app-2": {ID: "space of app-2", Space: "space of app-2", Org: "org of app-2"},
		}, homes)
		denial, err := here.Sightings().Fresh(ctx).Denial(ctx, "decision-11")
		require.NoError(t, err)
		require.Equal(t, *seen(11, "b1", "app-2", sightings.Denied, "scope"), denial)
		for _, id := range []string{"decision-0", "", "x' OR 1=1 --"} {
			_, err = here.Sightings().Fresh(ctx).Denial(ctx, id)
			require.ErrorIs(t, err, store.ErrNotFound, id)
		}
	})
}

// Who calls much, under many paths or as many apps, takes the place of his own.
func TestSightingsThatAnAttackerCannotPushOut(t *testing.T) {
	onEach(t, func(t *testing.T, fresh database) {
		s := twoInstances(t, fresh(t))
		s.Sightings().Note(seen(0, "b1", "good", sightings.Allowed, ""))
		s.Sightings().Note(seen(1, "b1", "unlucky", sightings.Denied, "no_matching_grant"))
		s.Sightings().Note(seen(2, "b2", "unlucky", sightings.Denied, "no_matching_grant"))
		require.NoError(t, s.Sightings().Write(ctx))
		n := 10
		for range 20 { // many paths, by one app and by nobody
			for range 30 {
				n++
				for _, app := range []string{"attacker", ""} {
					d := seen(n, "b1", app, sightings.Denied, "no_matching_grant")
					d.DecisionID, d.Path = app+d.DecisionID, fmt.Sprintf("/%d", n)
					s.Sightings().Note(d)
				}
			}
			require.NoError(t, s.Sightings().Write(ctx))
		}
		refusals, err := s.Sightings().Fresh(ctx).Refusals(ctx, 1000, "b1")
		require.NoError(t, err)
		require.Len(t, refusals, 20+20+1)
		require.Equal(t, []string{fmt.Sprintf("b1  denied 1 no_matching_grant GET /%d", n), fmt.Sprintf("b1 attacker denied 1 no_matching_grant GET /%d", n)}, shown(refusals[:2]), "the newest win")
		require.Equal(t, "b1 unlucky denied 1 no_matching_grant GET /a", shown(refusals)[40])
		for _, id := range []string{"decision-1", "decision-2", fmt.Sprintf("attackerdecision-%d", n)} {
			_, err = s.Sightings().Fresh(ctx).Denial(ctx, id)
			require.NoError(t, err, id)
		}

		for range 3 { // many apps
			for range 100 {
				n++
				s.Sightings().Note(seen(n, "b1", fmt.Sprintf("attacker-%d", n), sightings.Denied, "no_matching_grant"))
			}
			require.NoError(t, s.Sightings().Write(ctx))
		}
		callers, err := s.Sightings().Fresh(ctx).Callers(ctx, "b1", "b2")
		require.NoError(t, err)
		require.Len(t, callers, 100+1+1)
		require.Contains(t, shown(callers), "b1 good allowed 1", "who is allowed has places of his own")
		require.Contains(t, shown(callers), "b2 unlucky denied 1", "and so has each binding")
		refusals, err = s.Sightings().Fresh(ctx).Refusals(ctx, 1000, "b1")
		require.NoError(t, err)
		require.Len(t, refusals, 100)
	})
}

func TestSightingsAreBoundedInMemory(t *testing.T) {
	s := twoInstances(t, databases["sqlite"](t))
	for n := range 101 {
		s.Sightings().Note(seen(n, "b1", fmt.Sprintf("app-%d", n), sightings.Allowed, ""))
	}
	require.EqualValues(t, 1, s.Sightings().Dropped(), "one binding has a hundred places")
	callers, err := s.Sightings().Fresh(ctx).Callers(ctx, "b1") // writes
	require.NoError(t, err)
	require.Len(t, callers, 100)
	s.Sightings().Note(seen(1, "b1", "app-100", sightings.Allowed, ""))
	require.EqualValues(t, 1, s.Sightings().Dropped(), "what is written makes room")
	before := s.Sightings().Dropped()
	dropped := func(owner string, callers int) int64 {
		already := s.Sightings().Dropped()
		for n := range callers {
			d := seen(n, fmt.Sprintf("%s-%d", owner, n), "app", sightings.Denied, "scope")
			d.Owner = owner
			s.Sightings().Note(d)
		}
		return s.Sightings().Dropped() - already
	}
	require.EqualValues(t, (6000-4999)+(4999-2500), dropped("greedy", 6000), "one owner gets half of the places at most")
	require.EqualValues(t, (1200-1000)+(1000-500), dropped("later", 1200), "once half is taken, a tenth")
	require.Zero(t, dropped("modest", 400), "and leaves room for others")
	for n := range 20 {
		dropped(fmt.Sprintf("owner-%d", n), 1000)
	}
	noted := int64(6000 + 1200 + 400 + 20*1000)
	require.Equal(t, noted-9_999+(9_999-5000), s.Sightings().Dropped()-before, "10,000 callers and 5000 refusals in all")
}

// An owner of many routes takes the place of his own refusals, however many
// callers and routes he has.
func TestRefusalsThatAnotherOwnerCannotPushOut(t *testing.T) {
	onEach(t, func(t *testing.T, fresh database) {
		s := openWith(t, store.Config{URL: fresh(t), Timeout: patience}) // on a busy machine, too
		create(t, s, "i", "{}")
		bind(t, s, "i", "b1", "{}")
		n := 0
		refuse := func(owner, binding string, times int) {
			for range times {
				n++
				d := seen(n, binding, "", sightings.Denied, "no_certificate")
				d.DecisionID, d.Owner = fmt.Sprintf("%s-%d", owner, n), owner
				s.Sightings().Note(d)
			}
		}
		refuse("victim", "b1", 20)
		require.NoError(t, s.Sightings().Write(ctx))
		for range 5 {
			for binding := range 210 {
				refuse("attacker", fmt.Sprintf("of-attacker-%d", binding), 20)
				if binding%100 == 99 {
					require.NoError(t, s.Sightings().Write(ctx))
				}
			}
			require.NoError(t, s.Sightings().Write(ctx))
		}
		refuse("another", "b2", 1)
		require.NoError(t, s.Sightings().Write(ctx))
		for _, id := range []string{"victim-1", "victim-20", fmt.Sprintf("another-%d", n), fmt.Sprintf("attacker-%d", n-1)} {
			_, err := s.Sightings().Denial(ctx, id)
			require.NoError(t, err, id)
		}
	})
}

// Texts of requests that a database would not take, or a terminal would obey.
func TestSightingsOfOddTexts(t *testing.T) {
	onEach(t, func(t *testing.T, fresh database) {
		s := twoInstances(t, fresh(t))
		d := seen(1, "b1", "app", sightings.Denied, "malformed_request")
		d.Method, d.Path, d.Detail, d.Host = "G\x00ET\x1b[2J", "/"+strings.Repeat("a", 5000), "\xff\xfe'; DROP TABLE denials", "h\r\nost"
		s.Sightings().Note(d)
		got, err := s.Sightings().Fresh(ctx).Denial(ctx, "decision-1")
		require.NoError(t, err)
		require.Equal(t, []any{"GET[2J", 1024, true, "'; DROP TABLE denials", "host"}, []any{got.Method, len(got.Path), got.Cut, got.Detail, got.Host})
		refusals, err := s.Sightings().Fresh(ctx).Refusals(ctx, 5, "b1")
		require.NoError(t, err)
		require.Equal(t, "GET[2J", refusals[0].Method)
	})
}

// Whatever a request holds, a refusal of its kind is one row, and those that come
// after it are kept, too.
func TestOddSightingsTwice(t *testing.T) {
	onEach(t, func(t *testing.T, fresh database) {
		s := twoInstances(t, fresh(t))
		odd := []string{"/\xff", "/\u009b", "/a\x00b", "/\u202e", "/" + strings.Repeat("a", 2000), "/" + strings.Repeat("\xff", 2000), "/\ufffd"}
		for n, path := range odd {
			for range 2 {
				d := seen(n, "b1", "app", sightings.Denied, "malformed_request")
				d.Path, d.Method = path, strings.Repeat("A", 300)
				s.Sightings().Note(d)
			}
		}
		for range 2 {
			d := seen(20, "b1\xff", "app", sightings.Denied, "scope")
			d.App = "\xffapp"
			s.Sightings().Note(d)
		}
		require.NoError(t, s.Sightings().Write(ctx))
		s.Sightings().Note(seen(30, "b2", "later", sightings.Denied, "scope"))
		require.NoError(t, s.Sightings().Write(ctx))
		later, err := s.Sightings().Fresh(ctx).Refusals(ctx, 20, "b2")
		require.NoError(t, err)
		require.Len(t, later, 1)
		require.Zero(t, s.Sightings().Dropped())
		refusals, err := s.Sightings().Fresh(ctx).Refusals(ctx, 20, "b1")
		require.NoError(t, err)
		require.NotEmpty(t, refusals)
		total := int64(0)
		for _, one := range refusals {
			if one.Reason == "malformed_request" {
				total += one.Times
			}
		}
		require.EqualValues(t, 2*len(odd), total)
	})
}

func TestSightingsGoWithTheirBindingAndDenialsStay(t *testing.T) {
	onEach(t, func(t *testing.T, fresh database) {
		s := twoInstances(t, fresh(t))
		s.Sightings().Note(seen(1, "b1", "app", sightings.Denied, "scope"))
		require.NoError(t, s.Sightings().Write(ctx))
		s.Sightings().Note(seen(2, "b1", "app", sightings.Denied, "scope"))
		require.NoError(t, s.DeleteBinding(ctx, by, "i", "b1"))
		callers, err := s.Sightings().Fresh(ctx).Callers(ctx, "b1")
		require.NoError(t, err)
		require.Empty(t, callers)
		for _, id := range []string{"decision-1", "decision-2"} {
			_, err = s.Sightings().Fresh(ctx).Denial(ctx, id)
			require.NoError(t, err)
		}
	})
}

// Gateways that write at once while bindings come and go: changes never fail
// because of it, and in the end all is counted.
func TestSightingsOfManyGatewaysAtOnce(t *testing.T) {
	onEach(t, func(t *testing.T, fresh database) {
		url := fresh(t)
		reader := twoInstances(t, url)
		gateways, rounds := 3, 20
		if strings.HasPrefix(url, "sqlite:") {
			gateways = 1
		}
		var running sync.WaitGroup
		for gateway := range gateways {
			s := openWith(t, store.Config{URL: url, SightingsInterval: 10 * time.Millisecond})
			running.Go(func() {
				for round := range rounds {
					for n := range 50 {
						d := seen(round, "b1", fmt.Sprintf("app-%d", n), sightings.Denied, "scope")
						d.DecisionID = fmt.Sprintf("%d-%d-%d", gateway, round, n)
						s.Sightings().Note(d)
					}
					id := fmt.Sprintf("w%d-%d", gateway, round)
					if _, _, err := s.CreateBinding(ctx, by, binding(t, "i", id, "{}")); err != nil {
						t.Error(err)
					}
					s.Sightings().Note(seen(round, id, "app", sightings.Allowed, ""))
					if err := s.DeleteBinding(ctx, by, "i", id); err != nil {
						t.Error("a change must not fail because of what was noted: ", err)
					}
				}
			})
		}
		running.Wait()
		await(t, func() bool {
			totals, err := reader.Sightings().Fresh(ctx).Totals(ctx, "b1")
			require.NoError(t, err)
			return len(totals) == 1 && totals[0].Times == int64(gateways*rounds*50)
		})
	})
}

func BenchmarkSightings(b *testing.B) {
	s := open(b, databases["sqlite"](b))
	d := seen(1, "b1", "app", sightings.Allowed, "")
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			s.Sightings().Note(d)
		}
	})
}

package store_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/grants/names"
	"github.com/mtls-authz/mtls-authz/store"
	"github.com/mtls-authz/mtls-authz/store/resolution"
)

func nameOf(t *testing.T, text string) names.Reference {
	t.Helper()
	name, is, err := names.Parse(text)
	require.NoError(t, err)
	require.True(t, is)
	return name.From(guid(1), guid(2))
}

func save(t *testing.T, r *resolution.Resolutions, changed map[names.Reference]names.Resolution, forget ...names.Reference) {
	t.Helper()
	saving, err := r.Begin(ctx)
	require.NoError(t, err)
	require.NoError(t, saving.Save(ctx, changed, forget))
}

// What one gateway has looked up, all decide by, and a gateway that starts later.
func TestResolutionsAreShared(t *testing.T) { onEach(t, testResolutionsAreShared) }

func testResolutionsAreShared(t *testing.T, fresh database) {
	url := fresh(t)
	here, there := open(t, url), open(t, url)
	app, label := nameOf(t, "app:frontend"), names.Reference{Org: guid(1), Name: names.Name{Kind: names.Labelled, Space: "m", Labels: "a=b"}}
	want := map[names.Reference]names.Resolution{
		app:                       {Holders: []names.Holder{{ID: guid(7)}, {ID: guid(8), Until: start.Add(time.Minute)}}},
		nameOf(t, "app:m/x,\"y%"): {Missing: start},
		label:                     {Holders: []names.Holder{{ID: guid(9)}}, Trimmed: true},
	}
	save(t, here.Names(), want)
	holds := func(s *store.Store) bool {
		for reference, resolution := range want {
			found, ok := s.Names().Book().Page().Look(reference)
			if !ok || !assert.ObjectsAreEqual(resolution, found) {
				return false
			}
		}
		return true
	}
	require.True(t, holds(here), "at once where it was saved")
	await(t, func() bool { return holds(there) })
	require.True(t, holds(open(t, url)), "after a restart")

	page := there.Names().Book().Page()
	save(t, here.Names(), map[names.Reference]names.Resolution{app: {Missing: start}}, label)
	await(t, func() bool { return there.Names().Book().Page() != page })
	found, ok := there.Names().Book().Page().Look(app)
	require.True(t, ok)
	require.Equal(t, names.Resolution{Missing: start}, found)
	_, ok = there.Names().Book().Page().Look(label)
	require.False(t, ok, "forgotten")
}

// Two that look up at once: the first one's word stands, since the other has not
// seen it.
func TestResolutionOfTwoAtOnce(t *testing.T) { onEach(t, testResolutionOfTwoAtOnce) }

func testResolutionOfTwoAtOnce(t *testing.T, fresh database) {
	url := fresh(t)
	here, there := open(t, url).Names(), open(t, url).Names()
	app := nameOf(t, "app:frontend")
	one, err := here.Begin(ctx)
	require.NoError(t, err)
	other, err := there.Begin(ctx)
	require.NoError(t, err)
	require.NoError(t, one.Save(ctx, map[names.Reference]names.Resolution{app: {Holders: []names.Holder{{ID: guid(1)}}}}, nil))
	require.NoError(t, other.Save(ctx, map[names.Reference]names.Resolution{app: {Holders: []names.Holder{{ID: guid(2)}}}}, nil))
	for _, r := range []*resolution.Resolutions{here, there} {
		found, _ := r.Book().Page().Look(app)
		require.Equal(t, guid(1), found.Holders[0].ID)
	}
	late, err := here.Begin(ctx)
	require.NoError(t, err)
	save(t, there, map[names.Reference]names.Resolution{app: {Missing: start}})
	require.NoError(t, late.Save(ctx, nil, []names.Reference{app}))
	found, ok := here.Book().Page().Look(app)
	require.True(t, ok && !found.Missing.IsZero(), "what has changed is not forgotten")
}

func TestTurnsAreTakenByOne(t *testing.T) { onEach(t, testTurnsAreTakenByOne) }

func testTurnsAreTakenByOne(t *testing.T, fresh database) {
	url, clock := fresh(t), newClock()
	here, there := openWith(t, store.Config{URL: url, Now: clock.Now}).Names(), openWith(t, store.Config{URL: url, Now: clock.Now}).Names()
	take := func(r *resolution.Resolutions, turn int) bool {
		taken, err := r.TakeTurn(ctx, turn, time.Minute)
		require.NoError(t, err)
		return taken
	}
	require.True(t, take(here, resolution.Round))
	require.False(t, take(there, resolution.Round))
	require.True(t, take(there, resolution.News))
	clock.add(time.Minute)
	require.True(t, take(there, resolution.Round))
	require.False(t, take(here, resolution.Round))
	clock.add(-time.Hour)
	require.True(t, take(here, resolution.Round), "a clock was wrong")
}

// A gateway reads what has changed, and everything where that does not tell.
func TestForgottenNames(t *testing.T) { onEach(t, testForgottenNames) }

func testForgottenNames(t *testing.T, fresh database) {
	url, clock := fresh(t), newClock()
	here := openWith(t, store.Config{URL: url, Now: clock.Now}).Names()
	there := openWith(t, store.Config{URL: url, Now: clock.Now, PollInterval: time.Hour}).Names()
	held := names.Resolution{Holders: []names.Holder{{ID: guid(1)}}}
	kept := nameOf(t, "app:kept")
	save(t, here, map[names.Reference]names.Resolution{kept: held})
	rows := func() int64 {
		db := connect(t, url)
		defer func() { require.NoError(t, db.Close()) }()
		var n int64
		require.NoError(t, db.QueryRow(`SELECT COUNT(*) FROM resolutions`).Scan(&n))
		return n
	}
	for _, step := range []struct {
		name string
		wait time.Duration
		rows int64 // that are left, of the kept name and of forgotten ones
	}{{"the first", 0, 1}, {"soon after, its row stays", time.Minute, 2}, {"with another", time.Minute, 3}, {"later, all such rows go", time.Hour, 1}} {
		clock.add(step.wait)
		gone := nameOf(t, "app:"+step.name)
		save(t, here, map[names.Reference]names.Resolution{gone: held})
		require.NoError(t, there.Load(ctx))
		found, ok := there.Book().Page().Look(gone)
		require.True(t, ok, step.name)
		require.Equal(t, held, found)
		save(t, here, nil, gone)
		require.Equal(t, step.rows, rows(), step.name)
		for _, r := range []*resolution.Resolutions{here, there} {
			require.NoError(t, r.Load(ctx))
			_, ok = r.Book().Page().Look(gone)
			require.False(t, ok, step.name)
			require.Equal(t, 1, r.Book().Page().Len(), step.name)
		}
	}
	again := nameOf(t, "app:soon after, its row stays")
	save(t, here, map[names.Reference]names.Resolution{again: held})
	require.NoError(t, there.Load(ctx))
	_, ok := there.Book().Page().Look(again)
	require.True(t, ok, "used again")

	sqlOn(t, url, `UPDATE resolutions SET found = '{', version = version + 100`)
	sqlOn(t, url, `UPDATE resolution_turns SET version = version + 100 WHERE id = 0`)
	require.NoError(t, there.Load(ctx))
	require.Zero(t, there.Book().Page().Len(), "damaged rows stand for nobody")
}

// A database that was restored has older versions: what it says counts.
func TestResolutionsOfARestoredDatabase(t *testing.T) { onEach(t, testResolutionsOfARestoredDatabase) }

func testResolutionsOfARestoredDatabase(t *testing.T, fresh database) {
	url := fresh(t)
	r := open(t, url).Names()
	old, late := nameOf(t, "app:old"), nameOf(t, "app:late")
	save(t, r, map[names.Reference]names.Resolution{old: {Missing: start}})
	save(t, r, map[names.Reference]names.Resolution{late: {Missing: start}})
	sqlOn(t, url, `DELETE FROM resolutions WHERE version = 2`)
	sqlOn(t, url, `UPDATE resolution_turns SET version = 1 WHERE id = 0`)
	require.NoError(t, r.Load(ctx))
	_, ok := r.Book().Page().Look(old)
	require.True(t, ok)
	_, ok = r.Book().Page().Look(late)
	require.False(t, ok)
}

// More names than one transaction writes.
func TestThousandsOfResolutions(t *testing.T) { onEach(t, testThousandsOfResolutions) }

func testThousandsOfResolutions(t *testing.T, fresh database) {
	url := fresh(t)
	here, there := open(t, url).Names(), open(t, url).Names()
	changed := map[names.Reference]names.Resolution{}
	for n := range 2345 {
		changed[nameOf(t, fmt.Sprintf("app:%d", n))] = names.Resolution{Holders: []names.Holder{{ID: guid(n + 1)}}}
	}
	save(t, here, changed)
	require.NoError(t, there.Load(ctx))
	for _, r := range []*resolution.Resolutions{here, there} {
		require.Equal(t, changed, maps.Collect(r.Book().Page().All()))
	}
	save(t, there, nil, slices.Collect(maps.Keys(changed))...)
	require.NoError(t, here.Load(ctx))
	require.Zero(t, here.Book().Page().Len())
}

// The names that are looked up are those of what is bound.
func TestReferencesFollowTheState(t *testing.T) {
	s := open(t, "sqlite://"+newFile(t))
	create(t, s, "one", `{"allow":["app:frontend","org:."]}`)
	require.Zero(t, s.View().References().Len())
	bind(t, s, "one", "b1", `{"allow":["space:x"]}`)
	bind(t, s, "one", "b2", `{}`)
	require.Equal(t, 2, s.View().References().Len())
	require.NoError(t, s.DeleteBinding(ctx, by, "one", "b1"))
	require.Equal(t, 1, s.View().References().Len())
	same := s.View().References()
	create(t, s, "two", `{"allow":["app:frontend"]}`)
	bind(t, s, "two", "b3", `{}`)
	require.Same(t, same, s.View().References(), "another instance of the space names the same")
	require.NoError(t, s.DeleteInstance(ctx, by, "one"))
	require.Equal(t, 1, s.View().References().Len(), "and still does")
	require.NoError(t, s.DeleteInstance(ctx, by, "two"))
	require.Zero(t, s.View().References().Len())
}

func TestResolutionsWithoutTheDatabase(t *testing.T) {
	s := open(t, "sqlite://"+newFile(t))
	saving, err := s.Names().Begin(ctx)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	require.ErrorIs(t, saving.Save(ctx, map[names.Reference]names.Resolution{nameOf(t, "app:x"): {}}, nil), store.ErrUnavailable)
	_, err = s.Names().TakeTurn(ctx, resolution.Round, time.Minute)
	require.ErrorIs(t, err, store.ErrUnavailable)
	require.ErrorIs(t, s.Names().Load(ctx), store.ErrUnavailable)
}

package grants_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/names"
	"github.com/mtls-authz/mtls-authz/grants/parameters"
	"github.com/mtls-authz/mtls-authz/grants/route"
	"github.com/mtls-authz/mtls-authz/identity"
)

// standing turns a book to a page on which names of the owner stand for guids.
func standing(t testing.TB, book *names.Book, page map[string][]names.Holder) {
	t.Helper()
	entries := map[names.Reference]names.Resolution{}
	for text, holders := range page {
		name, is, err := names.Parse(text)
		if text == labelled {
			name, err, is = names.Name{Kind: names.Labelled, Space: "monitoring", Labels: "team=payments"}, nil, true
		}
		require.NoError(t, err)
		require.True(t, is)
		entries[name.From(owner.Org, owner.Space)] = names.Resolution{Holders: holders}
	}
	book.Turn(names.NewPage(entries))
}

const labelled = `{"source":"apps","space":"monitoring","labels":"team=payments"}`

func holder(id string) names.Holder { return names.Holder{ID: guid(id)} }

// byName is a route with these entries, and a book for its names.
func byName(t testing.TB, entries ...string) (*grants.Access, *names.Book) {
	t.Helper()
	book := &names.Book{}
	b := bound(allowing(t, entries...))
	b.Names = book
	return parameters.NewAccess(b), book
}

func TestANameStandsForWhatBearsIt(t *testing.T) {
	other := callerOf(metrics, billing, acme)
	for entry, holders := range map[string][]names.Holder{
		"app:frontend": {holder(frontend)}, "app:shop/frontend": {holder(frontend)}, "space:shop": {holder(shop)}, labelled: {holder(frontend)},
	} {
		access, book := byName(t, entry)
		deny(t, access.Live(now, nil), caller, "GET /")
		standing(t, book, map[string][]names.Holder{entry: holders})
		want := "route:cf:app:" + frontend
		if entry == "space:shop" {
			want = "route:cf:space:" + shop
		}
		allow(t, access.Live(now, nil), caller, "GET /", want)
		deny(t, access.Live(now, nil), other, "GET /")
		standing(t, book, nil)
		deny(t, access.Live(now, nil), caller, "GET /")
	}
}

// The own org needs nobody to look it up.
func TestOwnOrgIsKnown(t *testing.T) {
	access := parameters.NewAccess(bound(allowing(t, "org:.")))
	allow(t, access.Live(now, nil), caller, "GET /", "route:cf:org:"+acme)
	deny(t, access.Live(now, nil), callerOf(frontend, shop, globex), "GET /")
	assert.Empty(t, access.References())
}

// What the book says of another org or space is nothing to this route.
func TestNamesOfOthersStandForNobody(t *testing.T) {
	access, book := byName(t, "app:frontend", "space:shop")
	name := names.Name{Kind: names.App, App: "frontend"}
	spaceName := names.Name{Kind: names.Space, Space: "shop"}
	forged := names.Resolution{Holders: []names.Holder{holder(frontend)}}
	book.Turn(names.NewPage(map[names.Reference]names.Resolution{
		name.From(guid(globex), guid(shop)): forged, name.From(guid(acme), guid(billing)): forged, name.From(guid(acme), identity.GUID{}): forged,
		spaceName.From(guid(globex), guid(shop)): {Holders: []names.Holder{holder(shop)}},
	}))
	deny(t, access.Live(now, nil), caller, "GET /")
}

func TestConditionsHoldForNames(t *testing.T) {
	entry := `{"source":"app:frontend","methods":["GET"],"paths":["/a"],"routes":["backend.apps.identity"],"expires":"2026-05-04T10:20:00Z","reason":"r"}`
	access, book := byName(t, entry)
	standing(t, book, map[string][]names.Holder{"app:frontend": {holder(frontend)}})
	l := access.Live(now, nil)
	allow(t, l, caller, "GET /a", "route:cf:app:"+frontend)
	deny(t, l, caller, "POST /a")
	deny(t, l, caller, "GET /b")
	assert.True(t, l.HasMethods && l.HasPaths)
	deny(t, access.Live(now.Add(5*time.Minute), nil), caller, "GET /a")
	elsewhere, book := byName(t, `{"source":"app:frontend","routes":["other.apps.identity"]}`)
	standing(t, book, map[string][]names.Holder{"app:frontend": {holder(frontend)}})
	deny(t, elsewhere.Live(now, nil), caller, "GET /a")
}

// A former holder stands for the name until its grace ends, whoever looks or does
// not look in the meantime.
func TestGraceEndsByItself(t *testing.T) {
	access, book := byName(t, "app:frontend", `{"source":"app:shop/frontend","expires":"2026-05-04T10:16:00Z"}`)
	former := names.Holder{ID: guid(frontend), Until: now.Add(10 * time.Minute)}
	standing(t, book, map[string][]names.Holder{"app:frontend": {former, holder(metrics)}, "app:shop/frontend": {former}})
	l := access.Live(now, nil)
	assert.Equal(t, now.Add(time.Minute), l.Until, "the end that was written is sooner")
	allow(t, access.Live(now.Add(10*time.Minute-1), nil), caller, "GET /", "route:cf:app:"+frontend)
	deny(t, access.Live(now.Add(10*time.Minute), nil), caller, "GET /")
	allow(t, access.Live(now.Add(time.Hour), nil), callerOf(metrics, billing, acme), "GET /", "route:cf:app:"+metrics)
}

func TestWhatWasWrittenIsKept(t *testing.T) {
	access, book := byName(t, `{"source":"app:frontend","methods":["GET"]}`, labelled)
	standing(t, book, map[string][]names.Holder{"app:frontend": {{ID: guid(frontend), Until: now.Add(time.Minute)}}, labelled: {holder(metrics)}})
	var written []string
	for _, rule := range access.Live(now, nil).Rules {
		raw, err := rule.Written().MarshalJSON()
		require.NoError(t, err)
		written = append(written, string(raw))
		assert.NotEqual(t, grants.Named, rule.Source.Kind)
	}
	assert.ElementsMatch(t, []string{`{"source":"app:frontend","methods":["GET"]}`, labelled}, written)
	assert.Len(t, access.Namings(), 2)
	assert.Len(t, access.References(), 2)
}

func TestWarningsOfNames(t *testing.T) {
	warns := func(entry string, resolution *names.Resolution) string {
		access, book := byName(t, entry)
		if resolution != nil {
			book.Turn(names.NewPage(map[names.Reference]names.Resolution{access.References()[0]: *resolution}))
		}
		return access.Namings()[0].Warning(now)
	}
	missing := names.Resolution{Missing: now.Add(-time.Hour)}
	assert.Equal(t, "app:frontend was not looked up yet and allows nobody", warns("app:frontend", nil))
	assert.Equal(t, "space:shop: no space bears this name since 2026-05-04T09:15:00Z, so it allows nobody; whoever gives a space of the organization this name will be allowed, so remove the entry if none is to come", warns("space:shop", &missing))
	assert.Contains(t, warns(labelled, &missing), "no app bears these labels since")
	assert.Contains(t, warns(labelled, &names.Resolution{Holders: []names.Holder{holder(frontend)}, Trimmed: true}), "more than 1000")
	missing.Holders = []names.Holder{{ID: guid(frontend), Until: now.Add(time.Minute)}}
	assert.Contains(t, warns("app:frontend", &missing), "let in until 2026-05-04T10:16:00Z")
	missing.Holders[0].Until = now
	assert.Contains(t, warns("app:frontend", &missing), "allows nobody")
	assert.Empty(t, warns("app:frontend", &names.Resolution{Holders: []names.Holder{holder(frontend)}}))
	assert.Empty(t, warns("org:.", nil))
}

// Routes of one instance share what they have in common, by name too; a route of
// another instance without names is left alone by new pages.
func TestPagesReachTheNextRequest(t *testing.T) {
	book := &names.Book{}
	instance := allowing(t, "app:frontend")
	common := grants.NewCommon(instance.Allow)
	make := func(id, ofBinding string) *grants.Access {
		b := bound(instance)
		b.Binding, b.Common, b.Names = id, common, book
		var err error
		b.OfBinding, err = parameters.ParseBinding([]byte(ofBinding))
		require.NoError(t, err)
		return parameters.NewAccess(b)
	}
	one, two := make("b-1", `{}`), make("b-2", `{"allow":["app:shop/metrics"]}`)
	plain := parameters.NewAccess(bound(allowing(t, app)))
	unnamed := plain.Live(now, nil)
	assert.Empty(t, unnamed.Resolution)
	seen := map[string]bool{}
	for _, id := range []string{frontend, metrics} {
		standing(t, book, map[string][]names.Holder{"app:frontend": {holder(id)}, "app:shop/metrics": {holder(billing)}})
		for _, access := range []*grants.Access{one, two} {
			l := access.Live(now, nil)
			allow(t, l, callerOf(id, shop, acme), "GET /", "route:cf:app:"+id)
			assert.False(t, seen[l.Resolution], "what a decision was keyed by before must not be reached again")
			seen[l.Resolution] = true
			assert.Same(t, l, access.Live(now, nil))
		}
		assert.Len(t, one.Live(now, nil).Rules, 1)
		assert.Len(t, two.Live(now, nil).Rules, 2)
		assert.Same(t, unnamed, plain.Live(now, nil))
	}
	// The same content on another instance of the gateway has the same digest.
	standing(t, book, map[string][]names.Holder{"app:frontend": {holder(frontend)}, "app:shop/metrics": {holder(billing)}})
	assert.True(t, seen[one.Live(now, nil).Resolution])
}

// The operator's grants belong to no org: a name in them is nobody.
func TestOperatorsNamesStandForNobody(t *testing.T) {
	access, book := byName(t, "app:nothing")
	standing(t, book, map[string][]names.Holder{"app:frontend": {holder(frontend)}})
	l := access.Live(now, site(t, "app:frontend", "org:."))
	deny(t, l, caller, "GET /")
	assert.Empty(t, l.Rules)
}

func TestListsOfNamesThatContradictThemselves(t *testing.T) {
	for entries, say := range map[string]string{
		`["app:a","app:a"]`:                             "twice",
		`["app:a",{"source":"app:a","paths":["/"]}]`:    "both with and without",
		`[` + labelled + `,` + labelled + `]`:           "twice",
		`["cf:any","app:a"]`:                            "would not matter",
		`[{"source":"apps","space":"x"}]`:               "object",
		`[{"source":"app:a","space":"x"}]`:              "belong to",
		`[{"source":"apps","space":"x","labels":"!a"}]`: "key=value",
	} {
		_, err := parameters.ParseInstance([]byte(`{"allow":` + entries + `}`))
		require.ErrorContains(t, err, say, entries)
	}
	many := []string{}
	for i := range grants.MaxNames + 1 {
		many = append(many, "app:a"+string(rune('a'+i%26))+string(rune('a'+i/26)))
	}
	allowing(t, many[1:]...)
	_, err := parameters.ParseInstance([]byte(`{"allow":` + list(many...) + `}`))
	require.ErrorContains(t, err, "by name")
}

// Sources by name and by guid of one app are two entries; each is removed as it
// was written.
func TestPatchingNames(t *testing.T) {
	p := allowing(t, "app:frontend", app)
	p, err := p.Update([]byte(`{"allow_add":[`+labelled+`,"app:frontend"],"allow_remove":["`+app+`"]}`), now)
	require.NoError(t, err)
	assert.JSONEq(t, `{"allow":["app:frontend",`+labelled+`]}`, string(p.JSON()))
	stored, err := parameters.ParseStored(p.JSON())
	require.NoError(t, err)
	assert.Equal(t, string(p.JSON()), string(stored.JSON()))
	p, err = p.Update([]byte(`{"allow_remove":["app:frontend",`+labelled+`]}`), now)
	require.NoError(t, err)
	assert.JSONEq(t, `{"allow":[]}`, string(p.JSON()))
}

// However much bears the labels, a list stays as small as one of guids may be,
// and no source gets more entries than one may have.
func TestNamesStayWithinBounds(t *testing.T) {
	var entries []string
	page := map[string][]names.Holder{}
	crowd := make([]names.Holder, names.MaxHolders)
	for i := range crowd {
		crowd[i].ID = identity.GUID{1, byte(i), byte(i >> 8)}
	}
	for i := range grants.MaxNames {
		name := "space:s" + string(rune('a'+i%26)) + string(rune('a'+i/26))
		entries = append(entries, name)
		page[name] = crowd
	}
	entries = append(entries[1:], `{"source":"app:frontend","paths":["/a","/b"]}`)
	page["app:frontend"] = []names.Holder{holder(frontend)}
	access, book := byName(t, entries...)
	standing(t, book, page)
	assert.LessOrEqual(t, len(access.Live(now, nil).Rules), grants.MaxGrants)
}

// Property: whatever the book says, a caller passes by name if and only if a rule
// by guid for one of the holders in force would let him.
func TestNamesAllowWhatTheirGuidsAllow(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 11))
	ids := []string{frontend, metrics, shop, billing}
	written := []string{"app:a", "app:shop/b", "space:c", labelled}
	for range 500 {
		page, byGUID := map[string][]names.Holder{}, []string{}
		for _, name := range written {
			for _, id := range ids {
				if random.IntN(3) > 0 {
					continue
				}
				h := holder(id)
				if random.IntN(2) == 0 {
					h.Until = now.Add(time.Duration(random.IntN(5)-2) * time.Minute)
				}
				page[name] = append(page[name], h)
				kind := "cf:app:"
				if name == "space:c" {
					kind = "cf:space:"
				}
				if source := kind + id; (h.Until.IsZero() || h.Until.After(now)) && !slices.Contains(byGUID, source) {
					byGUID = append(byGUID, source)
				}
			}
		}
		access, book := byName(t, written...)
		standing(t, book, page)
		plain, resolved := live(t, byGUID...), access.Live(now, nil)
		for _, app := range ids[:2] {
			for _, space := range ids[2:] {
				who := callerOf(app, space, acme)
				_, want := plain.Match(who, "GET", route.Segments("/"))
				_, got := resolved.Match(who, "GET", route.Segments("/"))
				assert.Equal(t, want, got, "%v of %v", who, page)
			}
		}
	}
}

package directory_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/directory"
	"github.com/mtls-authz/mtls-authz/directory/controller"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/display"
	"github.com/mtls-authz/mtls-authz/grants/names"
	"github.com/mtls-authz/mtls-authz/playground/capi"
)

func TestWhatNamesStandFor(t *testing.T) {
	w := newWorld(t)
	w.cloud.PageLimit(1)
	for reference, want := range map[names.Reference][]string{
		w.of("app:frontend"):                                                    {blue},
		w.of("app:shop/frontend"):                                               {blue},
		w.of("app:monitoring/scraper"):                                          {scraper},
		w.of("app:scraper"):                                                     {},
		w.of("app:Frontend"):                                                    {},
		w.of("space:monitoring"):                                                {monitoring},
		w.of("space:nowhere"):                                                   {},
		w.of("app:nowhere/scraper"):                                             {},
		w.labelled("monitoring", "team=payments"):                               {scraper},
		w.labelled("monitoring", "team=payments,tier=back"):                     {scraper},
		w.labelled("monitoring", "team=payments,tier=front"):                    {},
		w.labelled("nowhere", "team=payments"):                                  {},
		w.labelled("shop", "team=payments"):                                     {blue},
		w.of("app:frontend,scraper"):                                            {},
		w.of("app:%66rontend"):                                                  {},
		w.of("app:frontend&space_guids=" + monitoring):                          {},
		w.of("app:monitoring,shop/frontend"):                                    {},
		w.of(`app:"frontend"`):                                                  {},
		{Org: guid(globex), Name: names.Name{Kind: names.Space, Space: "shop"}}: {},
	} {
		w.add(reference)
		require.NoError(t, w.look())
		w.standsFor(reference, want...)
	}
}

// Names with characters that mean something in a list or a URL are themselves.
func TestOddNames(t *testing.T) {
	w := newWorld(t)
	for i, name := range []string{"a,b", "50%", "a&b=c", "a+b c", "ü#?", "%2C", ";x", strings.Repeat("ü", 127)} {
		id := fmt.Sprintf("d76446a1-f429-4444-8797-0000000000%02x", i+0x10)
		w.cloud.Put(capi.Apps, capi.Entity{GUID: id, Name: name, Parent: shop})
		reference := w.of("app:" + name)
		require.NoError(t, w.look())
		w.standsFor(reference, id)
	}
}

// The blue-green swap: the name goes over to the new app, and the former one is
// let in for the time of grace.
func TestBlueGreenSwap(t *testing.T) {
	w := newWorld(t)
	frontend := w.of("app:frontend")
	require.NoError(t, w.look())
	w.standsFor(frontend, blue)
	w.cloud.Put(capi.Apps, capi.Entity{GUID: green, Name: "frontend-new", Parent: shop})
	require.NoError(t, w.look())
	w.standsFor(frontend, blue)
	w.cloud.Rename(capi.Apps, map[string]string{blue: "frontend-old", green: "frontend"})
	require.NoError(t, w.look())
	w.standsFor(frontend, green, "-"+blue)
	w.wait(grace / 2)
	require.NoError(t, w.look())
	w.standsFor(frontend, green, "-"+blue)
	w.wait(grace / 2)
	w.standsFor(frontend, green) // whether somebody looks or not
	require.NoError(t, w.look())
	w.standsFor(frontend, green)
}

func TestFormerHolders(t *testing.T) {
	w := newWorld(t)
	frontend, space, label := w.of("app:frontend"), w.of("space:monitoring"), w.labelled("monitoring", "team=payments")
	require.NoError(t, w.look())
	t.Run("one that comes back is no former one", func(*testing.T) {
		w.cloud.Rename(capi.Apps, map[string]string{blue: "x"})
		require.NoError(t, w.look())
		w.standsFor(frontend, "-"+blue)
		w.cloud.Rename(capi.Apps, map[string]string{blue: "frontend"})
		require.NoError(t, w.look())
		w.standsFor(frontend, blue)
	})
	t.Run("one that is deleted is gone at once", func(*testing.T) {
		w.cloud.Delete(capi.Apps, blue)
		require.NoError(t, w.look())
		w.standsFor(frontend)
		found, _ := w.store.Names().Book().Page().Look(frontend)
		require.Equal(t, start, found.Missing)
		w.wait(time.Minute)
		require.NoError(t, w.look())
		found, _ = w.store.Names().Book().Page().Look(frontend)
		require.Equal(t, start, found.Missing, "since when, not until when")
	})
	t.Run("of a space too", func(*testing.T) {
		w.cloud.Rename(capi.Spaces, map[string]string{monitoring: "observability"})
		require.NoError(t, w.look())
		w.standsFor(space, "-"+monitoring)
		w.standsFor(label)
		w.cloud.Delete(capi.Spaces, monitoring)
		require.NoError(t, w.look())
		w.standsFor(space)
	})
	t.Run("labels have no grace", func(*testing.T) {
		w.cloud.Put(capi.Spaces, capi.Entity{GUID: monitoring, Name: "monitoring", Parent: acme})
		w.cloud.Put(capi.Apps, capi.Entity{GUID: scraper, Name: "scraper", Parent: monitoring, Labels: map[string]string{"team": "payments"}})
		require.NoError(t, w.look())
		w.standsFor(label, scraper)
		w.cloud.Put(capi.Apps, capi.Entity{GUID: scraper, Name: "scraper", Parent: monitoring})
		require.NoError(t, w.look())
		w.standsFor(label)
	})
}

// Whatever goes wrong, what is known stays, in this process and the next.
func TestWithoutCloudController(t *testing.T) {
	w := newWorld(t)
	frontend := w.of("app:frontend")
	require.NoError(t, w.look())
	for name, fault := range map[string]capi.Fault{
		"500": down, "half a list": {Path: "/v3/apps", Status: 200, Body: `{"pagination":{"total_pages":1},"resources":[{`},
		"no pages": {Path: "/v3/apps", Status: 200, Body: `{"resources":[]}`}, "another type": {Path: "/v3/apps", Status: 200, Body: `{"pagination":{"total_pages":1},"resources":{}}`},
		"401": {Path: "/v3/apps", Status: 401}, "no token": {Path: "/oauth", Status: 401}, "403": {Path: "/v3/organizations", Status: 403},
		"429":        {Path: "/v3", Status: 429, Header: http.Header{"Retry-After": {"30"}}},
		"a redirect": {Path: "/v3", Status: 302, Header: http.Header{"Location": {"https://elsewhere.example/v3"}}},
		"html":       {Path: "/v3", Status: 200, Body: "<html>"},
	} {
		w.wait(time.Hour) // of any back-off
		w.cloud.Fail(fault)
		w.cloud.Delete(capi.Apps, blue)
		require.ErrorIs(t, w.look(), errorOf(name), name)
		w.standsFor(frontend, blue)
		w.restart()
		w.standsFor(frontend, blue)
		w.cloud.Fail(capi.Fault{})
	}
	w.wait(time.Hour)
	require.NoError(t, w.look())
	w.standsFor(frontend)
	require.NotContains(t, w.log.String(), secret)
	require.NotContains(t, w.log.String(), "eyJ")
}

func errorOf(name string) error {
	switch name {
	case "no token", "401":
		return controller.ErrUnauthorized
	case "403":
		return controller.ErrForbidden
	}
	return controller.ErrUnavailable
}

// A client that loses its rights sees empty lists: that is not the end of every
// app.
func TestClientThatSeesNothing(t *testing.T) {
	w := newWorld(t)
	frontend := w.of("app:frontend")
	require.NoError(t, w.look())
	w.cloud.Hide(acme, true)
	require.ErrorIs(t, w.look(), directory.ErrHidden)
	w.standsFor(frontend, blue)
}

func TestNamesThatNobodyUsesAreForgotten(t *testing.T) {
	w := newWorld(t)
	frontend := w.of("app:frontend")
	require.NoError(t, w.look())
	for _, known := range []bool{true, false} { // the first time, another gateway may know better
		require.NoError(t, w.Resolve(t.Context(), nil))
		_, still := w.store.Names().Book().Page().Look(frontend)
		require.Equal(t, known, still)
	}
}

// What Cloud Controller does not tell of one name does not keep those of others
// from being told: neither new ones, nor what has changed.
func TestOneNameThatCannotBeTold(t *testing.T) {
	large := `{"pagination":{"total_pages":1},"resources":"` + strings.Repeat("x", 33<<20) + `"}`
	for name, fault := range map[string]capi.Fault{
		"refused": {Path: "/v3/apps", Status: 400}, "too long": {Path: "/v3/apps", Status: 414}, "a long answer": {Path: "/v3/apps", Status: 200, Body: large},
	} {
		for _, kind := range []string{"by name", "among many", "by label"} {
			t.Run(name+", "+kind, func(t *testing.T) {
				w := newWorld(t)
				fault := fault
				other := w.of("app:monitoring/scraper")
				asked := w.of("app:frontend")
				switch kind {
				case "by name":
					fault.Query = "frontend"
				case "among many":
					for n := range 10 {
						w.of("app:none" + strconv.Itoa(n))
					}
					fault.Query = shop
				case "by label":
					asked = w.labelled("shop", "team=payments")
					fault.Query = shop
				}
				require.NoError(t, w.look())
				w.cloud.Fail(fault)
				w.cloud.Delete(capi.Apps, blue)
				w.cloud.Put(capi.Apps, capi.Entity{GUID: green, Name: "frontend", Parent: shop, Labels: map[string]string{"team": "payments"}})
				w.cloud.Rename(capi.Apps, map[string]string{scraper: "scraper-old"})
				fresh := w.of("space:shop")
				require.ErrorIs(t, w.look(), controller.ErrRefused)
				w.standsFor(asked, blue) // as before
				w.standsFor(other, "-"+scraper)
				w.standsFor(fresh, shop)
				w.cloud.Fail(capi.Fault{})
				require.NoError(t, w.look())
				w.standsFor(asked, green)
			})
		}
	}
}

// Nor does one that brings Cloud Controller down: each time another part is looked
// up before.
func TestOneNameThatBringsItDown(t *testing.T) {
	w := newWorld(t)
	var all []names.Reference
	for n := range 5 * 40 {
		space := fmt.Sprintf("6755b19d-c543-4e0c-a4b3-0000000f%04x", n)
		w.cloud.Put(capi.Spaces, capi.Entity{GUID: space, Name: "space-" + strconv.Itoa(n), Parent: acme})
		w.cloud.Put(capi.Apps, capi.Entity{GUID: fmt.Sprintf("d76446a1-f429-4444-8797-0000000f%04x", n), Name: "app", Parent: space})
		all = append(all, w.of("app:space-"+strconv.Itoa(n)+"/app"))
	}
	w.cloud.Fail(capi.Fault{Path: "/v3/apps", Query: "0f0003", Status: 500})
	told := func() (n int) {
		for _, r := range all {
			if found, _ := w.store.Names().Book().Page().Look(r); len(found.Holders) > 0 {
				n++
			}
		}
		return n
	}
	for round := 0; told() < len(all)-1; round++ { // all but the one
		require.Less(t, round, 200)
		require.ErrorIs(t, w.look(), controller.ErrUnavailable)
		w.wait(time.Hour)
	}
}

// The log says what is wrong when that changes, and not each time.
func TestWhatIsLogged(t *testing.T) {
	w := newWorld(t)
	w.cfg.Interval, w.cfg.Now = 20*time.Millisecond, nil
	w.of("app:frontend")
	foreign := names.Name{Kind: names.Space, Space: "shop"}.From(guid(theirs), guid(shop)) // the guid of no org
	w.add(foreign)
	d := directory.New(w.cfg)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); d.Run(ctx) }()
	says := func(times int, text string) {
		t.Helper()
		require.Eventually(t, func() bool { return strings.Count(w.log.String(), text) == times }, time.Minute, 10*time.Millisecond, text)
	}
	says(1, "orgs that are not there for CF_CLIENT_ID")
	require.Contains(t, w.log.String(), theirs)
	for range 20 {
		d.Label(grants.App, guid(blue)) // another job, which goes well
		time.Sleep(10 * time.Millisecond)
	}
	w.cloud.Fail(down)
	says(1, "answered 500")
	require.Equal(t, 1, strings.Count(w.log.String(), "orgs that are not there"))
	require.NotContains(t, w.log.String(), "looked up again")
	stop()
	<-ended
}

// What is not shown may be hidden.
func TestAHiddenAppIsNotSaidToBeDeleted(t *testing.T) {
	w := newWorld(t)
	w.cloud.Scope("cloud_controller.read")
	w.cloud.Hide(acme, true)
	d := directory.New(w.cfg)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); d.Run(ctx) }()
	require.Zero(t, d.Label(grants.App, guid(blue)))
	require.Eventually(t, func() bool { return w.cloud.Calls("/v3/apps") > 0 }, time.Minute, 10*time.Millisecond)
	time.Sleep(300 * time.Millisecond) // until it has been remembered
	require.Zero(t, d.Label(grants.App, guid(blue)))
	stop()
	<-ended
}

// Of spaces with many names the list is read, of others the names are asked for.
func TestThousandsOfNames(t *testing.T) {
	w := newWorld(t)
	want := map[names.Reference]string{}
	add := func(n int, space, spaceName string) {
		id, name := fmt.Sprintf("d76446a1-f429-4444-8797-0000000f%04x", n), "app-"+strconv.Itoa(n)
		w.cloud.Put(capi.Apps, capi.Entity{GUID: id, Name: name, Parent: space})
		want[w.of("app:"+spaceName+"/"+name)] = id
	}
	for n := range 400 {
		add(n, shop, "shop")
	}
	for n := range 300 {
		space, name := fmt.Sprintf("6755b19d-c543-4e0c-a4b3-0000000f%04x", n), "space-"+strconv.Itoa(n)
		w.cloud.Put(capi.Spaces, capi.Entity{GUID: space, Name: name, Parent: acme})
		add(1000+n, space, name)
	}
	require.NoError(t, w.look())
	for reference, id := range want {
		w.standsFor(reference, id)
	}
	require.Equal(t, 1+300/50, w.cloud.Calls("/v3/apps"), "in batches")
	require.Equal(t, 1, w.cloud.Calls("/v3/spaces"))
	for _, call := range w.cloud.Queries() {
		require.Less(t, len(call), 8000)
	}
}

func TestTooManyAppsBearALabel(t *testing.T) {
	w := newWorld(t)
	w.cloud.PageLimit(300)
	label := w.labelled("shop", "crowd=yes")
	for i := range names.MaxHolders + 5 {
		w.cloud.Put(capi.Apps, capi.Entity{GUID: fmt.Sprintf("d76446a1-f429-4444-8797-0000000f%04x", i), Name: strconv.Itoa(i), Parent: shop, Labels: map[string]string{"crowd": "yes"}})
	}
	require.NoError(t, w.look())
	found, _ := w.store.Names().Book().Page().Look(label)
	require.Len(t, found.Holders, names.MaxHolders)
	require.True(t, found.Trimmed)
}

// Run looks new names up soon, and all of them at its interval.
func TestRun(t *testing.T) {
	w := newWorld(t)
	w.cfg.Interval, w.cfg.Now = 300*time.Millisecond, nil
	registry := prometheus.NewRegistry()
	w.cfg.Metrics = registry
	d := directory.New(w.cfg)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); d.Run(ctx) }()
	frontend := w.of("app:frontend")
	holds := func(id string) func() bool {
		return func() bool {
			found, _ := w.store.Names().Book().Page().Look(frontend)
			return len(found.Holders) > 0 && found.Holders[0].ID == guid(id) && found.Holders[0].Until.IsZero()
		}
	}
	require.Eventually(t, holds(blue), time.Minute, 10*time.Millisecond)
	w.cloud.Delete(capi.Apps, blue)
	w.cloud.Put(capi.Apps, capi.Entity{GUID: green, Name: "frontend", Parent: shop})
	require.Eventually(t, holds(green), time.Minute, 10*time.Millisecond)
	stop()
	<-ended
	families, err := registry.Gather()
	require.NoError(t, err)
	require.Equal(t, "mtls_authz_name_lookups_total", families[0].GetName())
	require.GreaterOrEqual(t, families[0].GetMetric()[0].GetCounter().GetValue(), 1.0, "complete ones")
	require.Equal(t, "mtls_authz_names_missing", families[1].GetName())
	require.Zero(t, families[1].GetMetric()[0].GetGauge().GetValue())
}

// Labels are for people: they come when they come, and nobody waits.
func TestLabels(t *testing.T) {
	w := newWorld(t)
	d := directory.New(w.cfg)
	require.Zero(t, d.Label(grants.App, guid(blue)))
	require.Zero(t, d.Label(grants.Org, guid(globex)))
	require.Zero(t, d.Label(grants.Any, guid(blue)))
	require.Zero(t, d.Label(grants.App, guid(green)))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); d.Run(ctx) }()
	await := func(kind grants.Kind, id string, want display.Label) {
		t.Helper()
		require.Eventually(t, func() bool { return d.Label(kind, guid(id)) == want }, time.Minute, 10*time.Millisecond)
	}
	await(grants.App, blue, display.Label{Name: "frontend", Space: guid(shop), Org: guid(acme)})
	await(grants.Space, shop, display.Label{Name: "shop", Space: guid(shop), Org: guid(acme)})
	await(grants.Org, acme, display.Label{Name: "acme", Org: guid(acme)})
	await(grants.Org, globex, display.Label{Name: "globex", Org: guid(globex)})
	await(grants.App, green, display.Label{Gone: start})
	w.cloud.Delete(capi.Apps, blue)
	w.wait(time.Hour)
	later := w.clock()
	await(grants.App, blue, display.Label{Name: "frontend", Space: guid(shop), Org: guid(acme), Gone: later})
	w.cloud.Fail(down)
	w.wait(time.Hour)
	require.Equal(t, "shop", d.Label(grants.Space, guid(shop)).Name)
	stop()
	<-ended
}

// Property: after any sequence of renames, deletes and waiting, a name stands for
// exactly its present bearer and those former ones that exist and whose grace has
// not ended.
func TestAnySequenceOfRenames(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 5))
	w := newWorld(t)
	reference := w.of("app:x")
	ids := make([]string, 6)
	for i := range ids {
		ids[i] = fmt.Sprintf("d76446a1-f429-4444-8797-00000000aa%02x", i)
	}
	exists, bearer := map[string]bool{}, ""
	until := map[string]time.Time{}
	for range 300 {
		switch id := ids[random.IntN(len(ids))]; random.IntN(4) {
		case 0, 1: // id becomes the bearer
			if bearer != "" && bearer != id {
				w.cloud.Rename(capi.Apps, map[string]string{bearer: "was-" + bearer})
				until[bearer] = w.clock().Add(grace)
			}
			w.cloud.Put(capi.Apps, capi.Entity{GUID: id, Name: "x", Parent: shop})
			exists[id], bearer = true, id
			delete(until, id)
		case 2:
			w.cloud.Delete(capi.Apps, id)
			exists[id] = false
			delete(until, id)
			if bearer == id {
				bearer = ""
			}
		case 3:
			w.wait(time.Duration(random.IntN(8)) * time.Minute)
		}
		require.NoError(t, w.look())
		maps.DeleteFunc(until, func(_ string, end time.Time) bool { return !w.clock().Before(end) })
		want := []string{}
		if bearer != "" {
			want = append(want, bearer)
		}
		for id := range until {
			want = append(want, "-"+id)
		}
		w.standsFor(reference, want...)
	}
}

// A server that gives more than it was asked for (a filter that it does not know)
// lets nobody in.
func TestAnswersToOtherQuestions(t *testing.T) {
	w := newWorld(t)
	app, space, label := w.of("app:frontend"), w.of("space:monitoring"), w.labelled("shop", "team=payments")
	list := func(resources string) string {
		return `{"pagination":{"total_pages":1},"resources":[` + resources + `]}`
	}
	entity := func(id, name, parent, labels string) string {
		return fmt.Sprintf(`{"guid":%q,"name":%q,"metadata":{"labels":%s},"relationships":{%s}}`, id, name, labels, parent)
	}
	in := func(space string) string { return `"space":{"data":{"guid":"` + space + `"}}` }
	w.cloud.Fail(capi.Fault{Path: "/v3/apps", Status: 200, Body: list(strings.Join([]string{
		entity(foreign, "frontend", in(theirs), `{"team":"payments"}`), entity(scraper, "admin", in(shop), `{"team":"other"}`),
		entity(green, "frontend", ``, `{"team":"payments"}`), `{"guid":"not-a-guid","name":"frontend","relationships":{` + in(shop) + `},"metadata":{"labels":{"team":"payments"}}}`,
	}, ","))})
	require.NoError(t, w.look())
	w.standsFor(app)
	w.standsFor(label)
	w.standsFor(space, monitoring)
	w.cloud.Fail(capi.Fault{Path: "/v3/spaces", Status: 200, Body: list(entity(theirs, "monitoring", `"organization":{"data":{"guid":"`+globex+`"}}`, `{}`))})
	require.NoError(t, w.look())
	w.standsFor(space)
}

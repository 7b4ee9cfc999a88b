package grants_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"
	"weak"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/names"
)

func appName(text string) names.Reference {
	return names.Name{Kind: names.App, App: text}.From(owner.Org, owner.Space)
}

// The names of others change all the time; what a route's names stand for is
// found anew only when those change.
func TestPagesConcernWhoseNamesChange(t *testing.T) {
	held := names.Resolution{Holders: []names.Holder{holder(frontend)}}
	access, book := byName(t, "app:frontend")
	page := names.NewPage(map[names.Reference]names.Resolution{appName("frontend"): held})
	book.Turn(page)
	before := access.Live(now, nil)
	same := 0
	for n := range 100 {
		page = page.With(map[names.Reference]names.Resolution{appName(fmt.Sprint("other", n)): held}, nil)
		book.Turn(page)
		live := access.Live(now, nil)
		allow(t, live, caller, "GET /", "route:cf:app:"+frontend)
		if live == before {
			same++
		}
		before = live
	}
	require.Greater(t, same, 80, "few other names lie in its part of the page")
	book.Turn(page.With(nil, []names.Reference{appName("frontend")}))
	deny(t, access.Live(now, nil), caller, "GET /")
	book.Turn(page)
	deny(t, access.Live(now, nil), caller, "GET /") // an older page is not believed
	book.Turn(page.With(map[names.Reference]names.Resolution{appName("frontend"): held}, nil))
	allow(t, access.Live(now, nil), caller, "GET /", "route:cf:app:"+frontend)
}

// Whatever changes, in whatever order, a route that was asked before decides as
// one that was not.
func TestPagesOneAfterTheOther(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	apps := []string{frontend, metrics, billing, shop}
	entries := []string{"app:a", "app:b", labelled, "space:shop", "app:c"}
	access, book := byName(t, entries...)
	page := (*names.Page)(nil)
	for range 3000 {
		changed := map[names.Reference]names.Resolution{}
		var gone []names.Reference
		for range random.IntN(3) {
			changed[appName(string(rune('a'+random.IntN(5))))] = names.Resolution{Holders: []names.Holder{holder(apps[random.IntN(len(apps))])}}
		}
		if random.IntN(3) == 0 {
			gone = append(gone, appName(string(rune('a'+random.IntN(5)))))
		}
		if random.IntN(50) == 0 {
			page = nil // everything is read anew
		}
		page = page.With(changed, gone)
		book.Turn(page)
		fresh, other := byName(t, entries...)
		other.Turn(page)
		require.Equal(t, sourcesOf(fresh.Live(now, nil)), sourcesOf(access.Live(now, nil)))
	}
}

func sourcesOf(live *grants.Live) (all []string) {
	for _, rule := range live.Rules {
		all = append(all, rule.Source.String())
	}
	return all
}

// A route that nobody calls does not keep what names stood for long ago.
func TestOldPagesAreGivenBack(t *testing.T) {
	access, book := byName(t, "app:frontend")
	standing(t, book, map[string][]names.Holder{"app:frontend": {holder(frontend)}})
	old := weak.Make(book.Page())
	live := access.Live(now, nil)
	standing(t, book, nil)
	for end := time.Now().Add(time.Minute); old.Value() != nil; runtime.GC() {
		require.True(t, time.Now().Before(end), "the page is still in memory")
	}
	runtime.KeepAlive(live)
	runtime.KeepAlive(access)
}

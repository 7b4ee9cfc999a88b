package store_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/directory"
	"github.com/mtls-authz/mtls-authz/grants/names"
	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/store"
	"github.com/mtls-authz/mtls-authz/store/crowd"
)

// TestScaleOfNames measures what MTLS_AUTHZ_SCALE bindings with 10 grants by name
// each cost; see [TestScale].
func TestScaleOfNames(t *testing.T) {
	bindings, err := strconv.Atoi(os.Getenv("MTLS_AUTHZ_SCALE"))
	if err != nil {
		t.Skip("make bench-scale runs it")
	}
	printFigures(fmt.Sprintf("%d bindings, 10 grants by name each, %d names", bindings, bindings),
		measureNames(t, databases["sqlite"], bindings), measureNames(t, ownPostgres(t).newDatabase, bindings))
}

// bindingsOfSpace and appsOfSpace are how many a space of a [town] has.
const bindingsOfSpace, appsOfSpace = 50, 50

// A town is a Cloud Controller that answers at once: spaces of one org with 50
// apps each. Its lists are those of Cloud Controller in what the directory reads.
type town struct {
	spaces int
	// renamed is the guid of the app that is called app0 in space 0.
	renamed   atomic.Int64
	asked     atomic.Int64
	resources atomic.Int64
}

func spaceOf(n int) identity.GUID { return guid(1_000_000_000 + n) }
func (t *town) appOf(n int) int {
	if n == 0 {
		return int(t.renamed.Load())
	}
	return n
}

// List implements [directory.Lister].
func (t *town) List(_ context.Context, path string, query url.Values, page func(json.RawMessage) error) error {
	t.asked.Add(1)
	var found []string
	add := func(id identity.GUID, name, kind string, in identity.GUID) {
		found = append(found, fmt.Sprintf(`{"guid":%q,"name":%q,"created_at":"2026-05-04T10:15:00Z","updated_at":"2026-05-04T10:15:00Z","state":"STARTED",
			"lifecycle":{"type":"buildpack","data":{"buildpacks":[],"stack":"cflinuxfs4"}},"relationships":{%q:{"data":{"guid":%q}}},
			"metadata":{"labels":{},"annotations":{}}}`, id, name, kind, in))
	}
	switch path {
	case "/v3/organizations":
		add(guid(2), "acme", "quota", guid(3))
	case "/v3/apps":
		called := strings.Split(query.Get("names"), ",")
		for one := range strings.SplitSeq(query.Get("space_guids"), ",") {
			for n := range t.spaces {
				if spaceOf(n).String() != one {
					continue
				}
				for a := range appsOfSpace {
					if name := "app" + strconv.Itoa(a); called[0] == "" || slices.Contains(called, name) {
						add(guid(t.appOf(n*appsOfSpace+a)), name, "space", spaceOf(n))
					}
				}
			}
		}
	}
	t.resources.Add(int64(len(found)))
	return page(json.RawMessage(`{"resources":[` + strings.Join(found, ",") + `]}`))
}

// SeesAll implements [directory.Lister].
func (t *town) SeesAll() bool { return true }

// generateNamed fills a database: 10 bindings to an instance, 50 to a space, 10
// grants by name a binding.
func generateNamed(t testing.TB, fresh database, bindings int) string {
	at := fresh(t)
	require.NoError(t, crowd.Crowd{
		Bindings: bindings, Org: guid(2), Space: func(n int) identity.GUID { return spaceOf(n / bindingsOfSpace) }, Allow: func(n int) (sources []string) {
			for g := range 10 {
				sources = append(sources, "app:app"+strconv.Itoa((n*7+g)%appsOfSpace))
			}
			return sources
		},
	}.Fill(ctx, at))
	return at
}

func measureNames(t *testing.T, fresh database, bindings int) (found []figure) {
	at := generateNamed(t, fresh, bindings)
	cloud := &town{spaces: bindings / bindingsOfSpace}
	here, there := openWith(t, store.Config{URL: at, Timeout: patience}), openWith(t, store.Config{URL: at, Timeout: patience})
	add := func(name, value string) { found = append(found, figure{name, value}) }
	timed := func(name string, f func()) {
		asked, resources, started := cloud.asked.Load(), cloud.resources.Load(), time.Now()
		f()
		value := short(time.Since(started))
		if asked = cloud.asked.Load() - asked; asked > 0 {
			value += fmt.Sprintf(", %d requests, %d apps", asked, cloud.resources.Load()-resources)
		}
		add(name, value)
	}
	d := directory.New(directory.Config{
		Lister: cloud, Resolutions: here.Names(), References: here.View().References, Grace: time.Minute, Log: slog.New(slog.DiscardHandler),
	})
	timed("look every name up for the first time", func() { require.NoError(t, d.Resolve(ctx, here.View().References())) })
	app := names.Reference{Org: guid(2), Space: spaceOf(0), Name: names.Name{Kind: names.App, App: "app0"}}
	holder := func(s *store.Store) int {
		resolution, _ := s.Names().Book().Page().Look(app)
		for _, h := range resolution.Holders {
			if h.Until.IsZero() && h.ID != guid(0) {
				return int(cloud.renamed.Load())
			}
		}
		return 0
	}
	timed("the same when nothing has changed", func() { require.NoError(t, d.Resolve(ctx, here.View().References())) })
	timed("the names that are in use", func() { _ = here.View().References() })
	process := otherProcess(t, at)
	process.Stderr = os.Stderr
	out, err := process.Output()
	require.NoError(t, err)
	var elsewhere opened
	require.NoError(t, json.Unmarshal(out, &elsewhere))
	add("start of a process", short(elsewhere.Took))
	add("its peak of resident memory", fmt.Sprintf("%d MiB", elsewhere.PeakKiB>>10))
	cloud.renamed.Store(999_999_999)
	timed("one name goes over to another app: kept", func() { require.NoError(t, d.ResolveNew(ctx, []names.Reference{app})) })
	timed("and in force elsewhere", func() {
		for holder(there) != 999_999_999 {
			time.Sleep(100 * time.Microsecond)
		}
	})
	return found
}

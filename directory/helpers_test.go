package directory_test

import (
	"bytes"
	"crypto/x509"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/directory"
	"github.com/mtls-authz/mtls-authz/directory/controller"
	"github.com/mtls-authz/mtls-authz/grants/names"
	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/playground/capi"
	"github.com/mtls-authz/mtls-authz/store"
)

const (
	acme, globex     = "6e424e4e-5e46-419a-9cb6-eac9de2794e8", "2d6a2c8f-9a1b-4e1b-9b63-4f4c6a1b8d33"
	shop, monitoring = "6755b19d-c543-4e0c-a4b3-cd6e7c9c68a3", "1c5f1b9e-8f0a-4d0a-8a52-3e3b5f0a7c22"
	theirs           = "3c5f1b9e-8f0a-4d0a-8a52-3e3b5f0a7c33"
	blue, green      = "d76446a1-f429-4444-8797-00000000b1ce", "d76446a1-f429-4444-8797-00000009ee17"
	scraper, foreign = "d76446a1-f429-4444-8797-000000000001", "d76446a1-f429-4444-8797-000000000002"

	grace = 10 * time.Minute
)

var start = time.Date(2026, 5, 4, 10, 15, 0, 0, time.UTC)

func guid(s string) identity.GUID {
	id, err := identity.ParseGUID(s)
	if err != nil {
		panic(err)
	}
	return id
}

// world is a directory with a Cloud Controller and a store.
type world struct {
	*directory.Directory
	t       *testing.T
	cloud   *capi.Cloud
	store   *store.Store
	cfg     directory.Config
	file    string
	log     *lines
	session *controller.Session

	mu    sync.Mutex
	now   time.Time
	names map[names.Reference]bool
	set   *names.Set
}

type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

const clientID, secret = "gateway", "s3cret &+%, of the client"

func newWorld(t *testing.T) *world {
	w := &world{t: t, cloud: newCloud(), file: "sqlite://" + filepath.Join(t.TempDir(), "state.db"), log: &lines{}, now: start, names: map[names.Reference]bool{}}
	server := httptest.NewTLSServer(w.cloud)
	t.Cleanup(server.Close)
	w.session = controller.New(controller.Config{URL: server.URL, Roots: rootsOf(server), Now: w.clock}).Session(clientID, secret)
	w.restart()
	t.Cleanup(func() { require.NoError(t, w.store.Close()) })
	return w
}

func rootsOf(server *httptest.Server) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	return pool
}

// newCloud has two orgs with spaces and apps of the same names.
func newCloud() *capi.Cloud {
	c := capi.New()
	c.AddClient(clientID, secret)
	c.Put(capi.Orgs, capi.Entity{GUID: acme, Name: "acme"})
	c.Put(capi.Orgs, capi.Entity{GUID: globex, Name: "globex"})
	c.Put(capi.Spaces, capi.Entity{GUID: shop, Name: "shop", Parent: acme})
	c.Put(capi.Spaces, capi.Entity{GUID: monitoring, Name: "monitoring", Parent: acme})
	c.Put(capi.Spaces, capi.Entity{GUID: theirs, Name: "monitoring", Parent: globex})
	c.Put(capi.Apps, capi.Entity{GUID: blue, Name: "frontend", Parent: shop, Labels: map[string]string{"team": "payments"}})
	c.Put(capi.Apps, capi.Entity{GUID: scraper, Name: "scraper", Parent: monitoring, Labels: map[string]string{"team": "payments", "tier": "back"}})
	c.Put(capi.Apps, capi.Entity{GUID: foreign, Name: "scraper", Parent: theirs, Labels: map[string]string{"team": "payments"}})
	return c
}

// restart opens the store again, as a gateway that starts does.
func (w *world) restart() {
	w.t.Helper()
	if w.store != nil {
		require.NoError(w.t, w.store.Close())
	}
	var err error
	w.store, err = store.Open(w.t.Context(), store.Config{URL: w.file, Timeout: time.Minute})
	require.NoError(w.t, err)
	w.cfg = directory.Config{
		Lister: w.session, Resolutions: w.store.Names(), Grace: grace, Interval: time.Hour,
		Log: slog.New(slog.NewJSONHandler(w.log, nil)), Now: w.clock,
		References: w.references,
	}
	w.Directory = directory.New(w.cfg)
}

func (w *world) references() *names.Set {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.set.Len() != len(w.names) {
		w.set = names.NewSet(maps.Keys(w.names))
	}
	return w.set
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) wait(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// of is a name as an instance in the space shop of acme means it.
func (w *world) of(text string) names.Reference {
	w.t.Helper()
	name, is, err := names.Parse(text)
	require.NoError(w.t, err)
	require.True(w.t, is)
	return w.add(name.From(guid(acme), guid(shop)))
}

func (w *world) labelled(space, labels string) names.Reference {
	w.t.Helper()
	name, err := names.ParseLabelled(space, labels)
	require.NoError(w.t, err)
	return w.add(name.From(guid(acme), guid(shop)))
}

func (w *world) add(r names.Reference) names.Reference {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.names[r] = true
	return r
}

// look looks all names up.
func (w *world) look() error {
	return w.Resolve(w.t.Context(), w.references())
}

// standsFor demands what a name stands for now; a guid with "-" before it is a
// former one.
func (w *world) standsFor(r names.Reference, ids ...string) {
	w.t.Helper()
	found, _ := w.store.Names().Book().Page().Look(r)
	var got []string
	for _, h := range found.At(w.clock()) {
		mark := ""
		if !h.Until.IsZero() {
			mark = "-"
		}
		got = append(got, mark+h.ID.String())
	}
	require.ElementsMatch(w.t, ids, got, "%v", r.Name)
}

var down = capi.Fault{Path: "/", Status: http.StatusInternalServerError}

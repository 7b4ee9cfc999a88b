package store_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mtls-authz/mtls-authz/grants/parameters"
	"github.com/mtls-authz/mtls-authz/grants/route"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/store"
)

var (
	ctx   = context.Background()
	start = time.Date(2026, 5, 4, 10, 15, 0, 0, time.UTC)
)

// database makes empty databases of one kind and returns their URLs.
type database func(testing.TB) string

// databases are those that every test of behaviour runs on.
var databases = map[string]database{
	"sqlite":   func(t testing.TB) string { return "sqlite://" + newFile(t) },
	"postgres": newPostgres,
}

func onEach(t *testing.T, test func(*testing.T, database)) {
	for name, fresh := range databases {
		t.Run(name, func(t *testing.T) { test(t, fresh) })
	}
}

func newFile(t testing.TB) string { return filepath.Join(t.TempDir(), "state.db") }

// by is who changes things in tests.
var by = store.Cause{By: "creator", RequestID: "vcap-1", RequestIdentity: "request-1"}

func open(t testing.TB, url string) *store.Store {
	t.Helper()
	return openWith(t, store.Config{URL: url})
}

func openWith(t testing.TB, cfg store.Config) *store.Store {
	t.Helper()
	cfg.ReportAllowed = true
	if cfg.Now == nil {
		cfg.Now = func() time.Time { return start }
	}
	s, err := store.Open(ctx, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// sqlOn runs a statement behind the store's back.
func sqlOn(t testing.TB, url, statement string, args ...any) {
	t.Helper()
	db := connect(t, url)
	defer func() { require.NoError(t, db.Close()) }()
	_, err := db.Exec(statement, args...)
	require.NoError(t, err)
}

func connect(t testing.TB, url string) *sql.DB {
	t.Helper()
	driver, name := "pgx", url
	if file, ok := strings.CutPrefix(url, "sqlite://"); ok {
		driver, name = "sqlite", "file:"+file+"?_pragma=busy_timeout(5000)"
	}
	db, err := sql.Open(driver, name)
	require.NoError(t, err)
	return db
}

// clock is one that tests set.
type clock struct{ after atomic.Int64 }

func newClock() *clock { return &clock{} }

func (c *clock) Now() time.Time { return start.Add(time.Duration(c.after.Load())) }

func (c *clock) add(d time.Duration) { c.after.Add(int64(d)) }

// await waits for what must become true soon.
func await(t testing.TB, reached func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !reached(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not reached")
		}
	}
}

func guid(n int) identity.GUID {
	id, err := identity.ParseGUID(fmt.Sprintf("d76446a1-f429-4444-8797-%012x", n+1))
	if err != nil {
		panic(err)
	}
	return id
}

func app(n int) string { return "cf:app:" + guid(n).String() }

func allow(sources ...string) string {
	list := ""
	for _, source := range sources {
		list += `,"` + source + `"`
	}
	return `{"allow":[` + list[min(1, len(list)):] + `]}`
}

func given(t testing.TB, raw string) parameters.Parameters {
	t.Helper()
	p, err := parameters.ParseInstance([]byte(raw))
	require.NoError(t, err)
	return p
}

func instance(t testing.TB, id, raw string) store.Instance {
	t.Helper()
	return store.Instance{
		ID: id, PlanID: "plan-org", Plan: grants.ScopeOrg,
		Owner: grants.Owner{Instance: id, Org: guid(1001), Space: guid(1002)}, Parameters: given(t, raw),
	}
}

func binding(t testing.TB, instanceID, id, raw string) store.Binding {
	t.Helper()
	bound, err := route.Parse(id + ".apps.identity/path")
	require.NoError(t, err)
	p, err := parameters.ParseBinding([]byte(raw))
	require.NoError(t, err)
	return store.Binding{ID: id, InstanceID: instanceID, Route: bound, Parameters: p, URL: "https://gw.example/r/" + id + "/token"}
}

func create(t testing.TB, s *store.Store, id, raw string) {
	t.Helper()
	created, err := s.CreateInstance(ctx, by, instance(t, id, raw))
	require.NoError(t, err)
	require.True(t, created)
}

func bind(t testing.TB, s *store.Store, instanceID, id, raw string) store.Binding {
	t.Helper()
	stored, created, err := s.CreateBinding(ctx, by, binding(t, instanceID, id, raw))
	require.NoError(t, err)
	require.True(t, created)
	return stored
}

// setTo replaces an instance's parameters.
func setTo(p parameters.Parameters) func(store.Instance) (store.Instance, error) {
	return func(i store.Instance) (store.Instance, error) {
		i.Parameters = p
		return i, nil
	}
}

// inForce is all that an access says.
type inForce struct {
	Binding  string
	Route    route.Route
	Owner    grants.Owner
	Scope    grants.Scope
	Mode     grants.Mode
	Assert   bool
	Labels   map[string]string
	Revision int64
	Rules    []string
}

func accessOf(s *store.Store, bindingID string) *inForce {
	a := s.View().Access(bindingID)
	if a == nil {
		return nil
	}
	f := &inForce{a.Binding, a.Route, a.Owner, a.Scope, a.Mode, a.Assert, a.Labels, a.Revision, nil}
	if len(f.Labels) == 0 {
		f.Labels = nil
	}
	for _, rule := range a.Live(start, nil).Rules {
		text, _ := rule.MarshalJSON()
		f.Rules = append(f.Rules, rule.Origin.String()+" "+string(text))
	}
	return f
}

// state is everything that can be read of these instances.
func state(t testing.TB, s *store.Store, instances, bindings []string) map[string]any {
	t.Helper()
	all := map[string]any{}
	for _, id := range instances {
		if i, err := s.Instance(ctx, id); err == nil {
			all[id] = fmt.Sprintf("%s %s %v %s rev %d %s %s %s %s", i.PlanID, i.Plan, i.Owner, i.Parameters.JSON(), i.Revision, i.CreatedAt, i.CreatedBy, i.UpdatedAt, i.UpdatedBy)
		} else {
			require.ErrorIs(t, err, store.ErrNotFound)
		}
		list, err := s.Bindings(ctx, id)
		require.NoError(t, err)
		for _, b := range list {
			all[id+"/"+b.ID] = fmt.Sprintf("%s %s %s rev %d %s %s", b.Route, b.Parameters.JSON(), b.URL, b.Revision, b.CreatedAt, b.CreatedBy)
		}
	}
	for _, id := range bindings {
		if access := accessOf(s, id); access != nil {
			all["view "+id] = *access
		}
	}
	return all
}

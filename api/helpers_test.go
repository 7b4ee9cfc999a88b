package api_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"flag"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/api"
	"github.com/mtls-authz/mtls-authz/broker"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/parameters"
	"github.com/mtls-authz/mtls-authz/grants/route"
	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/store"
)

var update = flag.Bool("update", false, "write the golden files anew")

var (
	ctx   = context.Background()
	start = time.Date(2026, 5, 4, 10, 15, 0, 0, time.UTC)
)

const (
	reader, readersPassword  = "auditor", "the-readers-password"
	brokers, brokersPassword = "broker", "the-brokers-password"

	shop, lab    = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
	acme, globex = "aaaaaaaa-0000-4000-8000-000000000000", "bbbbbbbb-0000-4000-8000-000000000000"
	frontend     = "d76446a1-f429-4444-8797-be2f78b75b08"

	// secret is the token of every route service URL.
	secret = "AbCdEfGhIjKlMnOpQrStUv"
	base   = "https://gateway.apps.example"
)

// testbed is the API on a real database.
type testbed struct {
	t      *testing.T
	file   string
	cfg    api.Config
	store  *store.Store
	server *httptest.Server
	late   atomic.Int64 // how far the clock is after its start
	log    *logLines
	site   *grants.Site
}

// logLines is what was logged.
type logLines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func newTestbed(t *testing.T, options ...func(*testbed)) *testbed {
	t.Helper()
	b := &testbed{t: t, file: filepath.Join(t.TempDir(), "state.db"), log: &logLines{}}
	readers := broker.Credentials{Username: reader, Password: readersPassword}
	operators := broker.Credentials{Username: brokers, Password: brokersPassword}
	b.cfg = api.Config{
		MayRead:   func(r *http.Request) bool { return readers.Accept(r) || operators.Accept(r) },
		MayChange: operators.Accept, ReportAllowed: true, BaseURL: base,
		Access: func(id string) *grants.Access { return b.store.View().Access(id) },
		Site:   func() *grants.Site { return b.site },
		Log:    slog.New(slog.NewJSONHandler(b.log, nil)), Now: b.now,
	}
	b.open()
	b.cfg.Reader, b.cfg.Updater, b.cfg.Deleter = b.store, b.store, b.store
	for _, option := range options {
		option(b)
	}
	b.serve()
	t.Cleanup(func() {
		b.server.Close()
		require.NoError(t, b.store.Close())
	})
	return b
}

func (b *testbed) open() {
	b.t.Helper()
	var err error
	b.store, err = store.Open(ctx, store.Config{URL: "sqlite://" + b.file, ReportAllowed: true, Now: b.now})
	require.NoError(b.t, err)
}

func (b *testbed) serve() {
	b.server = httptest.NewServer(api.New(b.cfg))
}

func (b *testbed) now() time.Time { return start.Add(time.Duration(b.late.Load())) }

// wait lets time pass.
func (b *testbed) wait(d time.Duration) { b.late.Add(int64(d)) }

// reopen is another process over the same state.
func (b *testbed) reopen() {
	b.t.Helper()
	require.NoError(b.t, b.store.Close())
	b.server.Close()
	b.open()
	b.cfg.Reader, b.cfg.Updater, b.cfg.Deleter = b.store, b.store, b.store
	b.serve()
}

// sql runs a statement behind the store's back, and opens the store anew.
func (b *testbed) sql(statement string) {
	b.t.Helper()
	db, err := sql.Open("sqlite", "file:"+b.file)
	require.NoError(b.t, err)
	_, err = db.Exec(statement)
	require.NoError(b.t, err)
	require.NoError(b.t, db.Close())
	b.reopen()
}

func guid(t *testing.T, text string) identity.GUID {
	t.Helper()
	id, err := identity.ParseGUID(text)
	require.NoError(t, err)
	return id
}

func developer(name string) store.Cause {
	return store.Cause{By: name, RequestID: "vcap-1", RequestIdentity: "request-1"}
}

// create stores an instance, a second after what was before.
func (b *testbed) create(id string, plan grants.Scope, org, space, raw string) {
	b.t.Helper()
	given, err := parameters.ParseInstance([]byte(raw))
	require.NoError(b.t, err)
	b.wait(time.Second)
	created, err := b.store.CreateInstance(ctx, developer("developer"), store.Instance{
		ID: id, PlanID: "plan-" + plan.String(), Plan: plan, Parameters: given,
		Owner: grants.Owner{Instance: id, Org: guid(b.t, org), Space: guid(b.t, space)},
	})
	require.NoError(b.t, err)
	require.True(b.t, created)
}

// set replaces the parameters of an instance.
func (b *testbed) set(id, raw string) {
	b.t.Helper()
	given, err := parameters.ParseInstance([]byte(raw))
	require.NoError(b.t, err)
	b.wait(time.Second)
	require.NoError(b.t, b.store.UpdateInstance(ctx, developer("another"), id, func(i store.Instance) (store.Instance, error) {
		i.Parameters = given
		return i, nil
	}))
}

// bind stores a binding, a second after what was before.
func (b *testbed) bind(instanceID, id, name, raw string) {
	b.t.Helper()
	bound, err := route.Parse(name)
	require.NoError(b.t, err)
	given, err := parameters.ParseBinding([]byte(raw))
	require.NoError(b.t, err)
	b.wait(time.Second)
	_, created, err := b.store.CreateBinding(ctx, developer(""), store.Binding{
		ID: id, InstanceID: instanceID, Route: bound, Parameters: given, URL: base + "/r/" + id + "/" + secret,
	})
	require.NoError(b.t, err)
	require.True(b.t, created)
}

// reply is what a client heard.
type reply struct {
	*http.Response
	body string
}

type change func(*http.Request)

func asReader(r *http.Request) { r.SetBasicAuth(reader, readersPassword) }

func header(name, value string) change {
	return func(r *http.Request) { r.Header[name] = append(r.Header[name], value) }
}

// try sends a request with the broker's credentials.
func (b *testbed) try(method, path string, changes ...change) (r reply, err error) {
	b.t.Helper()
	request, err := http.NewRequestWithContext(b.t.Context(), method, b.server.URL+path, http.NoBody)
	require.NoError(b.t, err)
	request.SetBasicAuth(brokers, brokersPassword)
	for _, change := range changes {
		change(request)
	}
	if r.Response, err = b.server.Client().Transport.RoundTrip(request); err != nil {
		return r, err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	return reply{r.Response, string(body)}, err
}

// do sends a request that is answered. Whatever the answer is, it is not for a
// cache, and holds no secret.
func (b *testbed) do(method, path string, changes ...change) reply {
	b.t.Helper()
	r, err := b.try(method, path, changes...)
	require.NoError(b.t, err)
	require.Equal(b.t, []string{"no-store"}, r.Header["Cache-Control"])
	require.Equal(b.t, []string{"nosniff"}, r.Header["X-Content-Type-Options"])
	for name, values := range r.Header {
		require.NotContains(b.t, name, "Access-Control")
		for _, value := range values {
			require.NotContains(b.t, value, secret)
		}
	}
	require.NotContains(b.t, r.body, secret)
	require.NotContains(b.t, r.body, "/r/")
	require.NotContains(b.t, b.log.String(), secret)
	return r
}

// get reads what must be there.
func (b *testbed) get(path string, into any, changes ...change) reply {
	b.t.Helper()
	r := b.do("GET", path, changes...)
	require.Equal(b.t, 200, r.StatusCode, r.body)
	require.Equal(b.t, "application/json", r.Header.Get("Content-Type"))
	require.NoError(b.t, json.Unmarshal([]byte(r.body), into), r.body)
	return r
}

// expect is for refusals: a problem of RFC 9457 with this status, which says
// this.
func (r reply) expect(t *testing.T, status int, says string) reply {
	t.Helper()
	require.Equal(t, status, r.StatusCode, r.body)
	require.Equal(t, "application/problem+json", r.Header.Get("Content-Type"))
	var problem map[string]any
	require.NoError(t, json.Unmarshal([]byte(r.body), &problem), r.body)
	require.Len(t, problem, 3)
	require.EqualValues(t, status, problem["status"])
	require.Equal(t, http.StatusText(status), problem["title"])
	require.Contains(t, problem["detail"], says)
	require.Less(t, len(r.body), 2000)
	return r
}

type link struct{ Href string }

// page is a list as clients read it.
type page struct {
	Pagination struct {
		TotalResults int `json:"total_results"`
		TotalPages   int `json:"total_pages"`
		First, Last  link
		Next         *link
		Previous     *link
	}
	Warnings  []string
	Resources []struct {
		GUID     string
		Action   string
		Revision int64
		By       *string
		Instance *string `json:"service_instance_guid"`
		Warnings []string
	}
}

func (p page) guids() []string {
	guids := []string{}
	for _, resource := range p.Resources {
		guids = append(guids, resource.GUID)
	}
	return guids
}

func (b *testbed) list(path string, changes ...change) (p page) {
	b.t.Helper()
	b.get(path, &p, changes...)
	require.NotNil(b.t, p.Warnings)
	return p
}

func golden(t *testing.T, name, body string) {
	t.Helper()
	var pretty bytes.Buffer
	require.NoError(t, json.Indent(&pretty, []byte(body), "", "  "))
	file := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.WriteFile(file, pretty.Bytes(), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), pretty.String())
}

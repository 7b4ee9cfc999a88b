package broker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/broker"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/playground/controller"
	"github.com/mtls-authz/mtls-authz/store"
)

var update = flag.Bool("update", false, "write the golden files anew")

var (
	ctx   = context.Background()
	start = time.Date(2026, 5, 4, 10, 15, 0, 0, time.UTC)
)

const (
	username, password = "cc", "a-long-enough-password"

	app1     = "cf:app:d76446a1-f429-4444-8797-000000000001"
	app2     = "cf:app:d76446a1-f429-4444-8797-000000000002"
	bindHere = "this service protects routes: use cf bind-route-service; it cannot be bound to an app and has no service keys"
)

var home = controller.Space{
	GUID: "11111111-1111-4111-8111-111111111111", Name: "space",
	OrgGUID: "22222222-2222-4222-8222-222222222222", OrgName: "org",
}

// testbed is a broker on a real database and Cloud Controller's client of it.
type testbed struct {
	*controller.Client
	t      *testing.T
	cfg    broker.Config
	file   string
	late   atomic.Int64 // how far the clock is after its start
	log    *logLines
	server *httptest.Server
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

func newTestbed(t *testing.T) *testbed {
	b := &testbed{
		t: t, file: filepath.Join(t.TempDir(), "state.db"), log: &logLines{},
	}
	b.cfg = broker.Config{
		GatewayURL: "https://gateway.apps.example", OwnHosts: []string{"Own.apps.example"}, AllowReport: true,
		Credentials: broker.Credentials{Username: username, Password: password},
		Policy:      func() (string, *grants.Site) { return "sha256:policy", nil },
		Log:         slog.New(slog.NewJSONHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Now:         func() time.Time { return start.Add(time.Duration(b.late.Load())) },
	}
	b.restart()
	t.Cleanup(b.stop)
	return b
}

// wait lets time pass.
func (b *testbed) wait(d time.Duration) { b.late.Add(int64(d)) }

func (b *testbed) stop() {
	if b.server != nil {
		b.server.Close()
		require.NoError(b.t, b.cfg.Store.Close())
	}
}

// restart ends the broker and starts another on the same file, with the
// configuration as it is now.
func (b *testbed) restart() {
	b.t.Helper()
	b.stop()
	var err error
	b.cfg.Store, err = store.Open(ctx, store.Config{URL: "sqlite://" + b.file, ReportAllowed: b.cfg.AllowReport, Now: b.cfg.Now, Timeout: time.Minute})
	require.NoError(b.t, err)
	if b.cfg.Tokens == nil {
		key, err := b.cfg.Store.Key(ctx, store.TokenKeyName)
		require.NoError(b.t, err)
		b.cfg.Tokens = key
	}
	b.server = httptest.NewServer(broker.New(b.cfg))
	b.Client = &controller.Client{URL: b.server.URL, Username: username, Password: password, User: "developer"}
}

func service(scope grants.Scope) controller.Service {
	return controller.Service{
		GUID: "33333333-3333-4333-8333-333333333333", Name: "my-authz", OfferingID: broker.ServiceID, PlanID: broker.PlanID(scope), Space: home,
	}
}

func routeOf(s controller.Service, guid, name string) controller.Binding {
	return controller.Binding{GUID: guid, Route: name, Service: s}
}

const (
	bindingA = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
	bindingB = "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"
)

func raw(text string) json.RawMessage { return json.RawMessage(text) }

// expect judges an answer as Cloud Controller does.
func (b *testbed) expect(status int, outcome controller.Outcome) func(*controller.Answer, error) *controller.Answer {
	b.t.Helper()
	return func(a *controller.Answer, err error) *controller.Answer {
		b.t.Helper()
		require.NoError(b.t, err)
		require.Equal(b.t, status, a.Status, string(a.Body))
		require.Equal(b.t, outcome, a.Outcome(), string(a.Body))
		require.Equal(b.t, "application/json", a.Header.Get("Content-Type"))
		require.Equal(b.t, a.RequestID, a.Header.Get("X-Broker-Api-Request-Identity"))
		if status >= 400 && status != http.StatusGone {
			require.NotEmpty(b.t, a.Description())
			require.NotContains(b.t, a.Description(), "\n")
			require.Less(b.t, len(a.Description()), 1000)
		}
		return a
	}
}

func (b *testbed) created() func(*controller.Answer, error) *controller.Answer {
	b.t.Helper()
	return b.expect(http.StatusCreated, controller.Succeeded)
}

func (b *testbed) ok() func(*controller.Answer, error) *controller.Answer {
	b.t.Helper()
	return b.expect(http.StatusOK, controller.Succeeded)
}

func (b *testbed) rejected() func(*controller.Answer, error) *controller.Answer {
	b.t.Helper()
	return b.expect(http.StatusBadRequest, controller.Rejected)
}

func (b *testbed) conflict() func(*controller.Answer, error) *controller.Answer {
	b.t.Helper()
	return b.expect(http.StatusConflict, controller.Conflict)
}

func (b *testbed) gone() func(*controller.Answer, error) *controller.Answer {
	b.t.Helper()
	return func(a *controller.Answer, err error) *controller.Answer {
		b.t.Helper()
		b.expect(http.StatusGone, controller.Succeeded)(a, err)
		require.JSONEq(b.t, "{}", string(a.Body))
		return a
	}
}

func urlOf(t *testing.T, a *controller.Answer) string {
	t.Helper()
	var body struct {
		URL string `json:"route_service_url"`
	}
	require.NoError(t, a.JSON(&body))
	require.NotEmpty(t, body.URL)
	return body.URL
}

// parametersOf are the parameters that GET instance answers, without status.
func (b *testbed) parametersOf(s controller.Service) string {
	b.t.Helper()
	var body struct {
		Parameters map[string]json.RawMessage `json:"parameters"`
	}
	require.NoError(b.t, b.ok()(b.FetchService(ctx, s)).JSON(&body))
	delete(body.Parameters, "status")
	text, err := json.Marshal(body.Parameters)
	require.NoError(b.t, err)
	return string(text)
}

type status struct {
	Mode   string
	Routes []struct {
		Route, Mode, Scope string
		Grants             []json.RawMessage
		GrantsTotal        int `json:"grants_total"`
	}
	Warnings []string
}

func (b *testbed) statusOf(s controller.Service) status {
	b.t.Helper()
	var body struct{ Parameters struct{ Status status } }
	require.NoError(b.t, b.ok()(b.FetchService(ctx, s)).JSON(&body))
	return body.Parameters.Status
}

// do sends any request with Cloud Controller's headers.
func (b *testbed) do(method, path, body string, change ...func(*http.Request)) (*http.Response, string) {
	b.t.Helper()
	req, err := http.NewRequest(method, b.server.URL+path, strings.NewReader(body))
	require.NoError(b.t, err)
	req.SetBasicAuth(username, password)
	req.Header.Set("X-Broker-Api-Version", "2.15")
	req.Header.Set("X-Broker-Api-Request-Identity", "request-1")
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, f := range change {
		f(req)
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	require.NoError(b.t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	require.NoError(b.t, err)
	return res, string(text)
}

// refused asserts an error in the one shape that Cloud Controller shows.
func refused(t *testing.T, status int, description string) func(*http.Response, string) {
	t.Helper()
	return func(res *http.Response, body string) {
		t.Helper()
		require.Equal(t, status, res.StatusCode, body)
		require.Equal(t, "application/json", res.Header.Get("Content-Type"))
		require.Equal(t, "request-1", res.Header.Get("X-Broker-Api-Request-Identity"))
		var members map[string]any
		require.NoError(t, json.Unmarshal([]byte(body), &members), body)
		require.Contains(t, members["description"], description)
		require.NotContains(t, members["description"], "\n")
		require.NotContains(t, members, "Description")
	}
}

func golden(t *testing.T, name string, body []byte) {
	t.Helper()
	var pretty bytes.Buffer
	require.NoError(t, json.Indent(&pretty, bytes.TrimSpace(body), "", "  "))
	pretty.WriteByte('\n')
	file := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.WriteFile(file, pretty.Bytes(), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), pretty.String())
}

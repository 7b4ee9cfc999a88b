package access_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/api"
	"github.com/mtls-authz/mtls-authz/api/access"
	"github.com/mtls-authz/mtls-authz/api/envelope"
	"github.com/mtls-authz/mtls-authz/api/own"
	"github.com/mtls-authz/mtls-authz/api/viewer"
	"github.com/mtls-authz/mtls-authz/broker"
	"github.com/mtls-authz/mtls-authz/gateway"
	"github.com/mtls-authz/mtls-authz/gateway/line"
	"github.com/mtls-authz/mtls-authz/gateway/target"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/display"
	"github.com/mtls-authz/mtls-authz/grants/parameters"
	"github.com/mtls-authz/mtls-authz/grants/route"
	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/playground"
	"github.com/mtls-authz/mtls-authz/playground/ca"
	"github.com/mtls-authz/mtls-authz/rego"
	"github.com/mtls-authz/mtls-authz/rego/replay"
	"github.com/mtls-authz/mtls-authz/store"
	"github.com/mtls-authz/mtls-authz/store/sightings"
)

var update = flag.Bool("update", false, "write the golden files anew")

const base = "https://gateway.apps.example"

var (
	backend, frontend = playground.Backend.Identity(), playground.Frontend.Identity()
	monitoring        = playground.Monitoring.Identity()
	tokens            = store.TokenKey("a key of the tests, 32 bytes lon")
	start             = time.Date(2026, 5, 4, 10, 15, 0, 0, time.UTC)
	stands            = strings.NewReplacer("$frontend", frontend.App, "$monitoring", monitoring.App, "$shop", backend.Space, "$acme", backend.Org)
)

// checks is a bundle with one check.
const checks = `# METADATA
# title: Deletes wait
package site.check.freeze

import rego.v1

default allow := false

reason := "change_freeze"

allow if input.request.method != "DELETE"
`

var policies = sync.OnceValue(func() []*rego.Policy {
	dir, err := os.MkdirTemp("", "policy")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "freeze.rego"), []byte(checks), 0o600); err != nil {
		panic(err)
	}
	strict, err := rego.Compile(context.Background(), rego.Config{Bundle: dir, Timeout: 10 * time.Second})
	if err != nil {
		panic(err)
	}
	builtIn, err := rego.Compile(context.Background(), rego.Config{Timeout: 10 * time.Second})
	if err != nil {
		panic(err)
	}
	return []*rego.Policy{strict, builtIn}
})

// testbed is a gateway and its API over one store.
type testbed struct {
	t           *testing.T
	store       *store.Store
	gateway     *gateway.Gateway
	server      *httptest.Server
	policy      *rego.Policy
	credentials map[string]*ca.Credential
	late        atomic.Int64 // how far the clock is after its start
	recorded    map[string]replay.Recorded
	notBound    map[string]string
	labels      map[string]display.Label
	decided     int // how often the cache was asked
	probed      int // how often a router would have been probed
	lines       bytes.Buffer
	metrics     *prometheus.Registry
}

func newTestbed(t *testing.T) *testbed {
	t.Helper()
	b := &testbed{t: t, policy: policies()[0], credentials: map[string]*ca.Credential{}, recorded: map[string]replay.Recorded{}, notBound: map[string]string{}, metrics: prometheus.NewRegistry()}
	now := func() time.Time { return start.Add(time.Duration(b.late.Load())) }
	var err error
	b.store, err = store.Open(t.Context(), store.Config{URL: "sqlite://" + filepath.Join(t.TempDir(), "state.db"), ReportAllowed: true, Now: now, SightingsInterval: time.Hour})
	require.NoError(t, err)
	root, err := ca.NewRoot("identity")
	require.NoError(t, err)
	for _, id := range []ca.Identity{backend, frontend, monitoring} {
		b.credentials[id.App], err = root.Instance(id)
		require.NoError(t, err)
	}
	verifier, err := identity.NewVerifier(identity.Config{Foundation: "local", CAs: []*x509.Certificate{root.Certificate()}})
	require.NoError(t, err)
	b.gateway = gateway.New(gateway.Config{
		Access: b.store.View().Access, Tokens: tokens, Ready: func() error { return nil }, Verifier: verifier, Format: target.ByHost[identity.Format]{},
		Trust: func(context.Context, *grants.Access, string) error { b.probed++; return nil }, Proven: func(*grants.Access, string) error { return nil }, Policy: func() *rego.Policy { return b.policy }, Decider: b,
		Router: answerNothing{}, MaxInFlight: 100, MaxInFlightPerRoute: 100, MaxStream: time.Minute, Used: b.store.Used,
		Recorded: b.sighted, Log: slog.New(slog.NewJSONHandler(&b.lines, nil)), Metrics: b.metrics, Now: now,
	})
	explainer := access.New(access.Config{
		Store: b.store, Policy: func() *rego.Policy { return b.policy }, Explain: b.gateway.Explain, Foundation: "local", BaseURL: base, Now: now,
		Recorded: func(id string) (replay.Recorded, bool) { r, ok := b.recorded[id]; return r, ok },
		NotBound: func(route string) string { return b.notBound[route] }, Labels: b.label,
	})
	readers := broker.Credentials{Username: "auditor", Password: "the-readers-password"}
	b.server = httptest.NewServer(api.New(api.Config{
		Reader: b.store, Deleter: b.store, MayRead: readers.Accept, MayChange: func(*http.Request) bool { return false }, BaseURL: base,
		Access: b.store.View().Access, Site: func() *grants.Site { return b.policy.Site() }, Log: slog.New(slog.DiscardHandler), Now: now,
		More:    []func(*envelope.Envelope){explainer.Add, own.New(own.Config{Store: b.store, Access: explainer, Labels: b.label, BaseURL: base}).Add},
		Permits: permits,
	}))
	t.Cleanup(func() {
		b.server.Close()
		require.NoError(t, b.store.Close())
	})
	return b
}

// Decide asks the policy, as the cache does for what it does not know.
func (b *testbed) Decide(ctx context.Context, r *rego.Request) (rego.Decision, error) {
	b.decided++
	return r.Policy.Decide(ctx, r)
}

// permits lets the user of the token "of-ID" read the instance ID.
func permits(_ context.Context, r *http.Request, instanceID string) (viewer.May, error) {
	if r.Header.Get("Authorization") == "bearer of-"+instanceID {
		return viewer.May{Read: true, User: "developer"}, nil
	}
	return viewer.May{}, nil
}

// as asks by the token of somebody who may read an instance.
func as(instanceID string) change {
	return func(r *http.Request) { r.Header.Set("Authorization", "bearer of-"+instanceID) }
}

// label names what the test has named.
func (b *testbed) label(_ grants.Kind, id identity.GUID) display.Label { return b.labels[id.String()] }

// answerNothing is leg 3.
type answerNothing struct{}

func (answerNothing) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusNoContent, Header: http.Header{}, Body: http.NoBody, Request: r, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}, nil
}

func (b *testbed) sighted(l *line.Line, at time.Time) {
	named := ""
	if bound := b.store.View().Access(l.Binding); bound != nil {
		named = access.Names(bound, at, b.policy)
	}
	b.store.Sightings().Note(&sightings.Decision{
		DecisionID: l.DecisionID, At: at, Binding: l.Binding, Route: l.Route, Mode: l.Mode, Outcome: l.Auth, Policy: l.Policy, Reason: l.Reason,
		Detail: l.Detail, App: l.App, Space: l.Space, Org: l.Org, Method: l.Method, Host: l.Host, Path: l.Path, PolicyRevision: l.PolicyRevision, Revision: l.Revision, Names: named,
	})
}

// create makes an instance of plan org in the shop; bind binds a route to it.
func (b *testbed) create(id, raw string) {
	b.t.Helper()
	given, err := parameters.ParseInstance([]byte(stands.Replace(raw)))
	require.NoError(b.t, err)
	owner := grants.Owner{Instance: id}
	require.NoError(b.t, owner.Org.UnmarshalText([]byte(backend.Org)))
	require.NoError(b.t, owner.Space.UnmarshalText([]byte(backend.Space)))
	_, err = b.store.CreateInstance(b.t.Context(), store.Cause{}, store.Instance{ID: id, PlanID: "p", Plan: grants.ScopeOrg, Owner: owner, Parameters: given})
	require.NoError(b.t, err)
}

func (b *testbed) update(id, raw string) {
	b.t.Helper()
	given, err := parameters.ParseInstance([]byte(stands.Replace(raw)))
	require.NoError(b.t, err)
	require.NoError(b.t, b.store.UpdateInstance(b.t.Context(), store.Cause{}, id, func(i store.Instance) (store.Instance, error) {
		i.Parameters = given
		return i, nil
	}))
}

func (b *testbed) bind(instance, id, name string) {
	b.t.Helper()
	bound, err := route.Parse(name)
	require.NoError(b.t, err)
	given, err := parameters.ParseBinding(nil)
	require.NoError(b.t, err)
	b.late.Add(int64(time.Second))
	_, _, err = b.store.CreateBinding(b.t.Context(), store.Cause{}, store.Binding{ID: id, InstanceID: instance, Route: bound, Parameters: given, URL: base + "/r/" + id + "/" + tokens.Token(id)})
	require.NoError(b.t, err)
}

// call sends a real request and returns its decision id and status.
func (b *testbed) call(binding string, who ca.Identity, method, url string) (id string, status int) {
	b.t.Helper()
	b.late.Add(int64(time.Second))
	r := httptest.NewRequestWithContext(b.t.Context(), method, "/r/"+binding+"/"+tokens.Token(binding), nil)
	r.Header.Set("X-CF-Forwarded-Url", url)
	r.Header.Set("X-CF-Proxy-Signature", "secret-signature")
	r.Header.Set("X-CF-Proxy-Metadata", "secret-metadata")
	if who.App != "" {
		r.Header.Set(identity.Header, b.credentials[who.App].XFCC())
	}
	answer := httptest.NewRecorder()
	b.gateway.ServeHTTP(answer, r)
	return answer.Result().Header.Get("X-Mtls-Authz-Decision"), answer.Code
}

// reply is what a client heard.
type reply struct {
	*http.Response
	body string
}

type change func(*http.Request)

func text(r *http.Request) { r.Header.Set("Accept", "text/plain") }

// do asks as a reader. No answer holds a secret, whatever it is.
func (b *testbed) do(method, path, body string, changes ...change) reply {
	b.t.Helper()
	request, err := http.NewRequestWithContext(b.t.Context(), method, b.server.URL+path, strings.NewReader(body))
	require.NoError(b.t, err)
	request.SetBasicAuth("auditor", "the-readers-password")
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	for _, change := range changes {
		change(request)
	}
	res, err := b.server.Client().Do(request)
	require.NoError(b.t, err)
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	require.NoError(b.t, err)
	for _, secret := range []string{"secret-", "/r/", "secret=1"} {
		require.NotContains(b.t, string(raw), secret)
	}
	return reply{res, string(raw)}
}

// get reads what must be there.
func (b *testbed) get(path string, into any) {
	b.t.Helper()
	r := b.do("GET", path, "")
	require.Equal(b.t, 200, r.StatusCode, r.body)
	require.NoError(b.t, json.Unmarshal([]byte(r.body), into))
}

// explanation is what clients read of one.
type explanation struct {
	Allowed                       bool
	GoesOn                        bool `json:"goes_on"`
	Mode                          string
	Outcome, Policy, Reason, Step string
	Detail, Route, Path           string
	Binding                       string `json:"binding_guid"`
	Caller                        *struct{ App, Space, Org string }
	Grants                        []struct {
		Grant           json.RawMessage
		Origin, Because string
		StandsFor       string `json:"stands_for"`
	}
	Checks []struct {
		Name, Title string
		Holds       bool
		Ends        []struct {
			File, Condition string
			Line            int
		}
	}
	Remedies, Warnings []string
}

// ask asks what a request would get.
func (b *testbed) ask(who ca.Identity, method, url string) explanation {
	b.t.Helper()
	caller := "null"
	if who.App != "" {
		caller = fmt.Sprintf(`{"app":%q,"space":%q,"org":%q}`, who.App, who.Space, who.Org)
	}
	r := b.do("POST", "/v1/decide", fmt.Sprintf(`{"caller":%s,"method":%q,"url":%q}`, caller, method, url))
	require.Equal(b.t, 200, r.StatusCode, r.body)
	var e explanation
	require.NoError(b.t, json.Unmarshal([]byte(r.body), &e))
	return e
}

// expect is for refusals.
func (r reply) expect(t *testing.T, status int, says string) {
	t.Helper()
	require.Equal(t, status, r.StatusCode, r.body)
	require.Equal(t, "application/problem+json", r.Header.Get("Content-Type"))
	require.Contains(t, r.body, says)
}

// decisionID is one, and no guid of an app, which is of version 5.
var decisionID = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}`)

func golden(t *testing.T, name, body string) {
	t.Helper()
	for _, policy := range policies() {
		body = strings.ReplaceAll(body, policy.Revision(), "<revision>")
	}
	body = decisionID.ReplaceAllString(body, "<decision>")
	file := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(body), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), body)
}

func indented(t *testing.T, body string) string {
	t.Helper()
	var pretty bytes.Buffer
	require.NoError(t, json.Indent(&pretty, []byte(body), "", "  "))
	return pretty.String()
}

package candidate_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/parameters"
	"github.com/mtls-authz/mtls-authz/grants/route"
	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/rego"
	"github.com/mtls-authz/mtls-authz/rego/bundle"
	"github.com/mtls-authz/mtls-authz/rego/candidate"
	"github.com/mtls-authz/mtls-authz/rego/gate"
)

const (
	frontend = "d76446a1-f429-4444-8797-be2f78b75b08"
	shop     = "6755b19d-c543-4e0c-a4b3-cd6e7c9c68a3"
	acme     = "6e424e4e-5e46-419a-9cb6-eac9de2794e8"
)

// compiled is the policy of a bundle; nil: the built-in policy alone.
func compiled(t testing.TB, bundle map[string]string) *rego.Policy {
	t.Helper()
	return compiledWithin(t, bundle, 10*time.Second)
}

func compiledWithin(t testing.TB, files map[string]string, timeout time.Duration) *rego.Policy {
	t.Helper()
	read := bundle.None()
	if files != nil {
		dir := t.TempDir()
		for name, content := range files {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
		}
		archive, err := bundle.ReadArchive(dir)
		require.NoError(t, err)
		read, err = bundle.Read(archive, nil)
		require.NoError(t, err)
	}
	accepted, err := gate.Compile(t.Context(), read)
	require.NoError(t, err)
	// The gate would refuse a policy that hangs, and takes its time for any other.
	policy, err := rego.Untested(t.Context(), accepted, rego.Config{Timeout: timeout})
	require.NoError(t, err)
	return policy
}

func check(body string) map[string]string {
	return map[string]string{"policy.rego": "package site.check.one\n\n" + body + "\n"}
}

func operators(source string) map[string]string {
	return map[string]string{"data.json": `{"site":{"grants":["` + source + `"]}}`}
}

func guid(s string) identity.GUID {
	id, err := identity.ParseGUID(s)
	if err != nil {
		panic(err)
	}
	return id
}

func access(t testing.TB, bound string, sources ...string) *grants.Access {
	t.Helper()
	allow, err := json.Marshal(append([]string{}, sources...))
	require.NoError(t, err)
	given, err := parameters.ParseInstance([]byte(`{"allow":` + string(allow) + `,"labels":{"team":"payments"}}`))
	require.NoError(t, err)
	at, err := route.Parse(bound)
	require.NoError(t, err)
	return parameters.NewAccess(parameters.Bound{
		Binding: "b-1", Route: at, Plan: grants.ScopeOrg, Revision: 7, Instance: given,
		Owner: grants.Owner{Instance: "si-1", Space: guid(shop), Org: guid(acme)},
	})
}

// request is "METHOD /path" of the frontend app, now.
func request(policy *rego.Policy, a *grants.Access, what string) *rego.Request {
	method, path, _ := strings.Cut(what, " ")
	now := time.Now()
	return &rego.Request{
		Policy: policy, Live: a.Live(now, policy.Site()), Method: method, Host: a.Route.Host, Path: path, Segments: route.Segments(path), Now: now,
		Caller: identity.Caller{Foundation: "local", App: guid(frontend), Space: guid(shop), Org: guid(acme), Instance: "i-1"},
	}
}

// lines is a log.
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

// running is a candidate that evaluates everything.
type running struct {
	*candidate.Candidate
	t        testing.TB
	policy   atomic.Pointer[rego.Policy]
	log      lines
	registry *prometheus.Registry
	stop     func()
}

func start(t testing.TB, policy *rego.Policy) *running {
	t.Helper()
	c := &running{t: t, registry: prometheus.NewRegistry()}
	c.policy.Store(policy)
	var err error
	c.Candidate, err = candidate.New(candidate.Config{
		Policy: c.policy.Load, Share: 1, Rate: 1_000_000, Log: slog.New(slog.NewJSONHandler(&c.log, nil)), Metrics: c.registry,
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.Run(ctx)
	}()
	c.stop = func() { cancel(); <-ended }
	t.Cleanup(c.stop)
	return c
}

// observe hands over what the policy in force decides, and awaits the
// comparison.
func (c *running) observe(id string, r *rego.Request) candidate.Report {
	c.t.Helper()
	before := c.Report()
	decision, _ := rego.Answer(c.t.Context(), r)
	c.Observe(id, r, decision)
	var report candidate.Report
	require.Eventually(c.t, func() bool {
		report = c.Report()
		same := report.PolicyRevision == before.PolicyRevision && report.CandidateRevision == before.CandidateRevision
		return report.Evaluated > 0 && (!same || report.Evaluated != before.Evaluated)
	}, 10*time.Second, time.Millisecond)
	return report
}

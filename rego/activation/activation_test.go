package activation_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	opabundle "github.com/open-policy-agent/opa/v1/bundle"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/parameters"
	"github.com/mtls-authz/mtls-authz/grants/route"
	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/rego"
	"github.com/mtls-authz/mtls-authz/rego/activation"
	"github.com/mtls-authz/mtls-authz/rego/bundle"
)

const (
	allowing = "package site.check.one\n\nallow := true\n"
	denying  = "package site.check.one\n\nallow := false\n"
)

func put(t *testing.T, path, content string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path+".new", []byte(content), 0o600))
	require.NoError(t, os.Rename(path+".new", path))
}

// running opens and runs an Active until the test ends or stop is called; its
// goroutines have ended then.
func running(t *testing.T, cfg activation.Config) (active *activation.Follower, stop func()) {
	t.Helper()
	cfg.Policy.Timeout = 10 * time.Second
	active, err := activation.Open(t.Context(), cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		active.Run(ctx)
	}()
	stop = func() {
		cancel()
		<-ended
	}
	t.Cleanup(stop)
	return active, stop
}

func eventually(t *testing.T, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, 2*time.Minute, 10*time.Millisecond)
}

type files map[string]string

func directory(t *testing.T, content files) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range content {
		put(t, filepath.Join(root, name), text)
	}
	return root
}

// request is one that a grant matches.
func request(t *testing.T, policy *rego.Policy) *rego.Request {
	t.Helper()
	given, err := parameters.ParseInstance([]byte(`{"allow":["cf:any"]}`))
	require.NoError(t, err)
	bound, err := route.Parse("backend.apps.identity")
	require.NoError(t, err)
	id, err := identity.ParseGUID("d76446a1-f429-4444-8797-be2f78b75b08")
	require.NoError(t, err)
	access := parameters.NewAccess(parameters.Bound{
		Binding: "b-1", Route: bound, Plan: grants.ScopeAny, Instance: given, Owner: grants.Owner{Instance: "si-1", Space: id, Org: id},
	})
	now := time.Now()
	return &rego.Request{
		Policy: policy, Live: access.Live(now, policy.Site()), Caller: identity.Caller{Foundation: "local", App: id, Space: id, Org: id},
		Method: "GET", Host: "backend.apps.identity", Path: "/", Now: now,
	}
}

// allows asks the policy in force for a request that a grant matches.
func allows(t *testing.T, active *activation.Follower) bool {
	t.Helper()
	policy := active.Policy()
	if policy == nil {
		return false
	}
	decision, err := policy.Decide(t.Context(), request(t, policy))
	require.NoError(t, err)
	return decision.Allow
}

// counted is the counter of activations with this result.
func counted(t *testing.T, registry *prometheus.Registry, result string) float64 {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			if len(metric.GetLabel()) == 1 && metric.GetLabel()[0].GetValue() == result {
				return metric.GetCounter().GetValue()
			}
		}
	}
	return 0
}

func TestWithoutABundleTheBuiltInPolicyIsInForce(t *testing.T) {
	t.Parallel()
	active, err := activation.Open(t.Context(), activation.Config{})
	require.NoError(t, err)
	require.NoError(t, active.Ready())
	assert.Equal(t, activation.FromBuiltIn, active.Status().From)
	assert.Equal(t, active.Policy().Revision(), active.Revision())
	active.Run(t.Context()) // nothing to follow
}

// The last good policy stays whatever the directory holds next, and a status,
// a metric and the log say why.
func TestTheLastGoodPolicyStays(t *testing.T) {
	t.Parallel()
	root := directory(t, files{"policy.rego": allowing})
	path := filepath.Join(root, "policy.rego")
	registry := prometheus.NewRegistry()
	var log lockedBuffer
	active, _ := running(t, activation.Config{
		Policy: rego.Config{Bundle: root}, Metrics: registry, Log: slog.New(slog.NewJSONHandler(&log, nil)),
	})
	assert.Nil(t, active.Policy(), "nothing is in force before it has passed")
	assert.ErrorIs(t, active.Ready(), activation.ErrNoPolicy)
	eventually(t, func() bool { return active.Ready() == nil })
	good := active.Policy()
	status := active.Status()
	assert.Equal(t, []string{"one"}, status.Checks)
	assert.True(t, status.Reachable)
	assert.Empty(t, status.Error)

	for what, content := range map[string]string{
		"rego_parse_error":         "package site.check.one\n\nallow := {",
		"expected true or false":   "package site.check.one\n\nallow := \"yes\"",
		"data.mtls belongs":        "package mtls.authz\n\ngranted := true",
		"did you mean caller?":     "package site.check.one\n\nallow if not input.caler.app",
		"is read but is neither":   "package site.check.one\n\nallow if not data.blocked[input.caller.app]",
		"test_it fails":            allowing + "\ntest_it if not allow\n",
		"policies may not call it": "package site.check.one\n\nallow if http.send({\"url\": \"https://x\", \"method\": \"GET\"})",
	} {
		put(t, path, content)
		eventually(t, func() bool { return strings.Contains(active.Status().Error, what) })
		status := active.Status()
		require.NotEmpty(t, status.Findings, what)
		assert.Equal(t, "policy.rego", status.Findings[0].File, what)
		assert.NotZero(t, status.Findings[0].Line, what)
		assert.Same(t, good, active.Policy(), what)
		assert.NoError(t, active.Ready(), what)
		eventually(t, func() bool { return strings.Contains(log.String(), strings.ReplaceAll(what, `"`, `\"`)) })
	}
	put(t, path, denying)
	eventually(t, func() bool { return active.Status().Error == "" })
	assert.NotSame(t, good, active.Policy())
	assert.False(t, allows(t, active))
	eventually(t, func() bool { return counted(t, registry, "activated") == 2 })

	require.NoError(t, os.RemoveAll(root))
	eventually(t, func() bool { return !active.Status().Reachable })
	assert.False(t, allows(t, active))
	assert.NoError(t, active.Ready())
}

// gauge is a gauge by its name and, if it has one, its label.
func gauge(t *testing.T, registry *prometheus.Registry, name, label string) float64 {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			if family.GetName() == name && (label == "" || metric.GetLabel()[0].GetValue() == label) {
				return metric.GetGauge().GetValue()
			}
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// A bad bundle is told of as long as it is there; a good one that comes back is no
// new policy.
func TestMetricsTellWhatStands(t *testing.T) {
	t.Parallel()
	root := directory(t, files{"policy.rego": allowing})
	path, registry := filepath.Join(root, "policy.rego"), prometheus.NewRegistry()
	last := func(result string) bool {
		for _, one := range []string{"activated", "refused", "unreachable"} {
			if (gauge(t, registry, "mtls_authz_policy_last_attempt", one) == 1) != (one == result) {
				return false
			}
		}
		return true
	}
	at := func() float64 { return gauge(t, registry, "mtls_authz_policy_activated_timestamp_seconds", "") }
	active, _ := running(t, activation.Config{Policy: rego.Config{Bundle: root}, Metrics: registry, Poll: 50 * time.Millisecond})
	eventually(t, func() bool { return last("activated") })
	first := at()
	require.NotZero(t, first)

	put(t, path, "package site.check.one\n\nallow := {")
	eventually(t, func() bool { return last("refused") })
	require.NoError(t, os.Rename(root, root+"-away"))
	eventually(t, func() bool { return last("unreachable") })
	require.NoError(t, os.Rename(root+"-away", root))
	eventually(t, func() bool { return last("refused") })

	// The clock of the metric has seconds.
	eventually(t, func() bool { return time.Now().Unix() > int64(first)+1 })
	put(t, path, allowing)
	eventually(t, func() bool { return last("activated") && active.Status().Error == "" })
	eventually(t, func() bool { return counted(t, registry, "activated") == 2 })
	assert.InDelta(t, first, at(), 0, "the policy in force is the one of before")
	put(t, path, denying)
	eventually(t, func() bool { return counted(t, registry, "activated") == 3 })
	assert.Greater(t, at(), first)
}

func TestWithoutAnyGoodBundleNothingIsDecided(t *testing.T) {
	t.Parallel()
	root := directory(t, files{"policy.rego": "package site.check.one\n\nallow := {"})
	active, _ := running(t, activation.Config{Policy: rego.Config{Bundle: root}})
	eventually(t, func() bool { return active.Status().Error != "" })
	assert.Nil(t, active.Policy(), "never the built-in alone")
	assert.ErrorIs(t, active.Ready(), activation.ErrNoPolicy)
	assert.ErrorContains(t, active.Ready(), "policy.rego:3")
	assert.Empty(t, active.Revision())
	assert.Empty(t, active.Site().Grants)
	put(t, filepath.Join(root, "policy.rego"), allowing)
	eventually(t, func() bool { return active.Ready() == nil })
	assert.True(t, allows(t, active))
}

var seal = []byte("0123456789abcdef0123456789abcdef")

// A restart while the source is away serves the last good bundle, if it is the
// one that was saved, for this setting.
func TestARestartWhileTheSourceIsAway(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "policy")
	root := directory(t, files{"policy.rego": denying})
	cfg := activation.Config{Policy: rego.Config{Bundle: root}, Folder: folder, Seal: seal}
	active, stop := running(t, cfg)
	eventually(t, func() bool { return active.Ready() == nil })
	revision := active.Revision()
	stop()
	info, err := os.Stat(folder)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	require.NoError(t, os.RemoveAll(root))

	active, stop = running(t, cfg)
	eventually(t, func() bool { return active.Ready() == nil })
	assert.Equal(t, revision, active.Revision())
	status := active.Status()
	assert.Equal(t, activation.FromSaved, status.From)
	assert.False(t, status.Reachable)
	assert.NotEmpty(t, status.Error, "what is wrong with the source is still said")
	assert.False(t, allows(t, active))
	stop()

	notUsed := func(name string, cfg activation.Config, says string) {
		var log lockedBuffer
		cfg.Metrics, cfg.Log, cfg.Poll = prometheus.NewRegistry(), slog.New(slog.NewJSONHandler(&log, nil)), 50*time.Millisecond
		active, stop := running(t, cfg)
		// The second look comes after whatever the first one led to.
		eventually(t, func() bool { return counted(t, cfg.Metrics.(*prometheus.Registry), "unreachable") >= 2 })
		assert.Nil(t, active.Policy(), name)
		assert.ErrorIs(t, active.Ready(), activation.ErrNoPolicy, name)
		assert.Contains(t, log.String(), says, name)
		stop()
	}
	elsewhere := cfg
	elsewhere.Policy.Bundle = root + "-other"
	notUsed("another bundle", elsewhere, "cannot be read")
	stolen := cfg
	stolen.Seal = []byte("ffffffffffffffffffffffffffffffff")
	notUsed("another seal", stolen, "was changed")

	path := filepath.Join(folder, "last-good-bundle")
	original, err := os.ReadFile(path)
	require.NoError(t, err)
	for i := 0; i < len(original); i += 1 + len(original)/5 {
		tampered := bytes.Clone(original)
		tampered[i] ^= 1
		require.NoError(t, os.WriteFile(path, tampered, 0o600))
		notUsed("tampered", cfg, "was changed")
	}
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	notUsed("emptied", cfg, "was changed")

	_, err = activation.Open(t.Context(), activation.Config{Policy: rego.Config{Bundle: root}, Folder: folder})
	assert.ErrorContains(t, err, "seal")
}

// signing signs archives of one module.
type signing struct {
	private string
	key     *bundle.Key
}

func newSigning(t *testing.T) signing {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	publicDER, err := x509.MarshalPKIXPublicKey(public)
	require.NoError(t, err)
	key, err := bundle.ParseKey(string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: publicDER})))
	require.NoError(t, err)
	return signing{string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), key}
}

func (s signing) archive(t *testing.T, revision, module string) []byte {
	t.Helper()
	packed, err := bundle.ReadArchive(directory(t, files{"policy.rego": module, ".manifest": `{"revision":"` + revision + `","roots":[""]}`}))
	require.NoError(t, err)
	loaded, err := opabundle.NewReader(bytes.NewReader(packed)).Read()
	require.NoError(t, err)
	require.NoError(t, loaded.GenerateSignature(opabundle.NewSigningConfig(s.private, "EdDSA", ""), "any", false))
	var out bytes.Buffer
	require.NoError(t, opabundle.NewWriter(&out).DisableFormat(true).Write(loaded))
	return out.Bytes()
}

// An old bundle with a good signature is refused, after a restart too.
func TestSignedBundlesDoNotGoBack(t *testing.T) {
	t.Parallel()
	s, other := newSigning(t), newSigning(t)
	path := filepath.Join(t.TempDir(), "bundle.tar.gz")
	cfg := activation.Config{Policy: rego.Config{Bundle: path, Key: s.key}, Folder: filepath.Join(t.TempDir(), "policy"), Seal: seal}
	old, current := s.archive(t, "7", allowing), s.archive(t, "8", denying)
	put(t, path, string(old))
	active, stop := running(t, cfg)
	eventually(t, func() bool { return active.Ready() == nil })
	assert.True(t, allows(t, active))
	put(t, path, string(current))
	eventually(t, func() bool { return active.Status().BundleRevision == "8" })

	refused := func(archive []byte, says string) {
		t.Helper()
		put(t, path, string(archive))
		eventually(t, func() bool { return strings.Contains(active.Status().Error, says) })
		assert.False(t, allows(t, active))
	}
	refused(old, `"7" is older than "8"`)
	refused(s.archive(t, "8", allowing), "another content")
	refused(other.archive(t, "9", allowing), "signature")
	unsigned, err := bundle.ReadArchive(directory(t, files{"policy.rego": allowing, ".manifest": `{"revision":"9"}`}))
	require.NoError(t, err)
	refused(unsigned, "missing .signatures.json")
	put(t, path, string(old))
	stop()

	active, _ = running(t, cfg)
	eventually(t, func() bool { return active.Ready() == nil && strings.Contains(active.Status().Error, "is older than") })
	assert.False(t, allows(t, active), "the saved bundle serves, not the old one")
	assert.Equal(t, activation.FromSaved, active.Status().From)
	put(t, path, string(s.archive(t, "9", allowing)))
	eventually(t, func() bool { return active.Status().BundleRevision == "9" })
	assert.True(t, allows(t, active))
}

func TestAServersBundleIsInForce(t *testing.T) {
	t.Parallel()
	packed, err := bundle.ReadArchive(directory(t, files{"policy.rego": denying}))
	require.NoError(t, err)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer SECRET" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("ETag", `"v1"`)
		_, _ = w.Write(packed)
	}))
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	location := server.URL + "/bundle.tar.gz?sig=SECRET"
	active, _ := running(t, activation.Config{Policy: rego.Config{Bundle: location}, Token: "SECRET", Roots: roots})
	eventually(t, func() bool { return active.Ready() == nil })
	assert.False(t, allows(t, active))
	assert.Equal(t, server.URL+"/bundle.tar.gz", active.Status().Source)

	refused, _ := running(t, activation.Config{Policy: rego.Config{Bundle: location}, Token: "WRONG", Roots: roots})
	eventually(t, func() bool { return strings.Contains(refused.Status().Error, "answered 401") })
	assert.NotContains(t, refused.Status().Error, "SECRET")
	assert.Nil(t, refused.Policy())
}

// Swaps happen under requests: each is decided by a whole policy.
func TestPoliciesAreSwappedUnderRequests(t *testing.T) {
	t.Parallel()
	root := directory(t, files{"policy.rego": allowing})
	active, _ := running(t, activation.Config{Policy: rego.Config{Bundle: root}})
	eventually(t, func() bool { return active.Ready() == nil })
	stop := make(chan struct{})
	var asking sync.WaitGroup
	for range 4 {
		asking.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				policy := active.Policy()
				if _, err := policy.Decide(context.Background(), request(t, policy)); err != nil {
					assert.NoError(t, err)
					return
				}
			}
		})
	}
	for i := range 4 {
		put(t, filepath.Join(root, "policy.rego"), []string{denying, allowing}[i%2])
		eventually(t, func() bool { return allows(t, active) == (i%2 == 1) })
	}
	close(stop)
	asking.Wait()
}

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu  sync.Mutex
	out bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.out.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.out.String()
}

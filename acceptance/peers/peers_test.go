package main

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground"
)

// program finds what make setup-peers has put into .bin.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs("../../.bin/" + name)
	require.NoError(t, err)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("%s is not there: make setup-peers", path)
	}
	return path
}

// status is how a request without a body is answered.
func status(t *testing.T, client *http.Client, method, url string, header http.Header) int {
	t.Helper()
	defer client.CloseIdleConnections()
	reply, err := playground.Call(t.Context(), client, method, url, header)
	require.NoError(t, err)
	return reply.Status
}

// caches is where the gateways' decisions came from, by subject.
type caches struct {
	mu   sync.Mutex
	seen map[string]map[string]int
}

func (c *caches) line(subject string, text []byte) {
	var line struct{ Msg, Cache string }
	if json.Unmarshal(text, &line) != nil || line.Msg != "decision" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen[subject] == nil {
		c.seen[subject] = map[string]int{}
	}
	c.seen[subject][line.Cache]++
}

func startWorld(t *testing.T, line func(string, []byte)) *world {
	t.Helper()
	if os.Getenv("MTLS_AUTHZ_HEAVY") == "" {
		t.Skip("MTLS_AUTHZ_HEAVY=1 starts nginx, OPA and gateways")
	}
	w, err := newWorld(t.Context(), worldConfig{dir: t.TempDir(), nginx: program(t, "nginx"), opa: program(t, "opa"), callers: 2, line: line})
	t.Cleanup(func() { assert.NoError(t, w.stop()) })
	require.NoError(t, err)
	return w
}

// What is measured does what it is said to do: whoever is allowed gets to the app,
// and nobody else does where somebody decides.
func TestSubjectsDecideAlike(t *testing.T) {
	from := caches{seen: map[string]map[string]int{}}
	w := startWorld(t, from.line)
	open := []string{directName, bareName}
	for _, s := range w.subjects {
		t.Run(s.name, func(t *testing.T) {
			for range 5 {
				require.NoError(t, s.callers[0](t.Context()))
			}
			intruder, err := s.foundation.Credential(playground.Intruder)
			require.NoError(t, err)
			frontend, err := s.foundation.Credential(playground.Frontend)
			require.NoError(t, err)
			header := http.Header{toldHeader: {told(playground.Intruder)}}
			denied := 403
			if slices.Contains(open, s.name) {
				denied = 200
			}
			assert.Equal(t, denied, status(t, s.foundation.Client(intruder), "GET", s.url+"/api/orders/1", header), "another org's app")
			assert.Equal(t, denied, status(t, s.foundation.Client(nil), "GET", s.url+"/api/orders/1", nil), "no certificate")
			header[toldHeader] = []string{told(playground.Frontend)}
			assert.Equal(t, denied, status(t, s.foundation.Client(frontend), "POST", s.url+"/api/orders/1", header), "a method that is not granted")
			assert.Equal(t, denied, status(t, s.foundation.Client(frontend), "GET", s.url+"/admin", header), "a path that is not granted")
			broken := http.Header{toldHeader: {told(playground.Intruder) + `","told":"` + told(playground.Frontend)}}
			assert.Equal(t, denied, status(t, s.foundation.Client(intruder), "GET", s.url+"/api/orders/1", broken), "a header that ends the string in the question")
			assert.Equal(t, 200, status(t, s.foundation.Client(frontend), "HEAD", s.url+"/api/orders/1", header))
		})
	}
	checkCaches(t, w, &from)
}

// checkCaches: the paths of a second round of all callers are remembered by the
// warm gateway, and by the cold one they are not.
func checkCaches(t *testing.T, w *world, from *caches) {
	t.Helper()
	from.mu.Lock()
	clear(from.seen)
	from.mu.Unlock()
	for _, s := range w.subjects {
		for range 2 * paths {
			require.NoError(t, s.callers[0](t.Context()))
		}
	}
	for _, g := range gateways {
		require.Eventually(t, func() bool {
			from.mu.Lock()
			defer from.mu.Unlock()
			total := 0
			for _, n := range from.seen[g.name] {
				total += n
			}
			return total == 2*paths
		}, time.Minute, 10*time.Millisecond, "the lines of all requests")
	}
	assert.Equal(t, []string{"miss"}, slices.Collect(maps.Keys(from.seen["gateway, cache cold"])))
	assert.Equal(t, []string{"none"}, slices.Collect(maps.Keys(from.seen["gateway, cache off"])))
	assert.GreaterOrEqual(t, from.seen["gateway, cache warm"]["local"], paths)
}

func TestARunPrintsARowForEachSubject(t *testing.T) {
	if os.Getenv("MTLS_AUTHZ_HEAVY") == "" {
		t.Skip("MTLS_AUTHZ_HEAVY=1 starts nginx, OPA and gateways")
	}
	docs := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(docs, "benchmarks.md"), []byte(
		"<!-- figures: written by make bench-peers -->\n<!-- end of the figures -->\n"), 0o600))
	o := options{
		nginx: program(t, "nginx"), opa: program(t, "opa"), docs: docs,
		plan: plan{rounds: 1, callers: 2, rate: 50, flood: 200 * time.Millisecond, pace: 100 * time.Millisecond},
	}
	var out, progress strings.Builder
	require.NoError(t, run(t.Context(), o, &out, &progress))
	written, err := os.ReadFile(filepath.Join(docs, "benchmarks.md"))
	require.NoError(t, err)
	plot, err := os.ReadFile(filepath.Join(docs, "benchmarks.svg"))
	require.NoError(t, err)
	for _, name := range []string{directName, bareName, verifyingName, rememberingName, believingName, "gateway, cache warm", "gateway, cache cold"} {
		assert.Contains(t, out.String(), name)
		assert.Contains(t, string(written), "| "+name+" | ")
		assert.Contains(t, string(plot), name)
	}
	assert.Contains(t, progress.String(), "round 1 of 1")
}

func TestAProgramThatIsMissingIsNamed(t *testing.T) {
	if os.Getenv("MTLS_AUTHZ_HEAVY") == "" {
		t.Skip("MTLS_AUTHZ_HEAVY=1 starts gateways")
	}
	err := run(context.Background(), options{nginx: "/nowhere/nginx", opa: "/nowhere/opa", plan: plan{callers: 1}}, &strings.Builder{}, &strings.Builder{})
	assert.ErrorContains(t, err, "/nowhere/")
}

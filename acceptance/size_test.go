package acceptance_test

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/acceptance/peers/load"
	"github.com/mtls-authz/mtls-authz/acceptance/peers/process"
	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/playground"
	"github.com/mtls-authz/mtls-authz/store"
	people "github.com/mtls-authz/mtls-authz/store/crowd"
)

// Of the sized gateway: routes that are called once, and again and again, by how
// many at once, for how long.
const (
	routesCalled  = 10_000
	routesBusy    = 1000
	callersAtOnce = 16
	calledFor     = 10 * time.Second
)

// TestSizeInFigures measures the whole process in an instance of BENCH_MEMORY, with
// BENCH_BINDINGS bindings of 10 grants each; see make bench-size.
func TestSizeInFigures(t *testing.T) {
	bindings, err := strconv.Atoi(os.Getenv("BENCH_BINDINGS"))
	if err != nil || os.Getenv("MTLS_AUTHZ_FIGURES") == "" {
		t.Skip("make bench-size runs it")
	}
	server := ownPostgres(t)
	require.NoError(t, server.exec("postgres", "CREATE DATABASE sized OWNER gateway"))
	for _, one := range []struct{ name, url string }{
		{"nothing bound, SQLite", ""}, {"SQLite", "sqlite://" + filepath.Join(t.TempDir(), "sized.db")}, {"PostgreSQL", server.url("sized")},
	} {
		fmt.Printf("\n%s\n", one.name)
		measureSize(t, one.url, bindings)
	}
}

func measureSize(t *testing.T, url string, bindings int) {
	env := []string{"ROUTER_TRUST=assume", "POLICY_TIMEOUT=1s", "MEMORY_LIMIT=" + cmp.Or(os.Getenv("BENCH_MEMORY"), "512m")}
	if url != "" {
		env = append(env, "STORE_URL="+url)
		require.NoError(t, crowdOf(bindings).Fill(t.Context(), url))
	}
	w := start(t, setup{env: env})
	require.NoError(t, w.StopGateway())
	started := time.Now()
	require.NoError(t, w.StartGateway(t.Context()))
	fmt.Printf("| from start to healthy | %s |\n", time.Since(started).Round(10*time.Millisecond))
	time.Sleep(5 * time.Second)
	fmt.Printf("| memory then, and at its highest | %s, %s |\n", w.memory(t, "VmRSS"), w.memory(t, "VmHWM"))
	if url == "" {
		return
	}
	call, hangUp := w.crowdCaller(t, url)
	for n := range min(routesCalled, bindings) {
		require.NoError(t, call(t.Context(), n))
		if n%500 == 0 { // the caller keeps a connection for each route
			hangUp()
		}
	}
	fmt.Printf("| memory after a request to each of %d routes | %s |\n", min(routesCalled, bindings), w.memory(t, "VmRSS"))
	before, err := process.CPU(w.pid(t))
	require.NoError(t, err)
	var callers []load.Caller
	for range callersAtOnce {
		callers = append(callers, func(ctx context.Context) error { return call(ctx, rand.IntN(min(routesBusy, bindings))) })
	}
	result, err := load.Run(t.Context(), callers, 0, calledFor)
	require.NoError(t, err)
	after, err := process.CPU(w.pid(t))
	require.NoError(t, err)
	fmt.Printf("| requests a second, with router, app and callers on the same machine | %.0f |\n", result.PerSecond())
	fmt.Printf("| processor time of the gateway for a request | %d us |\n", (after-before).Microseconds()/int64(result.Requests))
	fmt.Printf("| memory then, and at its highest | %s, %s |\n", w.memory(t, "VmRSS"), w.memory(t, "VmHWM"))
}

// crowdOf are bindings of acme that allow frontend and nine others.
func crowdOf(bindings int) people.Crowd {
	guid := func(text string) identity.GUID {
		id, err := identity.ParseGUID(text)
		if err != nil {
			panic(err)
		}
		return id
	}
	owner, caller := playground.Backend.Identity(), playground.Frontend.Identity()
	return people.Crowd{
		Bindings: bindings, Org: guid(owner.Org), Space: func(int) identity.GUID { return guid(owner.Space) },
		Allow: func(n int) []string {
			sources := []string{"cf:app:" + caller.App}
			for g := range 9 {
				sources = append(sources, fmt.Sprintf("cf:app:d76446a1-f429-4444-8797-%012x", n*9+g))
			}
			return sources
		},
	}
}

// crowdCaller binds the routes in the router, and returns who calls them, and what
// closes the connections that are idle.
func (w *world) crowdCaller(t *testing.T, url string) (call func(context.Context, int) error, hangUp func()) {
	opened, err := store.Open(t.Context(), store.Config{URL: url})
	require.NoError(t, err)
	tokens, err := opened.Key(t.Context(), store.TokenKeyName)
	require.NoError(t, err)
	require.NoError(t, opened.Close())
	answer := strings.Repeat("x", 1024)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, answer) }))
	t.Cleanup(app.Close)
	for n := range routesCalled {
		id := people.Binding(n)
		require.NoError(t, w.Router.Register(people.Route(n), app.URL))
		require.NoError(t, w.Router.Bind(people.Route(n), "https://"+playground.GatewayHost+"/r/"+id+"/"+store.TokenKey(tokens).Token(id)))
	}
	credential, err := w.Credential(playground.Frontend)
	require.NoError(t, err)
	client := w.Client(credential)
	t.Cleanup(client.CloseIdleConnections)
	return func(ctx context.Context, n int) error {
		reply, err := playground.Call(ctx, client, http.MethodGet, "https://"+people.Route(n)+"/", nil)
		if err == nil && reply.Status != http.StatusOK {
			err = fmt.Errorf("%s: status %d %s", people.Route(n), reply.Status, reply.Reason)
		}
		return err
	}, client.CloseIdleConnections
}

func (w *world) pid(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(w.Dir, "pid"))
	require.NoError(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	require.NoError(t, err)
	return pid
}

// memory is a line of /proc/PID/status, in MiB.
func (w *world) memory(t *testing.T, name string) string {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.pid(t)))
	require.NoError(t, err)
	_, after, found := strings.Cut(string(status), name+":")
	require.True(t, found)
	var kib int
	_, err = fmt.Sscan(after, &kib)
	require.NoError(t, err)
	return fmt.Sprintf("%d MiB", kib>>10)
}

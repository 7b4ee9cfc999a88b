package acceptance_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground/ca"
)

// Without its state a gateway would refuse everybody: it ends and says why, and
// the platform, which shows that to the operator, starts it again. The gateways
// that were there before serve on.
func TestAGatewayDoesNotStartWithoutItsDatabase(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer silent.Close()
	for name, test := range map[string]struct{ url, says string }{
		"nobody listens":               {"postgres://gateway:" + databasePassword + "@127.0.0.1:1/state?sslmode=disable", "connection refused"},
		"somebody listens and is mute": {"postgres://gateway:" + databasePassword + "@" + silent.Addr().String() + "/state?sslmode=disable", "127.0.0.1"},
		"a file where no file can be":  {"sqlite:///nowhere/at/all/state.db", "/nowhere/at/all/state.db"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			end := execute(t, complete(t, "STORE_URL="+test.url), "serve")
			assert.Equal(t, 1, end.code)
			assert.Contains(t, end.stderr, "STORE_URL: ")
			assert.Contains(t, end.stderr, test.says)
			assert.NotContains(t, end.stderr+end.stdout, databasePassword)
		})
	}
}

// Redis is never needed: without it the gateway starts, serves, and notes it.
func TestAGatewayStartsWithoutRedis(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	storeURL, err := newSQLite(dir)
	require.NoError(t, err)
	cluster, err := newCluster(dir, storeURL, 1, "REDIS_URL=redis://127.0.0.1:1", "CACHE_SHARED=always")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, cluster.close()) })
	c := cluster.play(t)
	b := c.bound(c.created(onlyFrontend), "")
	c.reaches(b, allowed, noMatch)
	require.NoError(t, until("/readyz", func() error { return c.readiness(0, 200, "decisions are not shared") }))
}

// A gateway that never had its bundle decides nothing, and waits for it; one that
// had it decides by what it kept.
func TestAGatewayStartsWithoutTheServerOfItsBundle(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	authority, err := ca.NewRoot("bundles")
	require.NoError(t, err)
	file := filepath.Join(dir, "ca.pem")
	require.NoError(t, os.WriteFile(file, authority.PEM(), 0o600))
	port, err := freePort()
	require.NoError(t, err)
	storeURL, err := newSQLite(dir)
	require.NoError(t, err)
	site, err := theSite()
	require.NoError(t, err)
	env := []string{
		"GATEWAY_URL=https://starting.apps.identity", "BROKER_USERNAME=broker", "BROKER_PASSWORD=" + password, "STORE_URL=" + storeURL, "DATA_DIR=" + dir,
		"CALLER_CA_FILES=" + site.file("callers.pem"), "ROUTER_CA_FILES=" + site.file("routers.pem"), "ROUTER_TRUST=assume", "ROUTER_ADDRESS=" + site.router.Addr(),
		"POLICY_BUNDLE=" + fmt.Sprintf("https://127.0.0.1:%d/bundle.tar.gz", port), "POLICY_POLL_INTERVAL=100ms", "CA_FILES=" + file,
	}
	s, err := begin(dir, env)
	require.NoError(t, err)
	c := (&cluster{site: site, host: "starting.apps.identity", dir: dir, env: env, servers: []*server{s}}).play(t)
	t.Cleanup(func() { assert.NoError(t, c.server(0).stop()) })

	require.NoError(t, until("/readyz", func() error { return c.readiness(0, 503, "no policy is in force yet") }))
	status, err := s.status("/healthz")
	require.NoError(t, err)
	assert.Equal(t, http.StatusServiceUnavailable, status)
	b := c.bound(c.created(onlyFrontend), "") // the broker needs no policy
	c.reaches(b, "503 not_ready", "503 not_ready")

	bundles := bundleServerAt(t, authority, port, packed(t, map[string]string{"data.json": `{"site":{"note":"nothing"}}`}))
	require.NoError(t, s.awaitHealth())
	c.reaches(b, allowed, noMatch)
	bundles.Close()
	require.NoError(t, s.stop())

	again, err := launch(dir, env)
	require.NoError(t, err)
	c.servers[0] = again
	c.reaches(b, allowed, noMatch)
	require.NoError(t, until("/readyz", func() error { return c.readiness(0, 200, "the last good one stays in force") }))
}

// bundleServerAt serves one bundle at a port that was free a moment ago.
func bundleServerAt(t *testing.T, authority *ca.Authority, port int, bundle []byte) *httptest.Server {
	t.Helper()
	certificate, err := authority.Server("127.0.0.1")
	require.NoError(t, err)
	server := httptest.NewUnstartedServer(serves(bundle))
	server.Listener.Close()
	require.NoError(t, until("the port", func() error {
		server.Listener, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		return err
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate.TLS()}}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

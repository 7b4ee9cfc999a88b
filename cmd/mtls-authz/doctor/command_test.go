package doctor_test

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/doctor"
	"github.com/mtls-authz/mtls-authz/gateway/leg3"
	"github.com/mtls-authz/mtls-authz/gateway/selftest/probe"
	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/playground"
	"github.com/mtls-authz/mtls-authz/playground/ca"
	"github.com/mtls-authz/mtls-authz/playground/router"
	"github.com/mtls-authz/mtls-authz/store"
)

// world is a router before a gateway that answers probes, and the environment of
// that gateway.
type world struct {
	*testing.T
	dir     string
	root    *ca.Authority
	router  playground.Router
	environ doctor.Environ
}

func newWorld(t *testing.T, mode router.ForwardedClientCert, options ...ca.Option) *world {
	w := &world{T: t, dir: t.TempDir()}
	var err error
	w.root, err = ca.NewRoot("root")
	require.NoError(t, err)
	server, err := w.root.Server("*." + playground.Domain)
	require.NoError(t, err)
	w.router, err = playground.NewRouter(playground.Trust{Certificate: server, ClientCAs: w.root}, router.Config{ForwardedClientCert: mode})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, w.router.Close()) })
	own, err := w.root.Instance(playground.Authz.Identity(), options...)
	require.NoError(t, err)
	cert, key, err := own.WriteFiles(w.dir)
	require.NoError(t, err)
	roots := filepath.Join(w.dir, "root.pem")
	require.NoError(t, os.WriteFile(roots, w.root.PEM(), 0o600))
	w.environ = doctor.Environ{
		"GATEWAY_URL=https://" + playground.GatewayHost, "BROKER_USERNAME=cloud-controller", "BROKER_PASSWORD=8f14e45fceea167a5a36dedd4bea2543",
		"CF_INSTANCE_CERT=" + cert, "CF_INSTANCE_KEY=" + key, "ROUTER_ADDRESS=" + w.router.Addr(), "ROUTER_CA_FILES=" + roots,
		"STORE_URL=sqlite://" + filepath.Join(w.dir, "state.db"),
	}
	w.serve()
	return w
}

// serve makes the store as a gateway does, and answers probes as it does.
func (w *world) serve() {
	s, err := store.Open(w.Context(), store.Config{URL: "sqlite://" + filepath.Join(w.dir, "state.db")})
	require.NoError(w, err)
	key, err := s.Key(w.Context(), "self-test")
	require.NoError(w, err)
	require.NoError(w, s.Close())
	prober, err := probe.New(probe.Config{Key: key, Router: leg3.Config{}, Format: func(string) identity.Format { return identity.Raw }, Now: time.Now})
	require.NoError(w, err)
	gateway := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if answer := prober.Answer("", r, &url.URL{Scheme: "https", Host: r.Host, Path: r.URL.Path, RawQuery: r.URL.RawQuery}); answer != nil {
			answer.ServeHTTP(rw, r)
			return
		}
		if r.URL.Path == "/healthz" {
			_, _ = rw.Write([]byte("ok\n"))
			return
		}
		http.NotFound(rw, r)
	}))
	w.Cleanup(gateway.Close)
	require.NoError(w, w.router.Register(playground.GatewayHost, gateway.URL))
}

// outcome is what the command wrote and how it ended.
type outcome struct {
	out string
	err error
}

func run(t *testing.T, environ doctor.Environ, args ...string) outcome {
	t.Helper()
	var out bytes.Buffer
	var line struct {
		Doctor doctor.Command `cmd:""`
	}
	parser, err := kong.New(&line, kong.Writers(&out, &out), kong.BindFor(t.Context()), kong.Bind(environ))
	require.NoError(t, err)
	command, err := parser.Parse(append([]string{"doctor"}, args...))
	require.NoError(t, err)
	err = command.Run()
	return outcome{out.String(), err}
}

// finding is one of --json.
type finding struct{ Item, About, Status, Found, Fix string }

// findings are those of an environment, by item and what it is about.
func findings(t *testing.T, environ doctor.Environ, args ...string) map[string]finding {
	t.Helper()
	o := run(t, environ, append(args, "--json")...)
	var report struct{ Findings []finding }
	require.NoError(t, json.Unmarshal([]byte(o.out), &report), o.out)
	all := map[string]finding{}
	for _, f := range report.Findings {
		all[strings.TrimSpace(f.Item+" "+f.About)] = f
	}
	return all
}

// through is the only place of a world.
func (w *world) through(item string) string {
	return item + " " + playground.Domain + " through " + w.router.Addr()
}

func TestARouterThatPassesOnForgedCertificatesFails(t *testing.T) {
	for mode, status := range map[router.ForwardedClientCert]string{router.SanitizeSet: "ok", router.Forward: "fail", router.AlwaysForward: "fail"} {
		w := newWorld(t, mode)
		found := findings(t, w.environ)
		f := found[w.through("sanitising")]
		assert.Equal(t, status, f.Status, "%s: %s", mode, f.Found)
		assert.Equal(t, status == "fail", strings.Contains(f.Fix, "sanitize_set"))
		assert.Equal(t, "ok", found[w.through("router")].Status)
		assert.Equal(t, status == "fail", run(t, w.environ).err != nil)
	}
}

func TestAnExpiredCertificateFails(t *testing.T) {
	w := newWorld(t, router.SanitizeSet, ca.With(func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-time.Hour)
	}))
	found := findings(t, w.environ)
	assert.Equal(t, "fail", found["own certificate"].Status)
	assert.Contains(t, found["own certificate"].Found, "expired")
	assert.NotEqual(t, "ok", found[w.through("sanitising")].Status)
}

func TestWhereThereIsNoStateItIsSaidSo(t *testing.T) {
	w := newWorld(t, router.SanitizeSet)
	nowhere := append(w.environ, "STORE_URL=sqlite://"+filepath.Join(w.dir, "nowhere.db"))
	found := findings(t, nowhere)
	for _, item := range []string{"store", "gateway URL", "reconcile", w.through("sanitising")} {
		assert.Equal(t, "skipped", found[item].Status, item)
		assert.Equal(t, item == "store", strings.Contains(found[item].Found, "no such file"), "%s: said once", item)
	}
	assert.NoFileExists(t, filepath.Join(w.dir, "nowhere.db"))
	assert.NoError(t, run(t, nowhere).err)
}

func TestSQLiteOnCloudFoundryIsAWarning(t *testing.T) {
	w := newWorld(t, router.SanitizeSet)
	on := append(w.environ, `VCAP_APPLICATION={"application_id":"`+playground.Authz.Identity().App+`","application_uris":["`+playground.GatewayHost+`"]}`, "ALLOW_EPHEMERAL_STATE=true")
	found := findings(t, on)
	assert.Equal(t, "warn", found["store server"].Status)
	assert.Equal(t, "ok", found["store schema"].Status)
	require.NoError(t, run(t, on).err)
	require.Error(t, run(t, on, "--strict").err)
}

// Every secret is marked, and everything that can fail fails.
func TestNoSecretIsWritten(t *testing.T) {
	w := newWorld(t, router.AlwaysForward)
	bad := filepath.Join(w.dir, "bad.tar.gz")
	require.NoError(t, os.WriteFile(bad, []byte("MARKED is no archive"), 0o600))
	key, err := os.ReadFile(filepath.Join(w.dir, ca.KeyFile))
	require.NoError(t, err)
	cert, err := os.ReadFile(filepath.Join(w.dir, ca.CertificateFile))
	require.NoError(t, err)
	environ := append(w.environ,
		"BROKER_PASSWORD=MARKED-broker-password", "BROKER_PASSWORD_PREVIOUS=MARKED-previous-password", "READ_USERNAME=r", "READ_PASSWORD=MARKED-reader",
		"CACHE_MAC_KEY=MARKED-cache-mac-key-1234", "STORE_URL=postgres://u:MARKED%2Fdb%40pw@127.0.0.1:1/state", "REDIS_URL=redis://u:MARKED%2Fredis@127.0.0.1:1",
		"POLICY_BUNDLE=https://127.0.0.1:1/MARKED-path/b.tar.gz?sig=MARKED-query", "POLICY_BUNDLE_TOKEN=MARKED-token", "POLICY_CANDIDATE="+bad,
		"CF_INSTANCE_CERT="+string(cert), "CF_INSTANCE_KEY="+string(key),
	)
	for _, args := range [][]string{nil, {"--json"}, {"--reconcile", "--strict"}} {
		o := run(t, environ, args...)
		require.Error(t, o.err)
		said := strings.ReplaceAll(o.out+o.err.Error(), "MARKED-path", "")
		assert.NotContains(t, said, "MARKED")
		assert.NotContains(t, said, "PRIVATE KEY")
		assert.NotContains(t, said, string(key[40:80]))
		assert.Contains(t, said, "POLICY_CANDIDATE")
	}
}

// A server that is not what it should be says again what it was told.
func TestAPasswordThatAServerSaysAgainIsNotWritten(t *testing.T) {
	w := newWorld(t, router.SanitizeSet)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				heard := make([]byte, 1<<10)
				for {
					n, err := conn.Read(heard)
					if err != nil {
						return
					}
					_, _ = conn.Write([]byte("-ERR " + strings.Join(strings.Fields(string(heard[:n])), " ") + "\r\n"))
				}
			}()
		}
	}()
	o := run(t, append(w.environ, "REDIS_URL=redis://u:MARKED%2Fredis@"+listener.Addr().String()))
	require.Error(t, o.err)
	assert.Regexp(t, `fail +redis .*\(hidden\)`, o.out)
	assert.NotContains(t, o.out, "MARKED")
}

// What is right and proves less wants a person.
func TestSettingsThatWeakenAreWarnings(t *testing.T) {
	w := newWorld(t, router.SanitizeSet)
	assert.Equal(t, "ok", findings(t, w.environ)["settings"].Status)
	for _, one := range []string{"XFCC_FORMAT=envoy", "XFCC_FORMAT=*.iso.identity=envoy,raw", "ALLOW_WILDCARD_ROUTES=true"} {
		name, _, _ := strings.Cut(one, "=")
		found := findings(t, append(w.environ, one))
		assert.Equal(t, "warn", found["settings "+name].Status, one)
		assert.NotEmpty(t, found["settings "+name].Fix)
		assert.NotContains(t, found, "settings", one)
	}
}

// A certificate of another app would make that app the one that the gateway takes
// for itself.
func TestTheCertificateIsTheAppsOwn(t *testing.T) {
	w := newWorld(t, router.SanitizeSet)
	for app, status := range map[string]string{playground.Authz.Identity().App: "ok", playground.Frontend.Identity().App: "fail"} {
		found := findings(t, append(w.environ, `VCAP_APPLICATION={"application_id":"`+app+`"}`, "ALLOW_EPHEMERAL_STATE=true"))["own certificate"]
		assert.Equal(t, status, found.Status, found.Found)
	}
}

// A database that is away is said once.
func TestAnErrorOfTheDatabaseIsSaidOnce(t *testing.T) {
	w := newWorld(t, router.SanitizeSet)
	o := run(t, append(w.environ, "STORE_URL=postgres://u:MARKED@127.0.0.1:1/state?connect_timeout=1"))
	assert.Equal(t, 1, strings.Count(o.out, "failed to connect"), o.out)
}

func TestSettingsThatAreWrongAreTheOnlyItem(t *testing.T) {
	found := findings(t, doctor.Environ{"BROKER_PASSWORD=short", "PORT=x"})
	for _, name := range []string{"BROKER_PASSWORD", "PORT", "GATEWAY_URL"} {
		assert.Equal(t, "fail", found["settings "+name].Status, name)
	}
	assert.NotContains(t, found, "store")
	assert.Contains(t, found["settings BROKER_PASSWORD"].Fix, "openssl rand")
	assert.Equal(t, `"x"`, found["settings PORT"].Found)
	assert.Contains(t, found["settings PORT"].Fix, "expected a number between 1 and 65535")
	assert.Contains(t, found["settings GATEWAY_URL"].Fix, "under which gorouter reaches this gateway")
}

package acceptance_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground"
	"github.com/mtls-authz/mtls-authz/playground/ca"
	"github.com/mtls-authz/mtls-authz/playground/router"
)

// clinic is a foundation as safe as one can be, and the environment that its
// gateway runs in.
type clinic struct {
	*playground.Foundation
	environ []string
	secrets []string
	bases   *postgres
}

// Secrets of the clinic, none of which doctor may show.
const (
	markedReader = "Xk92-MARKED-reader-vu31"
	markedRedis  = "Qz71-MARKED-redis-pw83"
	markedMACKey = "Jw55-MARKED-mac-key-tb20"
)

func newClinic(t *testing.T) *clinic {
	t.Helper()
	dir := t.TempDir()
	server, err := sharedPostgres()
	require.NoError(t, err)
	database, err := server.newDatabase()
	require.NoError(t, err)
	redis := startRedis(t)
	for name, value := range map[string]string{"maxmemory": "64mb", "maxmemory-policy": "allkeys-lru", "requirepass": markedRedis} {
		require.NoError(t, redis.ConfigSet(t.Context(), name, value).Err())
	}
	require.NoError(t, writeFiles(filepath.Join(dir, "bundle"), bundle))
	path := filepath.Join(dir, "mtls-authz.sh")
	script := fmt.Sprintf("#!/bin/sh\nenv -0 >'%s/environ'\nexec '%s' \"$@\"\n", dir, binary)
	require.NoError(t, os.WriteFile(path, []byte(script), 0o700))
	c := &clinic{bases: server}
	c.Foundation, err = playground.Start(t.Context(), playground.Config{
		Executable: path, Dir: dir,
		Environment: []string{
			"STORE_URL=" + server.url(database), fmt.Sprintf("REDIS_URL=redis://:%s@127.0.0.1:%d", markedRedis, redis.port), "CACHE_MAC_KEY=" + markedMACKey,
			"READ_USERNAME=monitor", "READ_PASSWORD=" + markedReader, "POLICY_TIMEOUT=10s",
			"POLICY_BUNDLE=" + filepath.Join(dir, "bundle"), "POLICY_CANDIDATE=" + filepath.Join(dir, "bundle"),
		},
		Router: func(trust playground.Trust) (playground.Router, error) {
			return playground.NewRouter(trust, router.Config{StrictSignatureValidation: true})
		},
	})
	t.Cleanup(func() { require.NoError(t, c.Stop()) })
	require.NoError(t, err)
	c.protect(t)
	c.secrets = []string{c.Controller.Password, databasePassword, markedReader, markedRedis, markedMACKey}
	environ, err := os.ReadFile(filepath.Join(dir, "environ"))
	require.NoError(t, err)
	c.environ = strings.Split(strings.TrimSuffix(string(environ), "\x00"), "\x00")
	for _, entry := range c.environ {
		if port, ok := strings.CutPrefix(entry, "PORT="); ok {
			c.environ = append(c.environ, `CF_INSTANCE_PORTS=[{"internal":`+port+`,"external_tls_proxy":61001,"internal_tls_proxy":61443}]`)
		}
	}
	return c
}

// protect binds a route of an app.
func (c *clinic) protect(t *testing.T) {
	const route = "backend.apps.identity"
	require.NoError(t, c.Router.Register(route, newApp(t, nil).url))
	service, err := c.CreateService(t.Context(), "my-authz", "org", playground.Backend, names.Replace(onlyFrontend))
	require.NoError(t, err)
	_, url, err := c.BindRoute(t.Context(), service, route, "")
	require.NoError(t, err)
	c.secrets = append(c.secrets, url[strings.LastIndex(url, "/")+1:])
	require.NoError(t, until("the gateway", func() error {
		request, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodGet, c.Controller.URL+"/readyz", nil)
		if err != nil {
			return err
		}
		res, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("/readyz answers %d", res.StatusCode)
		}
		return nil
	}))
}

// examine runs doctor with more settings; nothing that it says may be a secret.
func (c *clinic) examine(t *testing.T, more []string, args ...string) ended {
	t.Helper()
	end := execute(t, append(append([]string{}, c.environ...), more...), append([]string{"doctor"}, args...)...)
	if found := leak(end.stdout+end.stderr, c.secrets); found != "" {
		t.Errorf("the secret %q is in what doctor says:\n%s%s", found, end.stdout, end.stderr)
	}
	return end
}

// report is --json.
type report struct {
	Counts   map[string]int
	Findings []struct{ Item, About, Status, Found, Fix string }
}

func reportOf(t *testing.T, end ended) (r report) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(end.stdout), &r), end.stdout+end.stderr)
	return r
}

// findings are the statuses by "item" or "item about".
func findings(t *testing.T, end ended) map[string]string {
	t.Helper()
	r := reportOf(t, end)
	found, total := map[string]string{}, 0
	for _, f := range r.Findings {
		found[strings.TrimSpace(f.Item+" "+f.About)] = f.Status
		assert.True(t, f.Fix != "" || f.Status == "ok" || f.Status == "skipped", "%s: no fix", f.Item)
	}
	for _, n := range r.Counts {
		total += n
	}
	assert.Equal(t, len(r.Findings), total)
	return found
}

func TestDoctor(t *testing.T) {
	t.Parallel()
	needsStandIn(t, "it must refuse bad signatures on routes that are not bound")
	c := newClinic(t)
	quick := []string{"POLICY_BUNDLE=", "POLICY_CANDIDATE="}

	t.Run("finds nothing wrong with a safe foundation", func(t *testing.T) {
		end := c.examine(t, nil, "--strict", "--json")
		assert.Equal(t, 0, end.code, end.stdout+end.stderr)
		assert.Empty(t, end.stderr)
		var skipped []string
		for _, f := range reportOf(t, end).Findings {
			if f.Status != "ok" {
				assert.Equal(t, "skipped", f.Status, f.Item)
				skipped = append(skipped, f.Item)
			}
		}
		assert.ElementsMatch(t, []string{"internal lookup", "collector", "Cloud Controller", "certificates arrive", "shared domains", "reconcile"}, skipped)
	})

	t.Run("has the items of the guide, in its order", func(t *testing.T) {
		document, err := os.ReadFile("../docs/doctor.md")
		require.NoError(t, err)
		_, table, _ := strings.Cut(string(document), "## Items")
		table, _, _ = strings.Cut(table, "###")
		var described, reported []string
		for _, row := range regexp.MustCompile("(?m)^\\| (`.+?) \\|").FindAllStringSubmatch(table, -1) {
			described = append(described, strings.Split(strings.ReplaceAll(row[1], "`", ""), ", ")...)
		}
		for _, f := range reportOf(t, c.examine(t, nil, "--json")).Findings {
			reported = append(reported, f.Item)
		}
		assert.Equal(t, described, slices.Compact(reported))
	})

	t.Run("writes a table for people", func(t *testing.T) {
		end := c.examine(t, nil)
		assert.Equal(t, 0, end.code, end.stdout)
		for _, line := range []string{
			`STATUS +ITEM +FOUND`, `ok +own certificate +until .*, verified as app ` + playground.Authz.Identity().App, `ok +sanitising +apps.identity through .*: forged certificates are stripped`,
			`ok +signature strictness +`, `ok +store +server: PostgreSQL 1\d`, `ok +redis +eviction: maxmemory-policy allkeys-lru`, `ok +candidate +POLICY_CANDIDATE: loads`,
			`ok +gateway URL +https://mtls-authz.apps.identity: 1 binding`, `\d+ ok, 0 warn, 0 fail, 6 skipped`,
		} {
			assert.Regexp(t, `(?m)^`+line, continued.ReplaceAllString(end.stdout, " "))
		}
	})

	t.Run("ends with status 1 where something is wrong", func(t *testing.T) {
		other, err := ca.NewRoot("another CA")
		require.NoError(t, err)
		file := filepath.Join(t.TempDir(), "other.pem")
		require.NoError(t, os.WriteFile(file, other.PEM(), 0o600))
		bad := filepath.Join(t.TempDir(), "bad")
		require.NoError(t, writeFiles(bad, map[string]string{"bad.rego": "package mtls.authz\nallow if true"}))
		port := regexp.MustCompile(`"internal":(\d+)`).FindStringSubmatch(strings.Join(c.environ, " "))[1]
		router := "apps.identity through " + c.Router.Addr()
		for _, wrong := range []struct{ env, fail []string }{
			{
				[]string{
					"BROKER_PASSWORD=mtls-authz-password", "CALLER_CA_FILES=" + file, "POLICY_BUNDLE=" + bad, "POLICY_CANDIDATE=" + bad,
					`CF_INSTANCE_PORTS=[{"internal":` + port + `,"external":61002}]`, "REDIS_URL=redis://:" + markedRedis + "@127.0.0.1:1",
				},
				[]string{
					"credentials BROKER_PASSWORD", "own certificate", "bundle POLICY_BUNDLE", "candidate POLICY_CANDIDATE", "route integrity port " + port,
					"redis server", "security group redis 127.0.0.1:1",
				},
			},
			{
				[]string{
					"READ_PASSWORD=" + c.Controller.Password, "ROUTER_CA_FILES=" + file, strings.Replace(valueOf(c.environ, "REDIS_URL"), markedRedis, "wrong-"+markedRedis, 1),
					"STORE_URL=postgres://gateway:" + databasePassword + "@127.0.0.1:1/state?sslmode=disable", "POLICY_BUNDLE=", "POLICY_CANDIDATE=",
				},
				[]string{"credentials READ_PASSWORD", "router " + router, "redis server", "store", "security group store 127.0.0.1:1"},
			},
		} {
			end := c.examine(t, wrong.env, "--json")
			assert.Equal(t, 1, end.code)
			assert.Contains(t, end.stderr, "not safe")
			found := findings(t, end)
			for item, status := range found {
				assert.Equal(t, slices.Contains(wrong.fail, item), status == "fail", "%s: %s", item, status)
			}
			for _, item := range wrong.fail {
				assert.Contains(t, found, item)
			}
		}
	})

	t.Run("warns of a Redis that refuses what is new", func(t *testing.T) {
		redis := startRedis(t)
		require.NoError(t, redis.ConfigSet(t.Context(), "maxmemory", "64mb").Err())
		require.NoError(t, redis.ConfigSet(t.Context(), "maxmemory-policy", "noeviction").Err())
		end := c.examine(t, append(quick, "REDIS_URL="+redis.url()), "--json")
		assert.Equal(t, "warn", findings(t, end)["redis eviction"], end.stdout)
	})

	t.Run("makes nothing in an empty database", func(t *testing.T) {
		name, err := c.bases.newDatabase()
		require.NoError(t, err)
		found := findings(t, c.examine(t, append(quick, "STORE_URL="+c.bases.url(name)), "--json"))
		assert.Equal(t, "warn", found["store schema"])
		assert.Equal(t, "skipped", found["gateway URL"])
		conn, err := c.bases.connect(name)
		require.NoError(t, err)
		defer conn.Close(context.Background())
		var tables int
		require.NoError(t, conn.QueryRow(t.Context(), `SELECT COUNT(*) FROM pg_tables WHERE schemaname = 'public'`).Scan(&tables))
		assert.Zero(t, tables)
	})

	t.Run("counts warnings with --strict alone", func(t *testing.T) {
		former := append(quick, "GATEWAY_URL=https://new-authz.apps.identity", "BROKER_PASSWORD_PREVIOUS=a3f0c25be871d94466aa", "ROUTER_TRUST=assume")
		found := findings(t, c.examine(t, former, "--json"))
		assert.Equal(t, "warn", found["gateway URL https://mtls-authz.apps.identity"])
		assert.Equal(t, "warn", found["credentials BROKER_PASSWORD_PREVIOUS"])
		warned := append(quick, "BROKER_PASSWORD_PREVIOUS=a3f0c25be871d94466aa")
		assert.Equal(t, 0, c.examine(t, warned).code)
		end := c.examine(t, warned, "--strict")
		assert.Equal(t, 1, end.code)
		assert.Contains(t, end.stderr, "1 warn")
	})
}

// continued begins a line of the table that goes on with the one before.
var continued = regexp.MustCompile(`\n {20,}`)

// valueOf is a setting of an environment, with its name.
func valueOf(environ []string, name string) string {
	for _, entry := range environ {
		if strings.HasPrefix(entry, name+"=") {
			return entry
		}
	}
	return ""
}

func TestDoctorNamesEverySettingThatIsWrong(t *testing.T) {
	t.Parallel()
	end := execute(t, []string{"BROKER_PASSWORD=too-short", "STORE_URL=mysql://u:hidden-in-url@h/db"}, "doctor", "--json")
	assert.Equal(t, 1, end.code)
	found := findings(t, end)
	for _, name := range []string{"GATEWAY_URL", "BROKER_USERNAME", "BROKER_PASSWORD", "STORE_URL", "CALLER_CA_FILES"} {
		assert.Equal(t, "fail", found["settings "+name], name)
	}
	assert.NotContains(t, end.stdout+end.stderr, "hidden-in-url")
}

// What the operator names is what is dialled: a proxy of the environment would see
// who talks to whom, and no setting would say so.
func TestNoProxyOfTheEnvironmentIsUsed(t *testing.T) {
	t.Parallel()
	var proxied, dialled atomic.Int64
	listen := func(address string, count *atomic.Int64) string {
		listener, err := net.Listen("tcp4", address)
		require.NoError(t, err)
		t.Cleanup(func() { _ = listener.Close() })
		go func() {
			for conn, err := listener.Accept(); err == nil; conn, err = listener.Accept() {
				count.Add(1)
				_ = conn.Close()
			}
		}()
		return listener.Addr().String()
	}
	proxy := "http://" + listen("127.0.0.1:0", &proxied)
	// Not a loopback address, for which no proxy is ever used.
	server := "https://" + listen("0.0.0.0:0", &dialled)
	execute(t, complete(t, "HTTPS_PROXY="+proxy, "HTTP_PROXY="+proxy, "ALL_PROXY="+proxy,
		"POLICY_BUNDLE="+server+"/bundle.tar.gz", "CF_API_URL="+server, "CF_CLIENT_ID=doctor", "CF_CLIENT_SECRET=none", "OTEL_EXPORTER_OTLP_ENDPOINT="+server,
		"ROUTER_ADDRESS="+strings.TrimPrefix(server, "https://"),
	), "doctor", "--reconcile")
	assert.Positive(t, dialled.Load())
	assert.Zero(t, proxied.Load())
}

// A person who watches sees that something happens, in lines no wider than the
// terminal; a program that reads gets the report alone.
func TestDoctorOnATerminal(t *testing.T) {
	t.Parallel()
	environ := complete(t, "PATH="+os.Getenv("PATH"), "TERM=xterm")
	plain := execute(t, environ, "doctor", "--json")
	assert.True(t, json.Valid([]byte(plain.stdout)))
	assert.NotContains(t, plain.stderr, "looking at")

	command := exec.CommandContext(t.Context(), "script", "-qec", "stty cols 80; '"+binary+"' doctor", "/dev/null")
	command.Dir, command.Env = t.TempDir(), environ
	shown, err := command.CombinedOutput()
	var failed *exec.ExitError // an item fails
	require.ErrorAs(t, err, &failed, string(shown))
	assert.Regexp(t, `looking at \d+ items \.\.\.`, string(shown))
	assert.Regexp(t, `\d of \d+: [a-z]+`, string(shown))
	_, table, _ := strings.Cut(string(shown), "STATUS")
	for line := range strings.Lines(table) {
		if line = strings.TrimRight(line, "\r\n"); strings.Contains(strings.TrimSpace(line), " ") && !strings.Contains(line, `[{"`) && !strings.Contains(line, "/") {
			assert.LessOrEqual(t, len([]rune(line)), 80, line)
		}
	}
}

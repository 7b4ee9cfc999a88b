package backing_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/doctor"
	"github.com/mtls-authz/mtls-authz/doctor/backing"
	"github.com/mtls-authz/mtls-authz/doctor/state"
)

// look returns what a check says, by what it is about: "status found".
func look(t *testing.T, cfg backing.Config, item string) map[string]string {
	t.Helper()
	said := map[string]string{}
	for _, c := range backing.Checks(cfg) {
		if c.Item != item {
			continue
		}
		for _, f := range doctor.Run(t.Context(), []doctor.Check{c}, nil, nil).Findings {
			said[f.About] = f.Status.String() + " " + f.Found
			assert.True(t, f.Fix != "" || f.Status == doctor.OK || f.Status == doctor.Skipped, "%v has no fix", f)
		}
	}
	require.NotEmpty(t, said)
	return said
}

// healthy is a database as it should be.
var healthy = state.Server{Kind: "PostgreSQL", Version: "15.4", Major: 15, TLS: true, Latency: time.Millisecond, Schema: 4}

// answers is the store of a server.
func answers(edit func(*state.Server)) backing.Config {
	s := healthy
	edit(&s)
	return backing.Config{
		Store: func(context.Context) (state.Server, error) { return s, nil }, StoreHost: "db.example.com",
		Newest: func(context.Context) (int64, error) { return 4, nil },
	}
}

func TestTheStore(t *testing.T) {
	for name, c := range map[string]struct {
		edit  func(*state.Server)
		about string
		says  string
	}{
		"well":           {func(*state.Server) {}, "server", `ok PostgreSQL 15.4, a round trip takes 1ms`},
		"standby":        {func(s *state.Server) { s.Standby = true }, "server", `fail .*standby`},
		"old":            {func(s *state.Server) { s.Major = 12 }, "server", `warn .*maintain`},
		"plain":          {func(s *state.Server) { s.TLS = false }, "server", `warn .*without TLS`},
		"slow":           {func(s *state.Server) { s.Latency = time.Second }, "server", `warn .*slow`},
		"schema":         {func(*state.Server) {}, "schema", `ok version 4, as this release`},
		"pending":        {func(s *state.Server) { s.Schema = 2 }, "schema", `warn version 2; 2 migrations to come`},
		"newer":          {func(s *state.Server) { s.Schema = 9 }, "schema", `ok version 9, of a newer release`},
		"empty":          {func(s *state.Server) { s.Schema = 0 }, "schema", `warn no gateway`},
		"clock":          {func(*state.Server) {}, "clock", `ok agrees`},
		"clock is ahead": {func(s *state.Server) { s.Ahead = time.Minute }, "clock", `fail differs .* 1m0s`},
		"clock is late":  {func(s *state.Server) { s.Ahead = -10 * time.Second }, "clock", `warn differs .* 10s`},
	} {
		assert.Regexp(t, "^"+c.says, look(t, answers(c.edit), "store")[c.about], name)
	}
	local := answers(func(s *state.Server) { s.TLS = false })
	local.StoreHost = "127.0.0.1"
	assert.Regexp(t, "^ok", look(t, local, "store")["server"])
}

func TestAStoreThatCannotBeAsked(t *testing.T) {
	fails := func(err error) backing.Config {
		return backing.Config{Store: func(context.Context) (state.Server, error) { return state.Server{}, err }}
	}
	assert.Regexp(t, "^fail refused", look(t, fails(errors.New("refused")), "store")[""])
	assert.Regexp(t, "^skipped SQLite", look(t, fails(fmt.Errorf("%q: %w", "data/x.db", state.ErrNone)), "store")[""])
	unknown := answers(func(*state.Server) {})
	unknown.Newest = func(context.Context) (int64, error) { return 0, errors.New("read-only") }
	assert.Regexp(t, "^skipped version 4; .*read-only", look(t, unknown, "store")["schema"])
	unknown.Newest = nil
	assert.Regexp(t, "^ok version 4$", look(t, unknown, "store")["schema"])
}

// What is wrong with a file is no network's fault, and a server that ends what is not
// TLS wants TLS.
func TestTheFixFitsTheServer(t *testing.T) {
	fix := func(cfg backing.Config, item string) string {
		for _, c := range backing.Checks(cfg) {
			if c.Item == item {
				return doctor.Run(t.Context(), []doctor.Check{c}, nil, nil).Findings[0].Fix
			}
		}
		return ""
	}
	damaged := backing.Config{Store: func(context.Context) (state.Server, error) {
		return state.Server{}, errors.New("file is not a database")
	}}
	assert.NotContains(t, fix(damaged, "store"), "security group")
	assert.Contains(t, fix(damaged, "store"), "DATA_DIR")
	damaged.StoreHost = "db.example.com"
	assert.Contains(t, fix(damaged, "store"), "security group")

	ends := func(r *backing.Redis) { r.Ping = func(context.Context) error { return fmt.Errorf("read: %w", io.EOF) } }
	assert.Contains(t, fix(redis(func(r *backing.Redis) { ends(r); r.TLS = false }, ""), "redis"), "rediss://")
	assert.NotContains(t, fix(redis(ends, ""), "redis"), "rediss://")
}

func TestSQLiteOnCloudFoundryIsLost(t *testing.T) {
	cfg := answers(func(s *state.Server) { *s = state.Server{Kind: "SQLite", Version: "3.50", Schema: 4} })
	assert.Regexp(t, "^ok SQLite", look(t, cfg, "store")["server"])
	cfg.OnCF = true
	assert.Regexp(t, "^warn .*lost with every restart", look(t, cfg, "store")["server"])
	assert.NotContains(t, look(t, cfg, "store"), "clock", "it is this machine's")
}

// redis is a server that says so.
func redis(edit func(*backing.Redis), info string) backing.Config {
	r := &backing.Redis{
		Host: "redis.example.com", Mode: "standalone", TLS: true, Ping: func(context.Context) error { return nil },
		Info: func(_ context.Context, sections ...string) (string, error) { return info, nil },
	}
	edit(r)
	return backing.Config{Redis: r}
}

const goodInfo = "# Server\r\nredis_version:7.0.15\r\n# Memory\r\nmaxmemory:67108864\r\nmaxmemory_policy:allkeys-lru\r\n"

func TestRedis(t *testing.T) {
	same := func(*backing.Redis) {}
	said := look(t, redis(same, goodInfo), "redis")
	assert.Regexp(t, `^ok Redis 7.0.15, standalone, a round trip takes`, said["server"])
	assert.Equal(t, "ok maxmemory-policy allkeys-lru, maxmemory 67108864", said["eviction"])
	assert.Regexp(t, "^ok kept in the store", said["key"])

	assert.Regexp(t, "^ok CACHE_MAC_KEY is set: every instance", look(t, redis(func(r *backing.Redis) { r.OwnKey = true }, goodInfo), "redis")["key"])
	assert.Regexp(t, "^warn .*without TLS", look(t, redis(func(r *backing.Redis) { r.TLS = false }, goodInfo), "redis")["server"])
	assert.Regexp(t, "^ok", look(t, redis(func(r *backing.Redis) { r.TLS, r.Host = false, "127.0.0.1" }, goodInfo), "redis")["server"])
	assert.Regexp(t, "^warn .*nothing new is remembered", look(t, redis(same, "maxmemory:1000\nmaxmemory_policy:noeviction"), "redis")["eviction"])
	assert.Regexp(t, "^warn .*nothing bounds", look(t, redis(same, "maxmemory:0\nmaxmemory_policy:noeviction"), "redis")["eviction"])
	assert.Regexp(t, "^skipped", look(t, redis(same, ""), "redis")["eviction"])

	dead := redis(func(r *backing.Redis) { r.Ping = func(context.Context) error { return errors.New("refused") } }, "")
	assert.Regexp(t, "^fail it does not answer: refused; the gateway serves without it", look(t, dead, "redis")["server"])
	narrow := redis(func(r *backing.Redis) {
		r.Info = func(context.Context, ...string) (string, error) { return "", errors.New("NOPERM") }
	}, "")
	said = look(t, narrow, "redis")
	assert.Regexp(t, "^ok", said["server"])
	assert.Regexp(t, "^skipped .*NOPERM", said["eviction"])
	assert.Regexp(t, "^skipped REDIS_URL is not set", look(t, backing.Config{}, "redis")[""])
}

func TestBundles(t *testing.T) {
	good := func(context.Context) (string, error) { return "r1", nil }
	bad := func(context.Context) (string, error) { return "", errors.New("bad.rego:1: no") }
	assert.Regexp(t, "^ok loads and passes the gate; policy revision r1", look(t, backing.Config{Bundle: good}, "bundle")["POLICY_BUNDLE"])
	assert.Regexp(t, "^fail bad.rego:1", look(t, backing.Config{Bundle: bad, Candidate: good}, "bundle")["POLICY_BUNDLE"])
	assert.Regexp(t, "^fail bad.rego:1", look(t, backing.Config{Bundle: good, Candidate: bad}, "candidate")["POLICY_CANDIDATE"])
	assert.Regexp(t, "^skipped not set", look(t, backing.Config{}, "bundle")["POLICY_BUNDLE"])
}

func TestTheCollector(t *testing.T) {
	answers := func(status int, err error) backing.Config {
		return backing.Config{Collector: func(context.Context) (int, error) { return status, err }}
	}
	assert.Regexp(t, "^skipped OTEL_EXPORTER_OTLP_ENDPOINT is not set", look(t, backing.Config{}, "collector")[""])
	for status, want := range map[int]string{200: "^ok takes spans", 401: "^fail it answers 401", 403: "^fail", 302: "^fail", 404: "^fail it answers 404", 405: "^fail", 503: "^fail"} {
		assert.Regexp(t, want, look(t, answers(status, nil), "collector")[""])
	}
	assert.Regexp(t, "^fail .*refused; spans are dropped", look(t, answers(0, errors.New("refused")), "collector")[""])
}

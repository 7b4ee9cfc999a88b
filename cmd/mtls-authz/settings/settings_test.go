package settings_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/settings"
	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/playground"
	"github.com/mtls-authz/mtls-authz/playground/ca"
)

const password = "a-password-of-enough-length"

// minimal is the least that serve starts with off Cloud Foundry.
func minimal(t *testing.T, more map[string]string) []string {
	root, err := ca.NewRoot("identity")
	require.NoError(t, err)
	vars := map[string]string{
		"GATEWAY_URL": "https://authz.apps.identity", "BROKER_USERNAME": "cc", "BROKER_PASSWORD": password, "CALLER_CA_FILES": string(root.PEM()),
	}
	maps.Copy(vars, more)
	return environ(vars)
}

func environ(vars map[string]string) []string {
	var list []string
	for name, value := range vars {
		list = append(list, name+"="+value)
	}
	return list
}

// onCF is what Cloud Foundry gives to the gateway's app.
func onCF(t *testing.T, services any, more map[string]string) []string {
	root, err := ca.NewRoot("identity")
	require.NoError(t, err)
	own, err := root.Instance(playground.Authz.Identity())
	require.NoError(t, err)
	cert, key, err := own.WriteFiles(t.TempDir())
	require.NoError(t, err)
	raw, err := json.Marshal(services)
	require.NoError(t, err)
	vars := map[string]string{
		"VCAP_APPLICATION":  fmt.Sprintf(`{"application_id":%q,"application_uris":["authz.apps.identity","authz.apps.internal"]}`, playground.Authz.Identity().App),
		"VCAP_SERVICES":     string(raw),
		"CF_INSTANCE_INDEX": "0", "CF_INSTANCE_CERT": cert, "CF_INSTANCE_KEY": key,
		"BROKER_USERNAME": "cc", "BROKER_PASSWORD": password, "ALLOW_EPHEMERAL_STATE": "true",
	}
	maps.Copy(vars, more)
	return environ(vars)
}

func TestDefaults(t *testing.T) {
	s, err := settings.Load(minimal(t, nil))
	require.NoError(t, err)
	assert.Equal(t, 8080, s.Port)
	assert.Equal(t, "sqlite://data/mtls-authz.db", s.StoreURL)
	assert.Equal(t, "authz.apps.identity:443", s.RouterAddress.For("backend.apps.identity"))
	assert.Equal(t, identity.Raw, s.XFCCFormat.For("x"))
	assert.Equal(t, []any{4096, 2048, 55 * time.Second, time.Hour, 8 * time.Second}, []any{s.MaxInFlight, s.MaxInFlightPerRoute, s.UpstreamHeaderTimeout, s.MaxStream, s.DrainTimeout})
	assert.Equal(t, []any{100_000, time.Minute, 5 * time.Second, 50 * time.Millisecond}, []any{s.CacheEntries, s.CacheTTL, s.CacheDenyTTL, s.PolicyTimeout})
	assert.Equal(t, []any{true, false, false, "local"}, []any{s.ReportAllowed, s.AllowWildcards, s.AssumeRouterTrust, s.FoundationName})
	assert.Equal(t, []string{"authz.apps.identity"}, s.OwnHosts)
}

// A former holder of a name can be out at once.
func TestNoGrace(t *testing.T) {
	s, err := settings.Load(minimal(t, map[string]string{"NAME_GRACE": "0s"}))
	require.NoError(t, err)
	assert.Zero(t, s.NameGrace)
}

func TestEveryMalformedValueIsReportedAtOnceWithItsWayOut(t *testing.T) {
	bad := map[string]string{
		"PORT": "70000", "LISTEN_ADDRESS": "localhost", "GATEWAY_URL": "http://authz/", "BROKER_PASSWORD": "short", "STORE_URL": "mysql://u:store-secret@h/d", "REDIS_URL": "redis-secret",
		"CALLER_CA_FILES": "/nowhere/ca.pem", "XFCC_FORMAT": "xml", "ROUTER_ADDRESS": "router", "ROUTER_CA_FILES": "-----BEGIN CERTIFICATE-----\n", "ROUTER_TRUST": "yes",
		"REPORT_MODE": "off", "ALLOW_WILDCARD_ROUTES": "1", "POLICY_BUNDLE": "http://h/bundle.tar.gz", "POLICY_CANDIDATE": "ftp://h/x", "POLICY_CANDIDATE_SHARE": "NaN", "POLICY_VERIFICATION_KEY_FILE": "/nowhere/key.pem",
		"CACHE_SHARED": "sometimes", "MIN_BODY_RATE": "-1", "POLICY_TIMEOUT": "50", "POLICY_TIME_ZONE": "Mars/Base", "CACHE_ENTRIES": "-1",
		"CACHE_TTL": "0s", "CACHE_MAC_KEY": "short-mac", "MAX_IN_FLIGHT": "many", "LOG_LEVEL": "loud", "READ_USERNAME": "reader", "CF_API_URL": "http://api.example.com", "CF_CLIENT_ID": "gateway", "NAME_GRACE": "-1m", "NAME_INTERVAL": "often", "CF_INSTANCE_CERT": "/nowhere/instance.crt",
	}
	_, err := settings.Load(environ(bad))
	require.Error(t, err)
	text := err.Error()
	for name := range bad {
		assert.Contains(t, text, "\n  "+name, name)
	}
	for _, name := range []string{"BROKER_USERNAME", "READ_USERNAME and READ_PASSWORD", "CF_INSTANCE_CERT and CF_INSTANCE_KEY"} {
		assert.Contains(t, text, name)
	}
	for _, secret := range []string{"store-secret", "redis-secret", "short-mac"} {
		assert.NotContains(t, text, secret)
	}
}

func TestContradictionsAreRefused(t *testing.T) {
	for want, more := range map[string]map[string]string{
		"BROKER_PASSWORD_PREVIOUS": {"BROKER_PASSWORD_PREVIOUS": password},
		"READ_USERNAME":            {"READ_PASSWORD": "x"},
		"CF_CLIENT_ID":             {"CF_API_URL": "https://api.example.com", "CF_CLIENT_SECRET": "x"},
		"CF_API_URL":               {"CF_CLIENT_ID": "x", "CF_CLIENT_SECRET": "x"},
		"MAX_IN_FLIGHT_PER_ROUTE":  {"MAX_IN_FLIGHT": "10", "MAX_IN_FLIGHT_PER_ROUTE": "11"},
	} {
		_, err := settings.Load(minimal(t, more))
		assert.ErrorContains(t, err, want)
	}
}

func TestGatewayURLs(t *testing.T) {
	for value, good := range map[string]bool{
		"https://authz.apps.identity": true, "https://authz.apps.identity:8443": true, "https://127.0.0.1:8443": true,
		"https://authz?": false, "https://authz#": false, "https://au thz": false, "https://-": false,
		"https://authz/": false, "https://authz/path": false, "http://authz": false, "authz": false, "https://": false, "https://u@authz": false, "https://authz?q": false, "https://authz#f": false,
	} {
		_, err := settings.Load(minimal(t, map[string]string{"GATEWAY_URL": value}))
		assert.Equal(t, good, err == nil, "%s: %v", value, err)
	}
}

func TestOnCloudFoundryTheURLAndTheIssuerAreFound(t *testing.T) {
	s, err := settings.Load(onCF(t, map[string]any{}, map[string]string{"DATABASE_URL": "postgres://made-up"}))
	require.NoError(t, err)
	assert.Equal(t, "https://authz.apps.identity", s.GatewayURL)
	assert.Equal(t, playground.Authz.Identity().App, s.OwnApp.String())
	assert.Equal(t, []string{"authz.apps.identity", "authz.apps.identity", "authz.apps.internal"}, s.OwnHosts)
	assert.True(t, s.IgnoredDatabaseURL)
	assert.NotContains(t, s.StoreURL, "made-up")
}

func TestEphemeralStateMustBeWanted(t *testing.T) {
	_, err := settings.Load(onCF(t, map[string]any{}, map[string]string{"ALLOW_EPHEMERAL_STATE": "false"}))
	assert.ErrorContains(t, err, "ALLOW_EPHEMERAL_STATE")
	_, err = settings.Load(onCF(t, map[string]any{}, map[string]string{"CF_INSTANCE_INDEX": "1"}))
	assert.ErrorContains(t, err, "one instance")
}

func TestBoundServicesSupplySettingsAndEnvironmentWins(t *testing.T) {
	services := map[string]any{
		"user-provided": []any{map[string]any{
			"name": "authz-config", "label": "user-provided", "tags": []string{"mtls-authz-config"},
			"credentials": map[string]any{"FOUNDATION_NAME": "from-service", "cache_ttl": "30s", "MAX_IN_FLIGHT": 64, "LOG_LEVEL": "warn"},
		}},
		"p.redis": []any{map[string]any{
			"name": "my-redis", "label": "p.redis", "tags": []string{"redis", "cache"},
			"credentials": map[string]any{"host": "10.0.0.9", "port": 6379, "tls_port": 6380, "password": "redis-secret"},
		}},
	}
	s, err := settings.Load(onCF(t, services, map[string]string{"LOG_LEVEL": "debug"}))
	require.NoError(t, err)
	assert.Equal(t, []any{"from-service", 30 * time.Second, 64, "DEBUG"}, []any{s.FoundationName, s.CacheTTL, s.MaxInFlight, s.LogLevel.String()})
	assert.Equal(t, "rediss://:redis-secret@10.0.0.9:6380", s.RedisURL)

	var out bytes.Buffer
	require.NoError(t, s.Print(&out))
	for _, want := range []string{`FOUNDATION_NAME\s+from-service\s+bound service "authz-config"`, `LOG_LEVEL\s+debug\s+environment`, `PORT\s+8080\s+default`, `BROKER_PASSWORD\s+\(hidden\)\s+environment`, `REDIS_URL\s+rediss://:xxxxx@10.0.0.9:6380\s+bound service "my-redis"`} {
		assert.Regexp(t, want, out.String())
	}
	assert.NotContains(t, out.String(), "redis-secret")
	assert.NotContains(t, out.String(), password)
}

func TestPEMMayStandInTheValue(t *testing.T) {
	root, err := ca.NewRoot("router")
	require.NoError(t, err)
	s, err := settings.Load(minimal(t, map[string]string{"ROUTER_CA_FILES": string(root.PEM())}))
	require.NoError(t, err)
	require.Len(t, s.RouterCAs, 1)
	var out bytes.Buffer
	require.NoError(t, s.Print(&out))
	assert.NotContains(t, out.String(), "BEGIN")
}

func TestDataDirNamesTheDatabase(t *testing.T) {
	dir := t.TempDir()
	s, err := settings.Load(minimal(t, map[string]string{"DATA_DIR": dir}))
	require.NoError(t, err)
	assert.Equal(t, "sqlite://"+filepath.Join(dir, "mtls-authz.db"), s.StoreURL)
}

// A secret is a secret whatever it looks like.
func TestNoSecretIsPrinted(t *testing.T) {
	s, err := settings.Load(minimal(t, map[string]string{
		"BROKER_PASSWORD": "ab://SECRETpassword", "CACHE_MAC_KEY": "x1://SECRETSECRETSECRET", "READ_USERNAME": "r", "READ_PASSWORD": "SECRET",
		"REDIS_URL": "redis://SECRETTOKEN@h:6379", "CF_API_URL": "https://api.example.com", "CF_CLIENT_ID": "reader", "CF_CLIENT_SECRET": "SECRET",
	}))
	require.NoError(t, err)
	var out bytes.Buffer
	require.NoError(t, s.Print(&out))
	assert.NotContains(t, strings.ReplaceAll(out.String(), "CF_CLIENT_SECRET", ""), "SECRET")
	_, err = settings.Load(minimal(t, map[string]string{"GATEWAY_URL": "https://user:SECRET@gw.example.com", "POLICY_BUNDLE": "https://user:SECRET@h/x"}))
	require.Error(t, err)
	assert.NotContains(t, err.Error(), "SECRET")
}

// A wrong URL is one problem, and shown; what may be secret in it is not.
func TestAWrongURLIsShownOnce(t *testing.T) {
	for wrong, shown := range map[string]string{
		"http://gw.example.com/x": `GATEWAY_URL: "http://gw.example.com/x": expected https://host`, "gw.example.com": `GATEWAY_URL: "gw.example.com": expected`,
		"https://gw.example.com/": `GATEWAY_URL: "https://gw.example.com/": expected`, "https://SECRET@gw.example.com": "GATEWAY_URL: expected", "https://gw.example.com?SECRET": "GATEWAY_URL: expected",
		"https://\x7fSECRET": "GATEWAY_URL: expected", "https://bad_host:SECRET": "GATEWAY_URL: expected",
	} {
		_, err := settings.Load(minimal(t, map[string]string{"GATEWAY_URL": wrong}))
		require.ErrorContains(t, err, shown, wrong)
		assert.Equal(t, 1, strings.Count(err.Error(), "GATEWAY_URL"), err)
		assert.NotContains(t, err.Error(), "SECRET")
	}
	_, err := settings.Load(minimal(t, map[string]string{"CF_API_URL": "http://api.example.com"}))
	require.ErrorContains(t, err, `CF_API_URL: "http://api.example.com": expected`)
}

// Spans tell who calls whom, and the headers of an export are secrets.
func TestTracesGoOverTheNetworkEncrypted(t *testing.T) {
	for endpoint, taken := range map[string]bool{
		"https://collector.example.com": true, "http://localhost:4318": true, "http://127.0.0.1:4318": true, "http://127.9.9.9": true, "http://[::1]:4318": true,
		"http://collector.example.com": false, "http://collector.apps.internal:4318": false, "http://10.0.0.1": false, "http://localhost.example.com": false,
		"http://0.0.0.0:4318": false, "http://user:SECRET@10.0.0.1": false, "grpc://localhost:4317": false,
	} {
		_, err := settings.Load(minimal(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}))
		assert.Equal(t, taken, err == nil, endpoint)
		if err != nil {
			assert.Contains(t, err.Error(), "OTEL_EXPORTER_OTLP_ENDPOINT")
			assert.NotContains(t, err.Error(), "SECRET")
		}
	}
}

// A token that nothing is done with would be believed to protect.
func TestATokenIsForAServer(t *testing.T) {
	for _, where := range []string{"", "/bundles/company", "bundle.tar.gz"} {
		_, err := settings.Load(minimal(t, map[string]string{"POLICY_BUNDLE": where, "POLICY_BUNDLE_TOKEN": "SECRET"}))
		require.ErrorContains(t, err, "POLICY_BUNDLE_TOKEN")
		assert.NotContains(t, err.Error(), "SECRET")
	}
	s, err := settings.Load(minimal(t, map[string]string{"POLICY_BUNDLE": "https://bundles.example/company.tar.gz", "POLICY_BUNDLE_TOKEN": "SECRET"}))
	require.NoError(t, err)
	assert.Equal(t, "SECRET", s.PolicyBundleToken)
}

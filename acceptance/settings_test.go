package acceptance_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// printed reads the table of --print-config: name -> value and source.
func printed(t *testing.T, env []string) map[string][2]string {
	t.Helper()
	end := execute(t, env, "serve", "--print-config")
	require.Equal(t, 0, end.code, end.stderr)
	table := map[string][2]string{}
	columns := regexp.MustCompile(`\s{2,}`)
	for line := range strings.SplitSeq(strings.TrimSpace(end.stdout), "\n") {
		fields := columns.Split(strings.TrimRight(line, " "), 3)
		switch len(fields) {
		case 3:
			table[fields[0]] = [2]string{fields[1], fields[2]}
		case 2:
			table[fields[0]] = [2]string{fields[1], ""}
		}
	}
	return table
}

func TestPrintConfigMasksSecretsAndSaysWhereFrom(t *testing.T) {
	t.Parallel()
	key := "-----BEGIN EC PRIVATE KEY-----\nnot shown\n-----END EC PRIVATE KEY-----"
	env := complete(t, "READ_USERNAME=reader", "READ_PASSWORD=readers-own-password", "REDIS_URL=redis://user:in-the-url@redis.example.com:6379",
		"CACHE_MAC_KEY=a-key-for-the-macs-of-the-cache", "CF_INSTANCE_KEY="+key, "CF_INSTANCE_CERT=-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
		"BROKER_PASSWORD_PREVIOUS=the-former-password")
	end := execute(t, env, "serve", "--print-config")
	require.Equal(t, 0, end.code, end.stderr)
	for _, secret := range []string{password, "readers-own-password", "in-the-url", "a-key-for-the-macs", "not shown", "the-former-password"} {
		assert.NotContains(t, end.stdout+end.stderr, secret)
	}
	table := printed(t, env)
	assert.Equal(t, [2]string{"https://mtls-authz.apps.identity", "environment"}, table["GATEWAY_URL"])
	assert.Equal(t, [2]string{"(hidden)", "environment"}, table["BROKER_PASSWORD"])
	assert.Equal(t, [2]string{"redis://user:xxxxx@redis.example.com:6379", "environment"}, table["REDIS_URL"])
	assert.Equal(t, [2]string{"info", "default"}, table["LOG_LEVEL"])
	assert.Equal(t, [2]string{"60s", "default"}, table["CACHE_TTL"])
}

// Every setting of the contract is there.
func TestPrintConfigPrintsEverySetting(t *testing.T) {
	t.Parallel()
	end := execute(t, complete(t), "serve", "--print-config")
	for name := range strings.FieldsSeq(`PORT LISTEN_ADDRESS GATEWAY_URL BROKER_USERNAME BROKER_PASSWORD BROKER_PASSWORD_PREVIOUS BROKER_HOST READ_USERNAME READ_PASSWORD
		STORE_URL DATA_DIR REDIS_URL CALLER_CA_FILES FOUNDATION_NAME XFCC_FORMAT ROUTER_ADDRESS ROUTER_CA_FILES ROUTER_TRUST REPORT_MODE
		ALLOW_WILDCARD_ROUTES CA_FILES POLICY_BUNDLE POLICY_TIMEOUT POLICY_TIME_ZONE CACHE_ENTRIES CACHE_TTL CACHE_DENY_TTL CACHE_MAC_KEY
		MAX_IN_FLIGHT MAX_IN_FLIGHT_PER_ROUTE MAX_URI_BYTES UPSTREAM_HEADER_TIMEOUT MAX_STREAM DRAIN_TIMEOUT LOG_LEVEL`) {
		assert.Regexp(t, `(?m)^`+name+`\s`, end.stdout)
	}
}

const vcapApplication = `VCAP_APPLICATION={"application_id":"d76446a1-f429-4444-8797-be2f78b75b08","application_name":"mtls-authz",` +
	`"application_uris":["from-vcap.apps.identity","mtls-authz.apps.internal"],"cf_api":"https://api.example.com"}`

func TestABoundServiceSuppliesSettingsAndTheEnvironmentWins(t *testing.T) {
	t.Parallel()
	const services = `VCAP_SERVICES={"user-provided":[{"name":"my-config","label":"user-provided","tags":["mtls-authz-config"],"credentials":{
		"BROKER_USERNAME":"from-the-service","BROKER_PASSWORD":"the-services-own-password","log_level":"debug","CACHE_TTL":"30s","ALLOW_EPHEMERAL_STATE":true}},
		{"name":"other","label":"user-provided","tags":["other"],"credentials":{"MAX_STREAM":"1s"}}]}`
	file := filepath.Join(t.TempDir(), "ca.pem")
	w := common(t)
	require.NoError(t, os.WriteFile(file, w.another.PEM(), 0o600))
	table := printed(t, []string{vcapApplication, services, "CACHE_TTL=10s", "CALLER_CA_FILES=" + file, "DATA_DIR=" + t.TempDir()})
	assert.Equal(t, [2]string{"from-the-service", `bound service "my-config"`}, table["BROKER_USERNAME"])
	assert.Equal(t, [2]string{"(hidden)", `bound service "my-config"`}, table["BROKER_PASSWORD"])
	assert.Equal(t, [2]string{"debug", `bound service "my-config"`}, table["LOG_LEVEL"])
	assert.Equal(t, [2]string{"10s", "environment"}, table["CACHE_TTL"])
	assert.Equal(t, [2]string{"1h", "default"}, table["MAX_STREAM"])
	assert.Equal(t, [2]string{"https://from-vcap.apps.identity", "VCAP_APPLICATION"}, table["GATEWAY_URL"])
}

func TestCloudFoundrysDatabaseURLIsIgnoredWithOneLine(t *testing.T) {
	t.Parallel()
	w := start(t, setup{env: []string{"DATABASE_URL=postgres://u:made-up-by-cf@db.example.com/x"}})
	count := 0
	w.await(t, "the line", func() map[string]any {
		count = 0
		for _, line := range w.lines {
			if strings.Contains(line, "DATABASE_URL") {
				count++
			}
			assert.NotContains(t, line, "made-up-by-cf")
		}
		if count == 0 {
			return nil
		}
		return map[string]any{}
	})
	assert.Equal(t, 1, count)
}

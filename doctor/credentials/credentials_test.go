package credentials_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/mtls-authz/mtls-authz/doctor"
	"github.com/mtls-authz/mtls-authz/doctor/credentials"
)

const (
	good  = "8f14e45fceea167a5a36dedd4bea2543"
	other = "c9f0f895fb98ab9159f51fd0297e236d"
)

// look returns the status of each setting, and everything that was said.
func look(t *testing.T, cfg credentials.Config) (map[string]string, string) {
	found, said := map[string]string{}, ""
	for _, f := range doctor.Run(t.Context(), credentials.Checks(cfg), nil, nil).Findings {
		found[f.About] = f.Status.String()
		said += f.Found + " " + f.Fix + "\n"
	}
	return found, said
}

func TestGuessedPasswordsFail(t *testing.T) {
	for password, status := range map[string]string{
		good: "ok", "K7QX2NVB5MZLWPRT4YHDCJFGSA": "ok", "correct-x7#Lq9 vW2p!dK": "ok", "0123456789abcdef-9c1e7b5da0e2": "ok",
		"short": "fail", "passwordpassword": "fail", "mtls-authz-password": "fail", "Ch4ng3M3-Ch4ng3M3-please": "fail", "aaaaaaaaaaaaaaaaaaaaaaaa": "fail",
		"abcabcabcabcabcabc": "fail", "k3x9vq7zk3x9vq7z": "fail", "1234567890123456": "fail", "secret-broker-password-1": "fail", "P@ssw0rd-P@$$word-2026": "fail", "the-operator-the-operator": "fail",
		"qwertyuiopasdfgh": "fail", "0123456789abcdef": "fail",
	} {
		found, said := look(t, credentials.Config{Username: "the-operator", Password: password})
		assert.Equal(t, status, found["BROKER_PASSWORD"], password)
		assert.NotContains(t, said, password)
	}
}

func TestWhoReadsCannotChange(t *testing.T) {
	for _, c := range []struct {
		reader, status string
	}{
		{"", "skipped"}, {other, "ok"}, {good, "fail"}, {"previous-" + other, "fail"}, {"reader", "fail"},
	} {
		found, said := look(t, credentials.Config{Username: "broker", Password: good, Previous: "previous-" + other, ReadUsername: "monitor", ReadPassword: c.reader})
		assert.Equal(t, c.status, found["READ_PASSWORD"], c.reader)
		assert.Equal(t, "warn", found["BROKER_PASSWORD_PREVIOUS"])
		for _, secret := range []string{good, other} {
			assert.NotContains(t, said, secret)
		}
	}
	found, _ := look(t, credentials.Config{Username: "broker", Password: good})
	assert.NotContains(t, found, "BROKER_PASSWORD_PREVIOUS")
	assert.NotContains(t, found, "CACHE_MAC_KEY")
}

func TestTheKeyOfTheCacheIsNoPassword(t *testing.T) {
	for key, status := range map[string]string{good: "fail", other: "ok", strings.Repeat("cache", 4): "fail"} {
		found, _ := look(t, credentials.Config{Password: good, MACKey: key})
		assert.Equal(t, status, found["CACHE_MAC_KEY"], key)
	}
}

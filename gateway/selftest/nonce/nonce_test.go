package nonce_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/gateway/selftest/nonce"
)

var purpose = nonce.Purpose{Binding: "b", Host: "x.example.com", Path: "/probe"}

// instance has a clock that differs from others'.
func instance(t *testing.T, key string, now time.Time) *nonce.Nonces {
	t.Helper()
	n, err := nonce.New([]byte(key), func() time.Time { return now })
	require.NoError(t, err)
	return n
}

func TestANonceIsGoodOnceForItsPurpose(t *testing.T) {
	start := time.Now()
	n := instance(t, "key", start)
	word := n.Make(purpose)
	assert.NotEqual(t, word, n.Make(purpose))
	assert.Regexp(t, `^[\w.-]+$`, word, "characters of a query")
	for name, forged := range map[string]string{
		"": "", "no mac": strings.Split(word, ".")[0], "made up": "AAAA.BBBB", "upper case": strings.ToUpper(word), "longer": word + "A", "shorter": word[:len(word)-1],
		"of another": strings.Split(n.Make(purpose), ".")[0] + "." + strings.Split(word, ".")[1],
	} {
		assert.False(t, n.Spend(forged, purpose), name)
	}
	for _, other := range []nonce.Purpose{
		{},
		{"c", purpose.Host, purpose.Path},
		{"b", "y.example.com", purpose.Path},
		{"b", purpose.Host, "/"},
		{"bx", ".example.com", purpose.Path},
		{"b", purpose.Host + purpose.Path, ""},
	} {
		assert.False(t, n.Spend(word, other), other)
	}
	assert.False(t, instance(t, "another key", start).Spend(word, purpose))
	assert.True(t, n.Spend(word, purpose))
	assert.False(t, n.Spend(word, purpose), "replayed")
}

func TestANonceLivesThirtySecondsOnAnyInstance(t *testing.T) {
	start := time.Now()
	word := instance(t, "key", start).Make(purpose)
	for ago, good := range map[time.Duration]bool{
		0: true, 29 * time.Second: true, -29 * time.Second: true, 31 * time.Second: false, -31 * time.Second: false, 1000 * time.Hour: false,
	} {
		assert.Equal(t, good, instance(t, "key", start.Add(ago)).Spend(word, purpose), ago)
	}
}

func TestAnswersAreSealedForTheirNonce(t *testing.T) {
	n := instance(t, "key", time.Now())
	one, two := n.Make(purpose), n.Make(purpose)
	seal := n.Seal(one, "nothing")
	assert.True(t, n.Sealed(one, "nothing", seal))
	assert.False(t, n.Sealed(one, "something", seal))
	assert.False(t, n.Sealed(two, "nothing", seal))
	assert.False(t, n.Sealed(one, "nothing", ""))
	assert.False(t, instance(t, "another", time.Now()).Sealed(one, "nothing", seal))
	assert.NotEqual(t, n.Sentinel(one), n.Sentinel(two))
	assert.NotContains(t, []string{n.Seal(one, ""), one}, n.Sentinel(one))
}

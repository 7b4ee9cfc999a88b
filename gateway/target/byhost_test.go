package target_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/gateway/target"
)

func parseWord(s string) (string, error) {
	if s == "" || s == "bad" {
		return "", errors.New("a bad word")
	}
	return s, nil
}

func TestLongestMatchCountsAndTheDefaultStandsLast(t *testing.T) {
	b, err := target.ParseByHost("*.apps.identity=wide, *.iso.apps.identity=long,one.iso.apps.identity=exact,other", "unused", parseWord)
	require.NoError(t, err)
	for host, want := range map[string]string{
		"a.apps.identity": "wide", "a.b.apps.identity": "wide", "a.iso.apps.identity": "long", "one.iso.apps.identity": "exact",
		"apps.identity": "other", "evil-apps.identity": "other", "": "other",
	} {
		assert.Equal(t, want, b.For(host), host)
	}
	assert.ElementsMatch(t, []string{"exact", "long", "wide", "other"}, b.Values())
}

func TestWithoutDefaultTheFallbackCounts(t *testing.T) {
	b, err := target.ParseByHost("*.x.y=one", "fallback", parseWord)
	require.NoError(t, err)
	assert.Equal(t, "fallback", b.For("z"))
	assert.Equal(t, "new", b.WithDefault("new").For("z"))
}

func TestMalformedListsAreRefused(t *testing.T) {
	for _, text := range []string{"", "bad", "a,b", "*.x=bad", "*.x=", "=v", "*.x/path=v", "10.0.0.1=v", "default,*.x=v", "*.*=v"} {
		_, err := target.ParseByHost(text, "", parseWord)
		assert.Error(t, err, text)
	}
}

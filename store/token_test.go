package store_test

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/store"
)

func TestToken(t *testing.T) {
	key := store.TokenKey(bytes.Repeat([]byte{7}, 32))
	token := key.Token("binding")
	raw, err := base64.RawURLEncoding.DecodeString(token)
	require.NoError(t, err)
	require.Len(t, raw, 16, "128 bits")
	require.True(t, key.Verify("binding", token))
	require.Equal(t, token, key.Token("binding"), "the same for ever")

	flipped := []byte(token)
	flipped[0] ^= 1
	for name, wrong := range map[string]string{
		"empty":             "",
		"truncated":         token[:21],
		"first letter":      token[:1],
		"longer":            token + "A",
		"padded":            token + "==",
		"one bit off":       string(flipped),
		"other case":        strings.ToUpper(token),
		"another binding's": key.Token("other"),
		"the empty id's":    key.Token(""),
		"another key's":     store.TokenKey(bytes.Repeat([]byte{8}, 32)).Token("binding"),
		"the binding's id":  "binding",
		"with a space":      " " + token,
	} {
		require.False(t, key.Verify("binding", wrong), name)
	}
	require.False(t, key.Verify("", token))
	require.False(t, key.Verify("Binding", token))

	// HMAC takes an empty key, and anybody could make its tokens.
	for _, zero := range []store.TokenKey{nil, {}} {
		require.Empty(t, zero.Token("binding"))
		require.False(t, zero.Verify("binding", ""))
		require.False(t, zero.Verify("binding", zero.Token("binding")))
	}
}

package entry_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/cache/entry"
	"github.com/mtls-authz/mtls-authz/rego"
)

var macKey = []byte("sixteen bytes or more")

// sealed is what a holder of the MAC key makes of a body.
func sealed(k entry.Key, body []byte) []byte {
	mac := hmac.New(sha256.New, macKey)
	mac.Write(k[:])
	mac.Write(body)
	return append(mac.Sum(nil), body...)
}

// FuzzBody: even with the right MAC, as a gateway of another version would write
// it, a body is an entry or none, and what is read is what would be written of it.
func FuzzBody(f *testing.F) {
	seal, key := entry.NewSeal(macKey), entry.Key{1}
	for _, decision := range []rego.Decision{{}, {Allow: true, Headers: []rego.Header{{Name: "X-Mtls-Authz-Policy-A", Value: "b"}}}, {Policy: "policy:one", Reason: "freeze"}} {
		f.Add(seal.Write(key, entry.Entry{Decision: decision, NotAfter: time.Unix(1_800_000_000, 5)})[sha256.Size:])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		found, ok := seal.Read(key, sealed(key, body))
		if !ok {
			require.Zero(t, found, "what is no entry allows nothing")
			return
		}
		again, ok := seal.Read(key, seal.Write(key, found))
		require.True(t, ok)
		require.Equal(t, found.Decision, again.Decision)
		require.True(t, found.NotAfter.Equal(again.NotAfter))
		require.GreaterOrEqual(t, found.Size(), uint32(len(found.Decision.Policy)+len(found.Decision.Reason)))
		_, ok = seal.Read(entry.Key{2}, sealed(key, body))
		require.False(t, ok, "an entry is for its key only")
	})
}

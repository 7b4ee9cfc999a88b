package callerassertion_test

import (
	"crypto/ed25519"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/callerassertion"
)

func forgetful(c *callerassertion.Config) { c.Remember = -1 }

// FuzzToken gives the verifier any text: what is accepted was signed by the
// gateway, whoever wrote it down.
func FuzzToken(f *testing.F) {
	w := newWorld(f)
	v := w.verifier(forgetful)
	f.Add(w.token())
	for _, row := range w.forgeries() {
		if len(row.Assertions) == 1 && len(row.Assertions[0]) < 5000 {
			f.Add(row.Assertions[0])
		}
	}
	public := w.key().Public().(ed25519.PublicKey)
	f.Fuzz(func(t *testing.T, token string) {
		if err := w.verify(v, token); err == nil {
			dot := strings.LastIndexByte(token, '.')
			require.True(t, ed25519.Verify(public, []byte(token[:dot]), []byte(decoded(token[dot+1:]))), "accepted: %q", token)
		}
	})
}

// FuzzClaims signs any header and any claims with the gateway's key: what is
// accepted reads the same to encoding/json, which apps in Go would use.
func FuzzClaims(f *testing.F) {
	w := newWorld(f)
	v := w.verifier(forgetful)
	text := func(v any) string {
		marshaled, err := json.Marshal(v)
		require.NoError(f, err)
		return string(marshaled)
	}
	f.Add(text(w.header()), text(w.claims()))
	f.Add(text(with(w.header(), "crit", []string{})), text(with(w.claims(), "aud", []string{host})))
	f.Add(`{"typ":"mtls-authz-caller+jwt","alg":"EdDSA","kid":"a","kid":"b"}`, `{"exp":1e3,"iat":1.0,"nbf":-1}`)
	f.Fuzz(func(t *testing.T, header, claims string) {
		got, err := v.Verify(presented{http.MethodGet, host, target, []string{forge(w.key(), header, claims)}}.request())
		if err != nil {
			require.Zero(t, got)
			return
		}
		var again map[string]any
		require.NoError(t, json.Unmarshal([]byte(claims), &again))
		require.Equal(t, host, again["aud"])
		require.Equal(t, "allowed", again["decision"])
		require.Equal(t, got.CallerApp, again["caller_app"])
		require.NotEmpty(t, got.CallerOrg)
	})
}

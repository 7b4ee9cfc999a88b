package signature_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground/router/signature"
)

const signedURL = "https://backend.apps.identity/a%2Fb/../c?q=1"

func sealer(t testing.TB, secret string, lifetime time.Duration) *signature.Sealer {
	t.Helper()
	s, err := signature.NewSealer(secret, lifetime)
	require.NoError(t, err)
	return s
}

func TestOpenReturnsWhatWasSealed(t *testing.T) {
	url, err := sealer(t, "secret", time.Hour).Open(sealer(t, "secret", time.Hour).Seal(signedURL))
	require.NoError(t, err)
	assert.Equal(t, signedURL, url)
}

func TestWithoutASecretEverySealerIsItsOwn(t *testing.T) {
	own := sealer(t, "", time.Hour)
	header := own.Seal(signedURL)
	_, err := own.Open(header)
	require.NoError(t, err)
	_, err = sealer(t, "", time.Hour).Open(header)
	assert.Error(t, err)
}

func TestTwoSignaturesDiffer(t *testing.T) {
	s := sealer(t, "secret", time.Hour)
	assert.NotEqual(t, s.Seal(signedURL), s.Seal(signedURL))
}

func TestOpenRefuses(t *testing.T) {
	good := sealer(t, "secret", time.Hour)
	for name, test := range map[string]struct {
		sealer *signature.Sealer
		edit   func(http.Header)
		want   string
	}{
		"age":            {sealer(t, "secret", time.Nanosecond), nil, "route service request expired"},
		"another secret": {sealer(t, "other", time.Hour), nil, "message authentication failed"},
		"no metadata":    {good, func(h http.Header) { h.Del(signature.MetadataHeader) }, "no metadata"},
		"no signature":   {good, func(h http.Header) { h.Del(signature.Header) }, "message authentication failed"},
		"no nonce":       {good, func(h http.Header) { h.Set(signature.MetadataHeader, "e30=") }, "nonce"},
		"no base64":      {good, func(h http.Header) { h.Set(signature.Header, "?") }, "illegal base64"},
	} {
		t.Run(name, func(t *testing.T) {
			header := good.Seal(signedURL)
			if test.edit != nil {
				test.edit(header)
			}
			_, err := test.sealer.Open(header)
			assert.ErrorContains(t, err, test.want)
		})
	}
	_, err := sealer(t, "secret", time.Nanosecond).Open(good.Seal(signedURL))
	assert.ErrorIs(t, err, signature.ErrExpired)
}

// Whatever arrives: no panic, and nothing opens that was not sealed.
func FuzzOpen(f *testing.F) {
	s := sealer(f, "secret", time.Hour)
	header := s.Seal(signedURL)
	sealed, metadata := header.Get(signature.Header), header.Get(signature.MetadataHeader)
	f.Add(sealed+"A", metadata)
	f.Add("", "")
	f.Add("e30=", "e30=")
	f.Add(sealed, `eyJub25jZSI6IkFBQUFBQUFBQUFBQUFBQUEifQ==`)
	f.Fuzz(func(t *testing.T, changed, changedMetadata string) {
		if changed == sealed && changedMetadata == metadata {
			t.Skip()
		}
		url, err := s.Open(http.Header{
			http.CanonicalHeaderKey(signature.Header):         {changed},
			http.CanonicalHeaderKey(signature.MetadataHeader): {changedMetadata},
		})
		if err == nil && url != signedURL { // other spellings of the same base64 are fine
			t.Fatalf("opened %q %q to %q", changed, changedMetadata, url)
		}
	})
}

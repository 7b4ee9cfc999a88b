package release_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/rego/author/release"
	"github.com/mtls-authz/mtls-authz/rego/bundle"
)

func source(t *testing.T, more map[string]string) []byte {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{
		"a.rego": "package site.check.a\n\nallow := true\n", "sub/data.yaml": "b: [1, 2.50]\n", "data.json": "{ \"a\" : 1.0 }\n",
	}
	for name, text := range more {
		files[name] = text
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	archive, err := bundle.ReadArchive(dir)
	require.NoError(t, err)
	return archive
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func pkcs8(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return pemOf("PRIVATE KEY", der)
}

// keys are private keys in every accepted form.
func keys(t *testing.T) map[string][]byte {
	t.Helper()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	found := map[string][]byte{
		"RS256": pkcs8(t, rsaKey), "RS256 PKCS#1": pemOf("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey)), "EdDSA": pkcs8(t, edKey),
	}
	for name, curve := range map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		require.NoError(t, err)
		der, err := x509.MarshalECPrivateKey(key)
		require.NoError(t, err)
		found[name] = pkcs8(t, key)
		found[name+" SEC 1"] = append(pemOf("EC PARAMETERS", []byte{6, 1, 1}), pemOf("EC PRIVATE KEY", der)...)
	}
	return found
}

func TestEveryKindOfKeySignsWhatAGatewayReads(t *testing.T) {
	archive := source(t, nil)
	for name, text := range keys(t) {
		key, err := release.ParseKey(text)
		require.NoError(t, err, name)
		assert.Equal(t, strings.Fields(name)[0], key.Public().Algorithm())
		made, b, err := release.Make(release.Config{Archive: archive, Revision: "7", Key: key})
		require.NoError(t, err, name)
		assert.Equal(t, "7", b.Revision)
		_, err = bundle.Read(made, key.Public())
		require.NoError(t, err, name)
		_, err = bundle.Read(made, nil)
		require.ErrorIs(t, err, bundle.ErrRefused, "a signature that nobody verifies")
	}
}

func TestAnotherKeyIsNoGoodForIt(t *testing.T) {
	all := keys(t)
	signer, err := release.ParseKey(all["EdDSA"])
	require.NoError(t, err)
	other, err := release.ParseKey(keys(t)["EdDSA"])
	require.NoError(t, err)
	made, _, err := release.Make(release.Config{Archive: source(t, nil), Revision: "7", Key: signer})
	require.NoError(t, err)
	_, err = bundle.Read(made, other.Public())
	require.ErrorIs(t, err, bundle.ErrRefused)
}

func TestEqualSourcesGiveEqualArchives(t *testing.T) {
	key, err := release.ParseKey(keys(t)["EdDSA"])
	require.NoError(t, err)
	for _, cfg := range []release.Config{{}, {Revision: "2026-05-04T10:15:00Z"}, {Revision: "7", Key: key}} {
		cfg.Archive = source(t, nil)
		first, _, err := release.Make(cfg)
		require.NoError(t, err)
		cfg.Archive = source(t, nil)
		second, _, err := release.Make(cfg)
		require.NoError(t, err)
		assert.Equal(t, first, second)
	}
}

func TestWhatIsNotReleased(t *testing.T) {
	key, err := release.ParseKey(keys(t)["EdDSA"])
	require.NoError(t, err)
	for name, test := range map[string]struct {
		cfg  release.Config
		what string
	}{
		"signed already":          {release.Config{Archive: source(t, map[string]string{".signatures.json": `{"signatures":["x"]}`})}, "there is a signature already"},
		"signed without revision": {release.Config{Archive: source(t, nil), Key: key}, "--revision"},
		"a name for a revision":   {release.Config{Archive: source(t, nil), Key: key, Revision: "v1"}, "needs an integer or a time"},
		"not an archive":          {release.Config{Archive: []byte("x")}, "expected a directory or a .tar.gz"},
		"a broken manifest":       {release.Config{Archive: source(t, map[string]string{".manifest": "{"}), Revision: "7"}, ".manifest"},
	} {
		archive, _, err := release.Make(test.cfg)
		require.ErrorIs(t, err, bundle.ErrRefused, name)
		require.ErrorContains(t, err, test.what, name)
		assert.Nil(t, archive, name)
	}
}

func TestNoTextHoldsAKey(t *testing.T) {
	secret := keys(t)["ES256"]
	body := strings.Split(string(secret), "\n")[1]
	key, err := release.ParseKey(secret)
	require.NoError(t, err)
	for _, text := range []string{fmt.Sprint(key), fmt.Sprintf("%v %+v %#v %s %q %x", key, key, key, key, key, key)} {
		assert.NotContains(t, text, body)
		assert.Contains(t, text, "ES256")
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)
	for name, text := range map[string]string{
		"no PEM": "-----BEGIN", "half": string(secret[:len(secret)/2]), "public": "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
		"damaged": strings.Replace(string(secret), body[10:20], "AAAAAAAAAA", 1), "encrypted": strings.ReplaceAll(string(secret), "PRIVATE", "ENCRYPTED PRIVATE"),
		"weak": string(pkcs8(t, weak)), "certificate": strings.ReplaceAll(string(secret), "PRIVATE KEY", "CERTIFICATE"),
	} {
		_, err := release.ParseKey([]byte(text))
		require.Error(t, err, name)
		assert.NotContains(t, err.Error(), body[:8], name)
	}
}

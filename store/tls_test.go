package store_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/store"
)

// certificate returns a self-signed certificate, which is its own authority,
// and its key.
func certificate(t *testing.T, ip string) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "postgres"}, IPAddresses: []net.IP{net.ParseIP(ip)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	require.NoError(t, err)
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
}

// Whoever stands between the gateway and its database could grant anything.
func TestImpostorOfTheDatabaseIsRefused(t *testing.T) {
	p, err := initPostgres()
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(p.dir) })
	ours, key := certificate(t, "127.0.0.1")
	for name, content := range map[string][]byte{"server.crt": ours, "server.key": key} {
		file := filepath.Join(p.data(), name)
		require.NoError(t, os.WriteFile(file, content, 0o600))
		if owner := p.owner(); owner != nil {
			require.NoError(t, os.Chown(file, int(owner.Uid), int(owner.Gid)))
		}
	}
	require.NoError(t, p.start("-c", "ssl=on"))
	t.Cleanup(func() { p.stop(3) })
	plain := p.newDatabase(t)
	base, _, _ := strings.Cut(plain, "?")
	byName := strings.Replace(base, "127.0.0.1", "localhost", 1)
	other, _ := certificate(t, "127.0.0.1")
	for name, c := range map[string]struct {
		url   string
		ca    []byte
		error string
	}{
		"ours":                        {base, ours, ""},
		"ours, verified in full":      {base + "?sslmode=verify-full", ours, ""},
		"prefer is not enough":        {base + "?sslmode=prefer", other, "certificate"},
		"another authority":           {base, other, "certificate"},
		"another, required":           {base + "?sslmode=require", other, "certificate"},
		"another name":                {byName, ours, "localhost"},
		"another name, but only ca":   {byName + "?sslmode=verify-ca", ours, ""},
		"another name, only required": {byName + "?sslmode=require", ours, ""},
		"contradiction":               {plain, ours, "sslmode=disable contradicts the ca"},
		"no PEM":                      {base, []byte("s3cret"), "expected certificates in PEM"},
		"no ca, verified":             {base + "?sslmode=verify-full", nil, "certificate"},
	} {
		s, err := store.Open(ctx, store.Config{URL: c.url, CA: c.ca})
		if c.error == "" {
			require.NoError(t, err, name)
			require.NoError(t, s.Close())
			continue
		}
		require.ErrorContains(t, err, c.error, name)
		require.NotContains(t, err.Error(), "s3cret", name)
	}
}

package ca_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground/ca"
)

func TestCertPEMIsLeafThenIssuer(t *testing.T) {
	root, intermediate := authorities(t)
	credential, err := intermediate.Instance(backend)
	require.NoError(t, err)

	first, rest := pem.Decode(credential.CertPEM())
	require.NotNil(t, first)
	second, rest := pem.Decode(rest)
	require.NotNil(t, second)
	assert.Empty(t, rest, "two blocks, no root")
	assert.Equal(t, credential.Leaf().Raw, first.Bytes)
	assert.Equal(t, intermediate.Certificate().Raw, second.Bytes)
	assert.NotEqual(t, root.Certificate().Raw, second.Bytes)
	assert.Equal(t, intermediate.PEM(), pem.EncodeToMemory(second))
}

func TestXFCCIsOneLineOfTheLeafsDER(t *testing.T) {
	credential := instance(t)
	der, err := base64.StdEncoding.Strict().DecodeString(credential.XFCC())
	require.NoError(t, err)
	assert.Equal(t, credential.Leaf().Raw, der)
	assert.NotContains(t, credential.XFCC(), "\n")
}

func TestKeyPEM(t *testing.T) {
	for name, test := range map[string]struct {
		options []ca.Option
		block   string
	}{
		"ECDSA is SEC 1":       {nil, "EC PRIVATE KEY"},
		"RSA is PKCS#1":        {[]ca.Option{ca.RSA(2048)}, "RSA PRIVATE KEY"},
		"RSA 3072 as in Diego": {[]ca.Option{ca.RSA(3072)}, "RSA PRIVATE KEY"},
	} {
		t.Run(name, func(t *testing.T) {
			credential := instance(t, test.options...)
			block, _ := pem.Decode(credential.KeyPEM())
			require.NotNil(t, block)
			assert.Equal(t, test.block, block.Type)
			_, err := tls.X509KeyPair(credential.CertPEM(), credential.KeyPEM())
			assert.NoError(t, err, "key and certificate match")
		})
	}
}

func TestWriteFiles(t *testing.T) {
	dir := t.TempDir()
	for range 2 { // the second run replaces the first one's files
		credential := instance(t)
		certPath, keyPath, err := credential.WriteFiles(dir)
		require.NoError(t, err)
		assert.Equal(t, filepath.Join(dir, "instance.crt"), certPath)
		assert.Equal(t, filepath.Join(dir, "instance.key"), keyPath)
		pair, err := tls.LoadX509KeyPair(certPath, keyPath)
		require.NoError(t, err)
		assert.Equal(t, credential.Leaf().Raw, pair.Certificate[0])
	}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, entries, 2, "no temporary file stays")
}

func TestWriteFilesReplacesTheKeyFirst(t *testing.T) {
	dir := t.TempDir()
	before := instance(t)
	_, keyPath, err := before.WriteFiles(dir)
	require.NoError(t, err)
	certPath := filepath.Join(dir, ca.CertificateFile)
	require.NoError(t, os.Remove(certPath))
	require.NoError(t, os.Mkdir(certPath, 0o700)) // no file can be renamed onto it

	after := instance(t)
	_, _, err = after.WriteFiles(dir)
	require.ErrorContains(t, err, certPath)
	key, err := os.ReadFile(keyPath)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(after.KeyPEM(), key), "the key was already replaced")
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, entries, 2, "no temporary file stays")
}

func TestWriteFilesMakesTheDirectoryOrNamesIt(t *testing.T) {
	dir := t.TempDir()
	certPath, _, err := instance(t).WriteFiles(filepath.Join(dir, "absent"))
	require.NoError(t, err)
	_, _, err = instance(t).WriteFiles(filepath.Join(certPath, "below-a-file"))
	assert.ErrorContains(t, err, certPath)
}

func TestServerAndClientMeetOverTLS(t *testing.T) {
	root, intermediate := authorities(t)
	server, err := intermediate.Server("*.apps.identity", "127.0.0.1")
	require.NoError(t, err)
	client, err := intermediate.Instance(backend)
	require.NoError(t, err)

	listener := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(r.TLS.PeerCertificates[0].Subject.CommonName))
	}))
	listener.TLS = &tls.Config{
		Certificates: []tls.Certificate{server.TLS()},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    pool(root),
	}
	listener.StartTLS()
	defer listener.Close()

	for host, ok := range map[string]bool{"backend.apps.identity": true, "127.0.0.1": true, "a.b.apps.identity": false} {
		transport := &http.Transport{TLSClientConfig: &tls.Config{
			RootCAs: pool(root), ServerName: host, Certificates: []tls.Certificate{client.TLS()},
		}}
		response, err := (&http.Client{Transport: transport}).Get(listener.URL)
		assert.Equal(t, ok, err == nil, "%s: %v", host, err)
		if err == nil {
			require.NoError(t, response.Body.Close())
		}
		transport.CloseIdleConnections()
	}
	assert.Equal(t, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, server.Leaf().ExtKeyUsage)
}

func TestServerNeedsAHost(t *testing.T) {
	_, intermediate := authorities(t)
	_, err := intermediate.Server()
	assert.Error(t, err)
}

// What is forged for tests of those who verify is signed, and by nobody who may.
func TestForgedCredentialsAreSignedByNobodyWhoMay(t *testing.T) {
	self, err := ca.SelfSigned(backend)
	require.NoError(t, err)
	assert.Equal(t, self.Leaf().RawSubject, self.Leaf().RawIssuer)
	assert.NoError(t, self.Leaf().CheckSignature(self.Leaf().SignatureAlgorithm, self.Leaf().RawTBSCertificate, self.Leaf().Signature))
	assert.Equal(t, backend.Instance, self.Leaf().Subject.CommonName)

	holder := instance(t)
	byLeaf, err := holder.Authority().Instance(backend)
	require.NoError(t, err)
	assert.Equal(t, holder.Leaf().RawSubject, byLeaf.Leaf().RawIssuer)
	assert.NoError(t, holder.Leaf().CheckSignature(byLeaf.Leaf().SignatureAlgorithm, byLeaf.Leaf().RawTBSCertificate, byLeaf.Leaf().Signature))
	assert.Error(t, byLeaf.Leaf().CheckSignatureFrom(holder.Leaf()), "the holder is no CA")
}

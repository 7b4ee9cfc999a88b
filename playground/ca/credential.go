package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
)

// Names of the files of an instance identity credential, as in
// /etc/cf-instance-credentials.
const (
	CertificateFile = "instance.crt"
	KeyFile         = "instance.key"
)

// Credential is a certificate with its private key and its issuer. It is
// immutable and safe for concurrent use.
type Credential struct {
	leaf   *x509.Certificate
	key    crypto.Signer
	issuer *x509.Certificate
}

// Leaf is the certificate itself. Callers must not change it.
func (c *Credential) Leaf() *x509.Certificate { return c.leaf }

// CertPEM is the content of instance.crt: two CERTIFICATE blocks, the leaf,
// then the authority that issued it (not the root above that).
func (c *Credential) CertPEM() []byte {
	return append(certificatePEM(c.leaf), certificatePEM(c.issuer)...)
}

// KeyPEM is the content of instance.key: PKCS#1 "RSA PRIVATE KEY" as in Diego
// for RSA, SEC 1 "EC PRIVATE KEY" for ECDSA.
func (c *Credential) KeyPEM() []byte {
	switch key := c.key.(type) {
	case *rsa.PrivateKey:
		return pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	case *ecdsa.PrivateKey:
		der, err := x509.MarshalECPrivateKey(key)
		if err != nil {
			panic(fmt.Sprintf("ca: a P-256 key made here cannot be encoded: %v", err))
		}
		return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	default:
		panic(fmt.Sprintf("ca: key of type %T was not made here", key))
	}
}

// TLS is the credential for a tls.Config, with the chain an app sends that
// loads instance.crt: leaf and issuing authority.
func (c *Credential) TLS() tls.Certificate {
	return tls.Certificate{
		Certificate: [][]byte{c.leaf.Raw, c.issuer.Raw},
		PrivateKey:  c.key,
		Leaf:        c.leaf,
	}
}

// XFCC is the value that a router on sanitize_set puts into
// X-Forwarded-Client-Cert for this credential: the leaf's DER as one line of
// standard base64.
func (c *Credential) XFCC() string {
	return base64.StdEncoding.EncodeToString(c.leaf.Raw)
}

// WriteFiles puts the credential into dir, which is made if it is missing, as
// instance.crt and instance.key and returns both paths. Existing files are replaced by rename, the key first,
// then the certificate, as Diego does: a reader in between finds a pair that
// does not match and must read again. The error is the file system's.
func (c *Credential) WriteFiles(dir string) (certPath, keyPath string, err error) {
	certPath = filepath.Join(dir, CertificateFile)
	keyPath = filepath.Join(dir, KeyFile)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", "", fmt.Errorf("ca: %w", err)
	}
	if err := replaceFile(keyPath, c.KeyPEM()); err != nil {
		return "", "", err
	}
	if err := replaceFile(certPath, c.CertPEM()); err != nil {
		return "", "", err
	}
	return certPath, keyPath, nil
}

// replaceFile leaves either the old or the new content, readable by the owner
// only.
func replaceFile(path string, content []byte) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("ca: replace %q: %w", path, err)
	}
	_, err = temporary.Write(content)
	if closeErr := temporary.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		_ = os.Remove(temporary.Name())
		return fmt.Errorf("ca: replace %q: %w", path, err)
	}
	return nil
}

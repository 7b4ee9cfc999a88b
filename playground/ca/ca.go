// Package ca mints the certificates that a Cloud Foundry has: the identity
// root and its intermediate, the instance identity credentials that Diego puts
// into every container, and the router's server certificate. It serves the
// playground and the tests; it trusts its caller with everything, keeps the CA
// keys in memory only, and fails by an error, never with a weaker certificate
// than was asked for.
package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"time"
)

const (
	// authorityLife outlives every playground session.
	authorityLife = 10 * 365 * 24 * time.Hour
	serverLife    = 365 * 24 * time.Hour
	// backdate lets machines with a slow clock accept CA and server
	// certificates at once. Diego does not back-date instance certificates.
	backdate = time.Hour
)

// Authority is a certificate authority with its private key. It is immutable
// and safe for concurrent use.
type Authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

// NewRoot makes a self-signed authority, valid for ten years. cf-deployment's
// application_ca (CN appRootCA) is one. The error comes from crypto/x509
// when commonName cannot be encoded.
func NewRoot(commonName string) (*Authority, error) {
	template, key, err := authorityTemplate(commonName)
	if err != nil {
		return nil, err
	}
	return sign(template, key, template, key)
}

// Intermediate makes an authority signed by a, valid for ten years.
// cf-deployment's diego_instance_identity_ca (CN instanceIdentityCA) is one:
// it issues the instance certificates.
func (a *Authority) Intermediate(commonName string) (*Authority, error) {
	template, key, err := authorityTemplate(commonName)
	if err != nil {
		return nil, err
	}
	return sign(template, key, a.certificate, a.key)
}

// PEM is the authority's certificate as one CERTIFICATE block.
func (a *Authority) PEM() []byte { return certificatePEM(a.certificate) }

// Certificate is the authority's certificate. Callers must not change it.
func (a *Authority) Certificate() *x509.Certificate { return a.certificate }

// Server issues a TLS server certificate for hosts, valid for one year: DNS
// names, wildcards such as "*.apps.identity", or IP addresses. It fails
// without hosts and when crypto/x509 cannot encode one of them.
func (a *Authority) Server(hosts ...string) (*Credential, error) {
	if len(hosts) == 0 {
		return nil, fmt.Errorf("ca: a server certificate needs at least one host")
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{CommonName: hosts[0]},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(serverLife),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
			continue
		}
		template.DNSNames = append(template.DNSNames, host)
	}
	key, err := newECKey()
	if err != nil {
		return nil, err
	}
	return a.issue(template, key)
}

// issue signs a leaf and joins it with what its holder needs.
func (a *Authority) issue(template *x509.Certificate, key crypto.Signer) (*Credential, error) {
	signed, err := sign(template, key, a.certificate, a.key)
	if err != nil {
		return nil, err
	}
	return &Credential{leaf: signed.certificate, key: key, issuer: a.certificate}, nil
}

func authorityTemplate(commonName string) (*x509.Certificate, crypto.Signer, error) {
	key, err := newECKey()
	if err != nil {
		return nil, nil, err
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{CommonName: commonName},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(authorityLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}, key, nil
}

func sign(template *x509.Certificate, key crypto.Signer, parent *x509.Certificate, parentKey crypto.Signer) (*Authority, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		return nil, fmt.Errorf("ca: sign certificate %q: %w", template.Subject.CommonName, err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("ca: read back certificate %q: %w", template.Subject.CommonName, err)
	}
	return &Authority{certificate: certificate, key: key}, nil
}

func newECKey() (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("ca: generate P-256 key: %w", err)
	}
	return key, nil
}

// newSerial is a random version 4 UUID read as a number, as in Diego.
func newSerial() *big.Int {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails: crypto/rand ends the program instead
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return new(big.Int).SetBytes(id[:])
}

func certificatePEM(certificate *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})
}

package identity_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/playground/ca"
)

const (
	frontend = "d76446a1-f429-4444-8797-be2f78b75b08"
	shop     = "6755b19d-c543-4e0c-a4b3-cd6e7c9c68a3"
	acme     = "6e424e4e-5e46-419a-9cb6-eac9de2794e8"
	other    = "0b7d4a8c-3b9e-4a43-9d3f-8a2c7f1f5e11"
	nobody   = "00000000-0000-0000-0000-000000000000"
	instance = "5f8f3c1e-6f0b-4b5e-6f6a-1b2c"
)

var frontendIdentity = ca.Identity{App: frontend, Space: shop, Org: acme, Instance: instance}

// frontendCaller is what every certificate of frontendIdentity must become.
var frontendCaller = identity.Caller{
	Foundation: "local", App: guid(frontend), Space: guid(shop), Org: guid(acme), Instance: instance,
}

func guid(s string) identity.GUID {
	id, err := identity.ParseGUID(s)
	if err != nil {
		panic(err)
	}
	return id
}

// A foundation has the CAs of one Cloud Foundry: the leaves come from the
// intermediate, which is the one caller CA.
type foundation struct{ root, intermediate *ca.Authority }

func newFoundation(t testing.TB) foundation {
	t.Helper()
	root, err := ca.NewRoot("appRootCA")
	require.NoError(t, err)
	intermediate, err := root.Intermediate("instanceIdentityCA")
	require.NoError(t, err)
	return foundation{root, intermediate}
}

func mint(t testing.TB, issuer *ca.Authority, options ...ca.Option) *ca.Credential {
	t.Helper()
	credential, err := issuer.Instance(frontendIdentity, options...)
	require.NoError(t, err)
	return credential
}

// leaf is a certificate of the foundation's frontend.
func (f foundation) leaf(t testing.TB, options ...ca.Option) string {
	t.Helper()
	return mint(t, f.intermediate, options...).XFCC()
}

func trusting(t testing.TB, cas ...*x509.Certificate) *identity.Verifier {
	t.Helper()
	return trustingAt(t, nil, cas...)
}

func trustingAt(t testing.TB, now func() time.Time, cas ...*x509.Certificate) *identity.Verifier {
	t.Helper()
	v, err := identity.NewVerifier(identity.Config{Foundation: "local", CAs: cas, Now: now})
	require.NoError(t, err)
	return v
}

func (f foundation) verifier(t testing.TB) *identity.Verifier {
	t.Helper()
	return trusting(t, f.intermediate.Certificate())
}

// allow demands that a header is the frontend, twice: the second answer is the
// remembered one.
func allow(t *testing.T, v *identity.Verifier, header string) {
	t.Helper()
	for _, turn := range []string{"first", "remembered"} {
		caller, err := v.Verify([]string{header}, identity.Raw)
		require.NoError(t, err, turn)
		require.Equal(t, frontendCaller, caller, turn)
	}
}

// deny demands that a header is refused with this sentinel, twice: a refusal
// must not become a remembered caller.
func deny(t *testing.T, v *identity.Verifier, header string, kind error) *identity.Refusal {
	t.Helper()
	caller, err := v.Verify([]string{header}, identity.Raw)
	first := checkRefusal(t, caller, err, kind)
	caller, err = v.Verify([]string{header}, identity.Raw)
	checkRefusal(t, caller, err, kind)
	return first
}

// checkRefusal is the invariant of every refusal: nobody, one known kind, and
// a short printable detail.
func checkRefusal(t testing.TB, caller identity.Caller, err, kind error) *identity.Refusal {
	t.Helper()
	require.ErrorIs(t, err, kind)
	assert.Equal(t, identity.Caller{}, caller, "a refused caller must be nobody")
	var refusal *identity.Refusal
	require.ErrorAs(t, err, &refusal)
	assert.NotEmpty(t, refusal.Detail)
	assert.LessOrEqual(t, len(refusal.Detail), 1024)
	assert.LessOrEqual(t, len(refusal.IssuerKeyID), 64)
	assert.NotRegexp(t, `[^ -~\pL\pN\pP\pS\pM]`, refusal.Detail)
	return refusal
}

// A handSigner signs what playground/ca refuses to: certificates and CAs that
// no honest Cloud Foundry makes.
type handSigner struct {
	t   testing.TB
	key *ecdsa.PrivateKey
	ca  *x509.Certificate
}

func newHandSigner(t testing.TB) *handSigner {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return signWith(t, key)
}

func signWith(t testing.TB, key *ecdsa.PrivateKey) *handSigner {
	s := &handSigner{t: t, key: key}
	s.ca = s.authority(nil)
	return s
}

// authority makes another certificate for the signer's name and key.
func (s *handSigner) authority(edit func(*x509.Certificate)) *x509.Certificate {
	s.t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "instanceIdentityCA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
	}
	if edit != nil {
		edit(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, s.key.Public(), s.key)
	require.NoError(s.t, err)
	certificate, err := x509.ParseCertificate(der)
	require.NoError(s.t, err)
	return certificate
}

// leaf is the DER of a certificate in Diego's shape, edited before signing.
func (s *handSigner) leaf(edit func(*x509.Certificate)) []byte {
	s.t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2),
		Subject: pkix.Name{CommonName: instance, OrganizationalUnit: []string{
			"organization:" + acme, "space:" + shop, "app:" + frontend,
		}},
		NotBefore: time.Now(), NotAfter: time.Now().Add(24 * time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	if edit != nil {
		edit(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, s.ca, s.key.Public(), s.key)
	require.NoError(s.t, err)
	return der
}

// resign edits the signed part of a certificate and signs it again.
func (s *handSigner) resign(der []byte, edit func(tbs []byte)) []byte {
	s.t.Helper()
	certificate, err := x509.ParseCertificate(der)
	require.NoError(s.t, err)
	tbs := bytes.Clone(certificate.RawTBSCertificate)
	edit(tbs)
	return s.sign(tbs)
}

// sign makes a certificate of any bytes.
func (s *handSigner) sign(tbs []byte) []byte {
	s.t.Helper()
	digest := sha256.Sum256(tbs)
	signature, err := s.key.Sign(rand.Reader, digest[:], crypto.SHA256)
	require.NoError(s.t, err)
	der, err := asn1.Marshal(struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{
		asn1.RawValue{FullBytes: tbs},
		pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}}, // ecdsa-with-SHA256
		asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)},
	})
	require.NoError(s.t, err)
	return der
}

// subject is a distinguished name of these RDNs as DER.
func subject(t testing.TB, rdns ...[]attribute) []byte {
	t.Helper()
	var sets []asn1.RawValue
	for _, rdn := range rdns {
		var members []byte
		for _, one := range rdn {
			der, err := asn1.Marshal(one)
			require.NoError(t, err)
			members = append(members, der...)
		}
		sets = append(sets, asn1.RawValue{Tag: asn1.TagSet, IsCompound: true, Bytes: members})
	}
	der, err := asn1.Marshal(sets)
	require.NoError(t, err)
	return der
}

// An attribute is one type and value of a distinguished name.
type attribute struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

func text(oid asn1.ObjectIdentifier, tag int, value string) attribute {
	return attribute{oid, asn1.RawValue{Tag: tag, Bytes: []byte(value)}}
}

func ou(value string) attribute {
	return text(asn1.ObjectIdentifier{2, 5, 4, 11}, asn1.TagUTF8String, value)
}

func cn(value string) attribute {
	return text(asn1.ObjectIdentifier{2, 5, 4, 3}, asn1.TagUTF8String, value)
}

func xfcc(der []byte) string { return base64.StdEncoding.EncodeToString(der) }

package ca_test

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground/ca"
)

var backend = ca.Identity{
	App:      "d76446a1-f429-4444-8797-be2f78b75b08",
	Space:    "2f1b1f0e-0f4f-4c3b-8a37-3d3a5d2c8d11",
	Org:      "6e424e4e-5e46-419a-9cb6-eac9de2794e8",
	Instance: "7b4f6b8e-5e5e-4a6d-4c0e-2f53",
}

func authorities(t *testing.T) (root, intermediate *ca.Authority) {
	t.Helper()
	root, err := ca.NewRoot("appRootCA")
	require.NoError(t, err)
	intermediate, err = root.Intermediate("instanceIdentityCA")
	require.NoError(t, err)
	return root, intermediate
}

func instance(t *testing.T, options ...ca.Option) *ca.Credential {
	t.Helper()
	_, intermediate := authorities(t)
	credential, err := intermediate.Instance(backend, options...)
	require.NoError(t, err)
	return credential
}

func pool(authorities ...*ca.Authority) *x509.CertPool {
	p := x509.NewCertPool()
	for _, authority := range authorities {
		p.AddCert(authority.Certificate())
	}
	return p
}

func TestInstanceHasDiegosShape(t *testing.T) {
	leaf := instance(t).Leaf()
	assert.Equal(t, backend.Instance, leaf.Subject.CommonName)
	assert.Equal(t, []string{backend.Instance}, leaf.DNSNames)
	assert.Len(t, leaf.IPAddresses, 1)
	assert.Empty(t, leaf.URIs)
	assert.Empty(t, leaf.EmailAddresses)
	assert.Equal(t, x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment|x509.KeyUsageKeyAgreement, leaf.KeyUsage)
	assert.Equal(t, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}, leaf.ExtKeyUsage)
	assert.False(t, leaf.BasicConstraintsValid, "basic constraints are absent")
	assert.False(t, leaf.IsCA)
	assert.Equal(t, 24*time.Hour, leaf.NotAfter.Sub(leaf.NotBefore))
	assert.Len(t, leaf.Subject.Names, 4, "CN and three OUs, nothing else")
}

func TestInstanceOUsAreOneMultiValuedRDNInDEROrder(t *testing.T) {
	leaf := instance(t).Leaf()
	var names pkix.RDNSequence
	rest, err := asn1.Unmarshal(leaf.RawSubject, &names)
	require.NoError(t, err)
	require.Empty(t, rest)
	var sizes []int
	for _, set := range names {
		sizes = append(sizes, len(set))
	}
	assert.ElementsMatch(t, []int{1, 3}, sizes)
	assert.Equal(t, []string{"app:" + backend.App, "space:" + backend.Space, "organization:" + backend.Org},
		leaf.Subject.OrganizationalUnit, "shortest first, whatever Cloud Controller's order")
}

func TestSerialsDiffer(t *testing.T) {
	assert.NotEqual(t, instance(t).Leaf().SerialNumber, instance(t).Leaf().SerialNumber)
}

func TestVerificationNeedsTheIntermediate(t *testing.T) {
	root, intermediate := authorities(t)
	credential, err := intermediate.Instance(backend)
	require.NoError(t, err)
	clientAuth := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	for name, test := range map[string]struct {
		roots, intermediates *x509.CertPool
		ok                   bool
	}{
		"leaf and root only is refused":           {pool(root), pool(), false},
		"leaf, intermediate and root":             {pool(root), pool(intermediate), true},
		"the intermediate itself as the anchor":   {pool(intermediate), pool(), true},
		"another root of the same name is not it": {pool(otherRoot(t)), pool(intermediate), false},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := credential.Leaf().Verify(x509.VerifyOptions{
				Roots: test.roots, Intermediates: test.intermediates, KeyUsages: clientAuth,
			})
			assert.Equal(t, test.ok, err == nil, "%v", err)
		})
	}
}

func otherRoot(t *testing.T) *ca.Authority {
	t.Helper()
	root, err := ca.NewRoot("appRootCA")
	require.NoError(t, err)
	return root
}

func TestOptions(t *testing.T) {
	past := time.Now().Add(-time.Hour).Truncate(time.Second).UTC()
	twoApps := []string{"app:one", "app:two"}
	for name, test := range map[string]struct {
		options []ca.Option
		check   func(t *testing.T, leaf *x509.Certificate)
	}{
		"validity window": {
			[]ca.Option{ca.With(func(c *x509.Certificate) { c.NotAfter = past })},
			func(t *testing.T, leaf *x509.Certificate) { assert.Equal(t, past, leaf.NotAfter) },
		},
		"no extended key usage": {
			[]ca.Option{ca.With(func(c *x509.Certificate) { c.ExtKeyUsage = nil })},
			func(t *testing.T, leaf *x509.Certificate) { assert.Empty(t, leaf.ExtKeyUsage) },
		},
		"a leaf that is a CA": {
			[]ca.Option{ca.With(func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true })},
			func(t *testing.T, leaf *x509.Certificate) { assert.True(t, leaf.IsCA) },
		},
		"two apps": {
			[]ca.Option{ca.OUs(twoApps...)},
			func(t *testing.T, leaf *x509.Certificate) { assert.Equal(t, twoApps, leaf.Subject.OrganizationalUnit) },
		},
		"no OU": {
			[]ca.Option{ca.OUs()},
			func(t *testing.T, leaf *x509.Certificate) { assert.Empty(t, leaf.Subject.OrganizationalUnit) },
		},
		"edits run in order after OUs": {[]ca.Option{
			ca.With(func(c *x509.Certificate) { c.Subject.OrganizationalUnit = append(c.Subject.OrganizationalUnit, "b") }),
			ca.OUs("a"),
			ca.With(func(c *x509.Certificate) { c.Subject.OrganizationalUnit = append(c.Subject.OrganizationalUnit, "c") }),
		}, func(t *testing.T, leaf *x509.Certificate) {
			assert.Equal(t, []string{"a", "b", "c"}, leaf.Subject.OrganizationalUnit)
		}},
		"ECDSA P-256 without an option": {
			nil,
			func(t *testing.T, leaf *x509.Certificate) { assert.IsType(t, &ecdsa.PublicKey{}, leaf.PublicKey) },
		},
		"RSA": {
			[]ca.Option{ca.RSA(2048)},
			func(t *testing.T, leaf *x509.Certificate) {
				assert.Equal(t, 2048, leaf.PublicKey.(*rsa.PublicKey).N.BitLen())
			},
		},
	} {
		t.Run(name, func(t *testing.T) { test.check(t, instance(t, test.options...).Leaf()) })
	}
}

func TestOUsTakeEveryByteOfUTF8AndNothingElse(t *testing.T) {
	_, intermediate := authorities(t)
	for b := range 256 {
		ou := "app:" + string([]byte{byte(b)})
		credential, err := intermediate.Instance(backend, ca.OUs(ou))
		if b >= 0x80 {
			require.Error(t, err, "byte %#x", b)
			continue
		}
		require.NoError(t, err, "byte %#x", b)
		assert.Equal(t, []string{ou}, credential.Leaf().Subject.OrganizationalUnit)
	}
}

func TestInstanceRefusesAnIncompleteIdentity(t *testing.T) {
	_, intermediate := authorities(t)
	for name, test := range map[string]struct {
		id      ca.Identity
		options []ca.Option
		ok      bool
	}{
		"zero":                     {ca.Identity{}, nil, false},
		"no app":                   {ca.Identity{Space: "s", Org: "o", Instance: "i"}, nil, false},
		"no space":                 {ca.Identity{App: "a", Org: "o", Instance: "i"}, nil, false},
		"no org":                   {ca.Identity{App: "a", Space: "s", Instance: "i"}, nil, false},
		"no instance":              {ca.Identity{App: "a", Space: "s", Org: "o"}, nil, false},
		"no instance, OUs given":   {ca.Identity{}, []ca.Option{ca.OUs("x")}, false},
		"instance and OUs suffice": {ca.Identity{Instance: "i"}, []ca.Option{ca.OUs("x")}, true},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := intermediate.Instance(test.id, test.options...)
			assert.Equal(t, test.ok, err == nil, "%v", err)
		})
	}
}

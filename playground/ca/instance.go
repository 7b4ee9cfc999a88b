package ca

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"slices"
	"time"
)

// instanceLife is Diego's default instance_identity_validity_period_in_hours.
const instanceLife = 24 * time.Hour

// containerIP stands for the address that a container has inside its network.
var containerIP = net.IPv4(10, 255, 0, 1)

// Identity is what Cloud Controller and Diego say of one app instance: guids,
// lower case. Tasks, staging containers and ssh sessions of the app have the
// same App, Space and Org and an Instance of their own.
type Identity struct {
	App, Space, Org, Instance string
}

// Option changes what Instance issues.
type Option func(*order)

// order is what the options of one Instance call ask for.
type order struct {
	ous     []string
	changed bool
	newKey  func() (crypto.Signer, error)
	edits   []func(*x509.Certificate)
}

// OUs replaces the organizational units app:, space:, organization: by exactly
// these values, any valid UTF-8 (crypto/x509 neither writes nor reads others),
// in one multi-valued RDN. No values: no OU.
func OUs(values ...string) Option {
	return func(o *order) { o.ous, o.changed = values, true }
}

// RSA makes the key an RSA key of that many bits instead of ECDSA P-256. Diego
// uses 3072 since December 2025 and 2048 before; both take noticeable time.
func RSA(bits int) Option {
	return func(o *order) {
		o.newKey = func() (crypto.Signer, error) {
			key, err := rsa.GenerateKey(rand.Reader, bits)
			if err != nil {
				return nil, fmt.Errorf("ca: generate RSA key of %d bits: %w", bits, err)
			}
			return key, nil
		}
	}
}

// With edits the certificate template right before it is signed: validity,
// key usages, SANs, IsCA, anything. Edits run in the order given.
func With(edit func(*x509.Certificate)) Option {
	return func(o *order) { o.edits = append(o.edits, edit) }
}

// Instance issues an instance identity credential in Diego's shape: CN and DNS
// SAN are the instance guid, an IP SAN, the three OUs in one multi-valued RDN,
// clientAuth and serverAuth, no basic constraints, valid for 24 hours from now
// without back-dating. It fails when a guid is missing (unless OUs are given;
// the instance guid is always needed) or when x509 cannot sign the template.
func (a *Authority) Instance(id Identity, options ...Option) (*Credential, error) {
	wanted := order{newKey: newECKey, ous: id.organizationalUnits()}
	for _, option := range options {
		option(&wanted)
	}
	if id.Instance == "" || !wanted.changed && (id.App == "" || id.Space == "" || id.Org == "") {
		return nil, fmt.Errorf("ca: incomplete identity %+v: App, Space, Org and Instance must be guids", id)
	}
	template := instanceTemplate(id.Instance, wanted.ous)
	for _, edit := range wanted.edits {
		edit(template)
	}
	key, err := wanted.newKey()
	if err != nil {
		return nil, err
	}
	return a.issue(template, key)
}

// SelfSigned makes what anybody can make: an instance identity credential that
// only itself vouches for. Otherwise it is as those of Instance.
func SelfSigned(id Identity, options ...Option) (*Credential, error) {
	key, err := newECKey()
	if err != nil {
		return nil, err
	}
	options = append(slices.Clone(options), func(o *order) { o.newKey = func() (crypto.Signer, error) { return key, nil } })
	// An authority of the leaf's own name and key signs it.
	self := &Authority{certificate: &x509.Certificate{}, key: key}
	options = append(options, With(func(template *x509.Certificate) { self.certificate.Subject = template.Subject }))
	made, err := self.Instance(id, options...)
	if err != nil {
		return nil, err
	}
	made.issuer = made.leaf
	return made, nil
}

// Authority signs with the credential's key under its name, as its holder can,
// whether or not the certificate allows it.
func (c *Credential) Authority() *Authority { return &Authority{certificate: c.leaf, key: c.key} }

// organizationalUnits is the order in which Cloud Controller lists them. The
// certificate has another: DER sorts the members of a SET by their encoding.
func (id Identity) organizationalUnits() []string {
	return []string{"organization:" + id.Org, "space:" + id.Space, "app:" + id.App}
}

func instanceTemplate(instance string, ous []string) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: newSerial(),
		Subject:      pkix.Name{CommonName: instance, OrganizationalUnit: ous},
		DNSNames:     []string{instance},
		IPAddresses:  []net.IP{containerIP},
		NotBefore:    now,
		NotAfter:     now.Add(instanceLife),
		KeyUsage:     x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageKeyAgreement,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
}

package identity_test

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/playground/ca"
)

func TestCallerIsWhoTheCertificateNames(t *testing.T) {
	f := newFoundation(t)
	allow(t, f.verifier(t), f.leaf(t))
	allow(t, f.verifier(t), f.leaf(t, ca.RSA(2048)))
}

// Every attack here has a certificate that is signed by the caller CA: the
// identity in it is what is wrong.
func TestOrganizationalUnitsMustBeExactlyOneAppSpaceAndOrg(t *testing.T) {
	app, space, org := "app:"+frontend, "space:"+shop, "organization:"+acme
	attacks := map[string][]string{
		"no OU at all":                   {},
		"no app":                         {space, org},
		"no space":                       {app, org},
		"no organization":                {app, space},
		"two different apps":             {app, "app:" + other, space, org},
		"the same app twice":             {app, app, space, org},
		"two spaces":                     {app, space, "space:" + other, org},
		"two organizations":              {app, space, org, "organization:" + other},
		"an unknown OU besides":          {app, space, org, "process:" + other},
		"an OU without a prefix besides": {app, space, org, "payments"},
		"an empty OU besides":            {app, space, org, ""},
		"only the prefix":                {"app:", space, org},
		"the prefix without a colon":     {"app", space, org},
		"upper-case prefix":              {"APP:" + frontend, space, org},
		"short prefix of org":            {app, space, "org:" + acme},
		"upper-case guid":                {"app:" + strings.ToUpper(frontend), space, org},
		"nil guid":                       {"app:" + nobody, space, org},
		"nil guid, then a real one":      {"app:" + nobody, app, space, org},
		"guid in braces":                 {"app:{" + frontend + "}", space, org},
		"guid without hyphens":           {"app:" + strings.ReplaceAll(frontend, "-", ""), space, org},
		"hyphens moved":                  {"app:d76446a-1f429-4444-8797-be2f78b75b08", space, org},
		"guid cut short":                 {"app:" + frontend[:35], space, org},
		"guid too long":                  {"app:" + frontend + "0", space, org},
		"space in front":                 {" app:" + frontend, space, org},
		"space behind":                   {app + " ", space, org},
		"newline behind":                 {app + "\n", space, org},
		"NUL behind":                     {app + "\x00", space, org},
		"two in one OU":                  {app + ",app:" + other, space, org},
		"two colons":                     {"app::" + frontend, space, org},
		"full-width digits":              {"app:d76446a1-f429-4444-8797-be2f78b75b0\uff18", space, org},
		"all in one OU":                  {app + "+" + space + "+" + org},
	}
	f := newFoundation(t)
	v := f.verifier(t)
	for name, units := range attacks {
		t.Run(name, func(t *testing.T) {
			_ = deny(t, v, f.leaf(t, ca.OUs(units...)), identity.ErrIdentityExtraction)
		})
	}
}

// Whatever byte stands in an OU, the caller is exactly what the certificate
// says, or nobody.
func TestEveryByteAtEveryPlaceOfAnOU(t *testing.T) {
	signer := newHandSigner(t)
	v := trusting(t, signer.ca)
	der, unit := signer.leaf(nil), []byte("app:"+frontend)
	allow(t, v, xfcc(der))
	for place := range unit {
		for b := range 256 {
			changed := bytes.Clone(unit)
			changed[place] = byte(b)
			forged := signer.resign(der, func(tbs []byte) {
				at := bytes.Index(tbs, unit)
				tbs[at-2] = asn1.TagUTF8String // PrintableString would refuse most bytes by itself
				copy(tbs[at:], changed)
			})
			caller, err := v.Verify([]string{xfcc(forged)}, identity.Raw)
			if err == nil {
				require.Equal(t, string(changed), "app:"+caller.App.String())
				continue
			}
			require.Zero(t, caller)
			kind := identity.ErrIdentityExtraction
			if b >= 0x80 {
				kind = identity.ErrUntrustedCertificate // not UTF-8: no certificate
			}
			require.ErrorIs(t, err, kind, "byte %#x at %d", b, place)
		}
	}
}

func TestOneMultiValuedRDNAndSeparateRDNsNameTheSameCaller(t *testing.T) {
	app, space, org := ou("app:"+frontend), ou("space:"+shop), ou("organization:"+acme)
	names := map[string][]byte{
		"one RDN, as Diego writes":      subject(t, []attribute{cn(instance)}, []attribute{app, space, org}),
		"one RDN in another order":      subject(t, []attribute{org, app, space}, []attribute{cn(instance)}),
		"separate RDNs":                 subject(t, []attribute{org}, []attribute{space}, []attribute{app}, []attribute{cn(instance)}),
		"CN in the RDN of the OUs":      subject(t, []attribute{app, cn(instance), space}, []attribute{org}),
		"OU as PrintableString":         subject(t, []attribute{cn(instance)}, []attribute{text(app.Type, asn1.TagPrintableString, "app:"+frontend), space, org}),
		"attributes that name nobody":   subject(t, []attribute{cn(instance), text(asn1.ObjectIdentifier{2, 5, 4, 10}, asn1.TagUTF8String, "app:"+other)}, []attribute{app, space, org}),
		"an OU in the e-mail attribute": subject(t, []attribute{cn(instance), text(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}, asn1.TagIA5String, "app:"+other)}, []attribute{app, space, org}),
	}
	signer := newHandSigner(t)
	for name, der := range names {
		t.Run(name, func(t *testing.T) {
			allow(t, trusting(t, signer.ca), xfcc(signer.leaf(func(c *x509.Certificate) { c.RawSubject = der })))
		})
	}
}

func TestSubjectsThatSayTwoThings(t *testing.T) {
	app, space, org := ou("app:"+frontend), ou("space:"+shop), ou("organization:"+acme)
	oidOU := app.Type
	names := map[string]struct {
		subject []byte
		kind    error
	}{
		"two apps in one RDN":    {subject(t, []attribute{app, ou("app:" + other), space, org}), identity.ErrIdentityExtraction},
		"two apps in two RDNs":   {subject(t, []attribute{app, space, org}, []attribute{ou("app:" + other)}), identity.ErrIdentityExtraction},
		"two CNs":                {subject(t, []attribute{cn(instance)}, []attribute{cn("other")}, []attribute{app, space, org}), identity.ErrIdentityExtraction},
		"an OU that is a number": {subject(t, []attribute{{oidOU, asn1.RawValue{Tag: asn1.TagInteger, Bytes: []byte{7}}}, app, space, org}), identity.ErrUntrustedCertificate},
		"an OU of raw octets":    {subject(t, []attribute{text(oidOU, asn1.TagOctetString, "app:"+frontend), space, org}), identity.ErrUntrustedCertificate},
		"an OU that is a null":   {subject(t, []attribute{{oidOU, asn1.RawValue{Tag: asn1.TagNull}}, app, space, org}), identity.ErrUntrustedCertificate},
		"an OU that is not UTF8": {subject(t, []attribute{ou("app:\xff"), app, space, org}), identity.ErrUntrustedCertificate},
		"an OU with a NUL":       {subject(t, []attribute{ou("app:" + frontend + "\x00"), space, org}), identity.ErrIdentityExtraction},
		"an empty subject":       {subject(t), identity.ErrIdentityExtraction},
	}
	signer := newHandSigner(t)
	v := trusting(t, signer.ca)
	for name, c := range names {
		t.Run(name, func(t *testing.T) {
			_ = deny(t, v, xfcc(signer.leaf(func(l *x509.Certificate) { l.RawSubject = c.subject })), c.kind)
		})
	}
}

// The instance only informs: what is not of its shape is left out, and the
// caller stays.
func TestInstanceIsAPlainNameOrNothing(t *testing.T) {
	names := map[string]string{
		instance:                  instance,
		frontend:                  frontend,
		"a.b_c-D9":                "a.b_c-D9",
		strings.Repeat("a", 64):   strings.Repeat("a", 64),
		strings.Repeat("a", 65):   "",
		"app=x;space=y":           "",
		"two words":               "",
		"line\nbreak":             "",
		"\u202Egnp.exe":           "",
		"<script>":                "",
		"inst\u00e4nce":           "",
		"d76446a1-f429-4444-\x00": "",
	}
	signer := newHandSigner(t)
	v := trusting(t, signer.ca)
	units := []attribute{ou("app:" + frontend), ou("space:" + shop), ou("organization:" + acme)}
	for name, want := range names {
		t.Run(name, func(t *testing.T) {
			der := signer.leaf(func(l *x509.Certificate) { l.RawSubject = subject(t, []attribute{cn(name)}, units) })
			caller, err := v.Verify([]string{xfcc(der)}, identity.Raw)
			require.NoError(t, err)
			assert.Equal(t, want, caller.Instance)
		})
	}
}

func TestZeroCallerIsNobody(t *testing.T) {
	assert.True(t, identity.Caller{}.IsZero())
	assert.True(t, identity.Caller{App: guid(frontend), Space: guid(shop)}.IsZero(), "half a caller is nobody")
	assert.True(t, identity.Caller{Foundation: "local", Instance: instance}.IsZero())
	assert.False(t, frontendCaller.IsZero())
}

package acceptance_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground"
	"github.com/mtls-authz/mtls-authz/playground/ca"
)

// All of these say that they are the frontend, and carry a signature that is
// right for the key that made it.
func TestAttack11ForgedCertificates(t *testing.T) {
	t.Parallel()
	w := attacked(t)
	p := w.protect(t, protection{parameters: `{"allow":["cf:app:$frontend"]}`})
	frontend, now := playground.Frontend.Identity(), time.Now()
	forge := func(issuer *ca.Authority, options ...ca.Option) string {
		one, err := issuer.Instance(frontend, options...)
		require.NoError(t, err)
		return one.XFCC()
	}
	with := func(edit func(*x509.Certificate)) string { return forge(w.IdentityCA, ca.With(edit)) }
	usage := func(usages ...x509.ExtKeyUsage) string {
		return with(func(c *x509.Certificate) { c.ExtKeyUsage = usages })
	}
	dates := func(from, to time.Duration) string {
		return with(func(c *x509.Certificate) { c.NotBefore, c.NotAfter = now.Add(from), now.Add(to) })
	}
	authority := func(one *ca.Authority, err error) *ca.Authority {
		require.NoError(t, err)
		return one
	}
	self, err := ca.SelfSigned(frontend)
	require.NoError(t, err)
	selfCA, err := ca.SelfSigned(frontend, ca.With(func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }))
	require.NoError(t, err)
	foreign := authority(ca.NewRoot("appRootCA"))
	good := w.credentials["frontend"]
	flipped := append([]byte{}, good.Leaf().Raw...)
	flipped[len(flipped)-1] ^= 1
	stolen := strings.Replace(string(w.credentials["intruder"].Leaf().Raw), playground.Intruder.Identity().App, frontend.App, 1)
	raw := base64.StdEncoding.EncodeToString

	// To show that the others could pass.
	for name, header := range map[string]string{
		"the frontend's own": good.XFCC(), "of a clock that is fast by half a minute": dates(30*time.Second, time.Hour), "for clients only": usage(x509.ExtKeyUsageClientAuth),
	} {
		t.Run(name, func(t *testing.T) {
			p.direct(t, leg2{headers: []string{xfccHeader + ": " + header}}).expect(t, "200 allowed")
		})
	}
	for name, header := range map[string]string{
		"for servers":                 usage(x509.ExtKeyUsageServerAuth),
		"for nothing":                 usage(),
		"for anything":                usage(x509.ExtKeyUsageAny),
		"for code":                    usage(x509.ExtKeyUsageCodeSigning, x509.ExtKeyUsageEmailProtection),
		"a CA as leaf":                with(func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }),
		"expired beyond the skew":     dates(-time.Hour, -61*time.Second),
		"not valid for an hour yet":   dates(time.Hour, 2*time.Hour),
		"self-signed":                 self.XFCC(),
		"self-signed, as a CA":        selfCA.XFCC(),
		"signed by a leaf":            forge(good.Authority()),
		"of the root above":           forge(w.Root),
		"of a CA beside":              forge(authority(w.Root.Intermediate("instanceIdentityCA"))),
		"of a CA of the same name":    forge(authority(foreign.Intermediate("instanceIdentityCA"))),
		"of a root of the CA's name":  forge(authority(ca.NewRoot("instanceIdentityCA"))),
		"of the CA of routers":        forge(w.RouterCA),
		"a bit of the signature":      raw(flipped),
		"another's, its app replaced": raw([]byte(stolen)),
		"the CA itself":               raw(w.IdentityCA.Certificate().Raw),
		"leaf and CA":                 raw(append(append([]byte{}, good.Leaf().Raw...), w.IdentityCA.Certificate().Raw...)),
		"leaf and CA, each in base64": good.XFCC() + "," + raw(w.IdentityCA.Certificate().Raw),
		"a byte behind":               raw(append(append([]byte{}, good.Leaf().Raw...), 0)),
		"with a critical unknown extension": with(func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, Critical: true, Value: []byte{5, 0}}}
		}),
		"PEM in one line, as other proxies do": "-----BEGIN CERTIFICATE----- " + good.XFCC() + " -----END CERTIFICATE-----",
	} {
		t.Run(name, func(t *testing.T) { p.stranger(t, header, "403 untrusted_certificate") })
	}
}

// These are signed by the caller CA, as of a Diego that writes what it is told:
// the identity is what is forged.
func TestAttack11ForgedIdentities(t *testing.T) {
	t.Parallel()
	w := attacked(t)
	p := w.protect(t, protection{parameters: `{"allow":["cf:app:$frontend"]}`})
	id := playground.Frontend.Identity()
	app, space, org := "app:"+id.App, "space:"+id.Space, "organization:"+id.Org
	other := playground.Intruder.Identity()
	unit := func(value string) pkix.AttributeTypeAndValue {
		return pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 11}, Value: value}
	}
	name := func(values ...string) pkix.AttributeTypeAndValue {
		return pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: strings.Join(values, "")}
	}
	header := func(rdns pkix.RDNSequence) string {
		der, err := asn1.Marshal(rdns)
		require.NoError(t, err)
		one, err := w.IdentityCA.Instance(id, ca.With(func(c *x509.Certificate) { c.RawSubject = der }))
		require.NoError(t, err)
		return one.XFCC()
	}
	own := []pkix.AttributeTypeAndValue{unit(app), unit(space), unit(org)}
	for title, subject := range map[string]pkix.RDNSequence{
		"one RDN for all units":     {{name(id.Instance)}, own},
		"an RDN for each unit":      {{name(id.Instance)}, {unit(app)}, {unit(space)}, {unit(org)}},
		"the name among the units":  {append([]pkix.AttributeTypeAndValue{name(id.Instance)}, own...)},
		"the units before the name": {own, {name(id.Instance)}},
	} {
		t.Run(title, func(t *testing.T) {
			r := p.direct(t, leg2{headers: []string{xfccHeader + ": " + header(subject)}}).expect(t, "200 allowed")
			assert.Equal(t, id.App, r.line["caller_app"])
			assert.Equal(t, id.Instance, r.line["caller_instance"])
		})
	}
	units := func(values ...string) pkix.RDNSequence {
		var set []pkix.AttributeTypeAndValue
		for _, value := range values {
			set = append(set, unit(value))
		}
		return pkix.RDNSequence{{name(id.Instance)}, set}
	}
	for title, subject := range map[string]pkix.RDNSequence{
		"the app twice":                     units(app, app, space, org),
		"the app twice, in two RDNs":        {{unit(app)}, {name(id.Instance)}, own},
		"another app in an RDN before":      {{unit("app:" + other.App)}, {name(id.Instance)}, own},
		"another app in an RDN behind":      {{name(id.Instance)}, own, {unit("app:" + other.App)}},
		"another space beside the name":     {{name(id.Instance), unit("space:" + other.Space)}, own},
		"two names":                         {{name(id.Instance)}, {name(other.Instance)}, own},
		"no app":                            units(space, org),
		"no unit":                           {{name(id.Instance)}},
		"a unit that is not of ours":        units(app, space, org, "payments"),
		"an unknown prefix":                 units(app, space, org, "process:"+id.App),
		"upper case":                        units(strings.ToUpper(app), space, org),
		"an upper case guid":                units("app:"+strings.ToUpper(id.App), space, org),
		"a guid without hyphens":            units("app:"+strings.ReplaceAll(id.App, "-", ""), space, org),
		"a guid in braces":                  units("app:{"+id.App+"}", space, org),
		"a URN":                             units("app:urn:uuid:"+id.App, space, org),
		"the nil guid":                      units("app:00000000-0000-0000-0000-000000000000", space, org),
		"a guid that is too short":          units(app[:len(app)-1], space, org),
		"a guid that is too long":           units(app+"0", space, org),
		"a guid and a newline":              units(app+"\n", space, org),
		"a guid and a NUL":                  units(app+"\x00", space, org),
		"a space in front":                  units(" "+app, space, org),
		"full-width digits":                 units("app:\uff10"+id.App[1:], space, org),
		"two in one unit":                   units(app+",app:"+other.App, space, org),
		"all in one unit":                   units(app + "+OU=" + space + "+OU=" + org),
		"units that swap app and space":     units("app:"+id.Space+",", "space:"+id.App, org),
		"the attribute of another's schema": {{name(id.Instance)}, {{Type: asn1.ObjectIdentifier{2, 5, 4, 10}, Value: app}, unit(space), unit(org)}},
	} {
		t.Run(title, func(t *testing.T) { p.stranger(t, header(subject), "403 identity_extraction") })
	}
}

// stranger expects that whoever comes with this header is nobody.
func (p *protected) stranger(t *testing.T, header, want string) {
	t.Helper()
	r := p.direct(t, leg2{headers: []string{xfccHeader + ": " + header}}).expect(t, want)
	for _, name := range []string{"caller_app", "caller_space", "caller_org", "caller_instance"} {
		assert.Empty(t, r.line[name], name)
	}
}

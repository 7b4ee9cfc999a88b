package identity_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/identity"
)

const (
	envoyHash    = "Hash=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	envoyUnits   = "OU=app:" + frontend + "+OU=space:" + shop + "+OU=organization:" + acme
	envoyName    = "CN=" + instance + "," + envoyUnits
	envoyElement = envoyHash + `;Subject="` + envoyName + `"`
)

func TestEnvoyFormNamesTheCaller(t *testing.T) {
	v := newFoundation(t).verifier(t)
	for name, header := range map[string]string{
		"as gorouter writes it": envoyElement,
		"with a URI":            envoyElement + ";URI=spiffe://cf/app",
		"with a quoted URI":     envoyElement + `;URI="spiffe://cf/a;b,c"`,
		"with By and DNS":       "By=spiffe://router;" + envoyElement + ";DNS=" + instance,
		"Subject before Hash":   `Subject="` + envoyName + `";` + envoyHash,
		"Hash in upper case":    "Hash=" + strings.ToUpper(envoyHash[5:]) + `;Subject="` + envoyName + `"`,
		"Hash quoted":           `Hash="` + envoyHash[5:] + `";Subject="` + envoyName + `"`,
		"separate RDNs":         envoyHash + `;Subject="` + strings.ReplaceAll(envoyName, "+", ",") + `"`,
		"OUs before the CN":     envoyHash + `;Subject="` + envoyUnits + ",CN=" + instance + `"`,
	} {
		t.Run(name, func(t *testing.T) {
			caller, err := v.Verify([]string{header}, identity.Envoy)
			require.NoError(t, err)
			assert.Equal(t, frontendCaller, caller)
		})
	}
}

func TestEnvoyGrammarIsStrict(t *testing.T) {
	subject := `Subject="` + envoyName + `"`
	v := newFoundation(t).verifier(t)
	for name, header := range map[string]string{
		"two elements":                   envoyElement + "," + envoyElement,
		"an element of a proxy in front": "By=x," + envoyElement,
		"Hash missing":                   subject,
		"Subject missing":                envoyHash,
		"only a URI":                     "URI=spiffe://cf/app",
		"Hash twice":                     envoyHash + ";" + envoyElement,
		"Subject twice":                  envoyElement + ";" + subject,
		"empty Subject, then another":    envoyHash + `;Subject="";` + subject,
		"URI twice":                      envoyElement + ";URI=a;URI=b",
		"an empty element":               envoyElement + ";",
		"an empty element inside":        envoyHash + ";;" + subject,
		"empty URI":                      envoyElement + ";URI=",
		"a semicolon in front":           ";" + envoyElement,
		"a certificate":                  envoyElement + ";Cert=" + `"-----BEGIN"`,
		"a chain":                        envoyElement + `;Chain="x"`,
		"an unknown key":                 envoyElement + ";Foo=bar",
		"a key in lower case":            strings.Replace(envoyElement, "Subject", "subject", 1),
		"a space after the semicolon":    envoyHash + "; " + subject,
		"a key without a value":          envoyElement + ";URI",
		"Hash too short":                 "Hash=abc;" + subject,
		"Hash too long":                  envoyHash + "0;" + subject,
		"Hash not hexadecimal":           strings.Replace(envoyElement, "0123", "xyz!", 1),
		"Hash of control characters":     "Hash=" + strings.Repeat("\x11", 64) + ";" + subject,
		"Subject not quoted":             envoyHash + ";Subject=" + strings.ReplaceAll(envoyName, ",", "+"),
		"not quoted behind a decoy":      envoyHash + `;By="Subject=";Subject=` + strings.ReplaceAll(envoyName, ",", "+"),
		"quotes not closed":              envoyHash + `;Subject="` + envoyName,
		"backslash in a bare value":      envoyElement + `;URI=a\b`,
		"quotes nested":                  envoyHash + `;Subject="CN="x",` + envoyUnits + `"`,
		"quotes escaped":                 envoyHash + `;Subject="CN=\"x\",` + envoyUnits + `"`,
		"a backslash":                    envoyHash + `;Subject="CN=a\,OU=app:` + other + `,` + envoyUnits + `"`,
		"text after the quotes":          envoyHash + ";" + subject + "x",
		"a newline":                      envoyElement + "\n",
		"a NUL in the URI":               envoyElement + ";URI=a\x00b",
		"a control character quoted":     envoyElement + ";URI=\"a\x1bb\"",
		"not ASCII":                      envoyElement + ";URI=\u00e4",
		"not UTF-8":                      envoyElement + ";URI=\xff",
		"a certificate in raw form":      "MIIB",
	} {
		t.Run(name, func(t *testing.T) {
			caller, err := v.Verify([]string{header}, identity.Envoy)
			_ = checkRefusal(t, caller, err, identity.ErrUntrustedCertificate)
		})
	}
}

// A router that sends raw certificates where Envoy's form is expected: the log
// gets the reason, and not the certificate.
func TestARefusalOfEnvoysFormDoesNotQuoteACertificate(t *testing.T) {
	f := newFoundation(t)
	raw := f.leaf(t)
	for _, header := range []string{raw, raw + "=", raw[:100] + "=" + raw, "Hash=" + raw, envoyElement + ";" + raw + "=" + raw} {
		_, err := f.verifier(t).Verify([]string{header}, identity.Envoy)
		require.ErrorIs(t, err, identity.ErrUntrustedCertificate)
		assert.NotContains(t, err.Error(), "MII")
	}
}

func TestEnvoySubjectMustBeAnInstanceCertificate(t *testing.T) {
	v := newFoundation(t).verifier(t)
	for name, subject := range map[string]string{
		"empty":                         "",
		"no OU":                         "CN=" + instance,
		"no space":                      "CN=i,OU=app:" + frontend + "+OU=organization:" + acme,
		"two apps":                      envoyName + "+OU=app:" + other,
		"the same app twice":            envoyName + "+OU=app:" + frontend,
		"an unknown OU":                 envoyName + ",OU=payments",
		"two CNs":                       "CN=x," + envoyName,
		"another attribute":             "O=acme," + envoyName,
		"an attribute by OID":           "2.5.4.11=app:" + frontend + "," + envoyName,
		"an OU in hexadecimal":          "OU=#0c04," + envoyName,
		"lower-case types":              strings.ReplaceAll(envoyName, "OU=", "ou="),
		"space after the comma":         strings.ReplaceAll(envoyName, ",", ", "),
		"slashes, as OpenSSL writes":    "/CN=" + instance + "/" + strings.ReplaceAll(envoyUnits, "+", "/"),
		"semicolons between RDNs":       strings.ReplaceAll(envoyName, ",", ";"),
		"a comma too many":              envoyName + ",",
		"a plus in front":               "+" + envoyName,
		"an empty value":                "CN=," + envoyUnits,
		"upper-case guid":               strings.Replace(envoyName, frontend, strings.ToUpper(frontend), 1),
		"nil guid":                      strings.Replace(envoyName, frontend, nobody, 1),
		"an attribute inside a value":   "CN=x=OU=app:" + other + "," + envoyUnits,
		"a script in the CN":            "CN=<script>," + envoyUnits,
		"an OU that continues with a +": "CN=x,OU=app:" + frontend + "+" + "space:" + shop + ",OU=organization:" + acme,
	} {
		t.Run(name, func(t *testing.T) {
			caller, err := v.Verify([]string{envoyHash + `;Subject="` + subject + `"`}, identity.Envoy)
			_ = checkRefusal(t, caller, err, identity.ErrIdentityExtraction)
		})
	}
}

// As for certificates: the caller is exactly what the subject says, or nobody.
func TestEveryByteAtEveryPlaceOfAnEnvoySubject(t *testing.T) {
	v := newFoundation(t).verifier(t)
	for place := range envoyUnits {
		for b := range 256 {
			units := envoyUnits[:place] + string([]byte{byte(b)}) + envoyUnits[place+1:]
			caller, err := v.Verify([]string{envoyHash + `;Subject="CN=` + instance + "," + units + `"`}, identity.Envoy)
			if err != nil {
				require.Zero(t, caller)
				continue
			}
			said := "OU=app:" + caller.App.String() + "+OU=space:" + caller.Space.String() + "+OU=organization:" + caller.Org.String()
			require.Equal(t, strings.ReplaceAll(units, ",", "+"), said)
		}
	}
}

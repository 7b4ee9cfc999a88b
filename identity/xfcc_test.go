package identity_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/identity"
)

func TestNoHeaderIsNoCertificate(t *testing.T) {
	v := newFoundation(t).verifier(t)
	for _, format := range []identity.Format{identity.Raw, identity.Envoy} {
		for name, values := range map[string][]string{"absent": nil, "no values": {}, "empty": {""}} {
			caller, err := v.Verify(values, format)
			checkRefusal(t, caller, err, identity.ErrNoCertificate)
			assert.NotErrorIs(t, err, identity.ErrUntrustedCertificate, name)
		}
	}
}

func TestSeveralHeadersAreUntrusted(t *testing.T) {
	f := newFoundation(t)
	v, leaf := f.verifier(t), f.leaf(t)
	allow(t, v, leaf) // remembered, which must not help
	for name, values := range map[string][]string{
		"the same twice":     {leaf, leaf},
		"a second caller":    {leaf, f.leaf(t)},
		"an empty one first": {"", leaf},
		"an empty one last":  {leaf, ""},
		"two empty ones":     {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			for _, format := range []identity.Format{identity.Raw, identity.Envoy} {
				caller, err := v.Verify(values, format)
				checkRefusal(t, caller, err, identity.ErrUntrustedCertificate)
			}
		})
	}
}

func TestRawIsOneLineOfStandardBase64OfOneCertificate(t *testing.T) {
	signer := newHandSigner(t)
	v := trusting(t, signer.ca)
	der := signer.leaf(nil)
	for len(der)%3 != 1 { // two bytes of padding; a signature's length varies by itself
		der = signer.leaf(nil)
	}
	good := xfcc(der)
	allow(t, v, good)
	allow(t, v, xfcc(padded(signer, 8<<10)))
	armoured := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	attacks := map[string]string{
		"PEM":                            armoured,
		"PEM in one line":                strings.ReplaceAll(armoured, "\n", ""),
		"PEM, URL-encoded":               strings.NewReplacer("\n", "%0A", " ", "%20", "+", "%2B", "/", "%2F", "=", "%3D").Replace(armoured),
		"newline in the middle":          good[:64] + "\n" + good[64:],
		"newline at the end":             good + "\n",
		"carriage return":                good[:64] + "\r" + good[64:],
		"space in the middle":            good[:64] + " " + good[64:],
		"space in front":                 " " + good,
		"only a space":                   " ",
		"tab behind":                     good + "\t",
		"NUL behind":                     good + "\x00",
		"URL alphabet":                   base64.URLEncoding.EncodeToString(append(der, 0xff, 0xfe)),
		"padding missing":                strings.TrimRight(good, "="),
		"padding doubled":                good + "=",
		"bits in the padding":            strings.TrimRight(good, "=")[:len(good)-3] + nextDigit(good[len(good)-3]) + "==",
		"text behind the padding":        good + "AAAA",
		"a second certificate, one text": xfcc(append(append([]byte{}, der...), der...)),
		"a second certificate, joined":   good + good,
		"a list, as proxies join":        good + "," + good,
		"trailing bytes":                 xfcc(append(append([]byte{}, der...), 0)),
		"cut short":                      xfcc(der[:len(der)-1]),
		"only the signed part":           xfcc(der[4:]),
		"not a certificate":              base64.StdEncoding.EncodeToString([]byte("frontend")),
		"Envoy's form":                   `Hash=` + strings.Repeat("a", 64) + `;Subject="CN=x,OU=app:` + frontend + `+OU=space:` + shop + `+OU=organization:` + acme + `"`,
		"longer than any certificate":    strings.Repeat("A", 1<<20),
		"a real one, far too long":       xfcc(padded(signer, 12<<10)),
	}
	for name, header := range attacks {
		t.Run(name, func(t *testing.T) {
			deny(t, v, header, identity.ErrUntrustedCertificate)
		})
	}
}

// padded is a good certificate that is that many bytes longer.
func padded(signer *handSigner, bytes int) []byte {
	return signer.leaf(func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 3, 6, 1, 4, 1, 99999, 1}, Value: make([]byte, bytes)}}
	})
}

// nextDigit sets the lowest of the bits that padding leaves unused.
func nextDigit(digit byte) string {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	at := strings.IndexByte(digits, digit)
	return digits[at+1 : at+2]
}

func TestFormatNames(t *testing.T) {
	for _, format := range []identity.Format{identity.Raw, identity.Envoy} {
		back, err := identity.ParseFormat(format.String())
		require.NoError(t, err)
		assert.Equal(t, format, back)
	}
	for _, s := range []string{"", "RAW", "envoy ", "xfcc"} {
		format, err := identity.ParseFormat(s)
		assert.Error(t, err)
		assert.Equal(t, identity.Raw, format, "in doubt the form that is verified")
	}
}

func TestUnknownFormatIsVerifiedAsRaw(t *testing.T) {
	f := newFoundation(t)
	caller, err := f.verifier(t).Verify([]string{envoyElement}, identity.Format(7))
	checkRefusal(t, caller, err, identity.ErrUntrustedCertificate)
}

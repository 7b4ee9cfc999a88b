package identity_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/identity"
)

// checkAnswer is the invariant of Verify, whatever it is given: a whole caller
// without an error, or nobody with a known refusal.
func checkAnswer(t *testing.T, caller identity.Caller, err error) {
	t.Helper()
	if err == nil {
		require.False(t, caller.IsZero())
		require.Equal(t, "local", caller.Foundation)
		return
	}
	for _, kind := range []error{identity.ErrNoCertificate, identity.ErrUntrustedCertificate, identity.ErrIdentityExtraction} {
		if errors.Is(err, kind) {
			_ = checkRefusal(t, caller, err, kind)
			return
		}
	}
	t.Fatalf("unknown refusal %v", err)
}

// What the bytes of FuzzRaw are.
const (
	asHeader = iota // the header itself
	asDER           // a certificate, to be encoded
	asSigned        // the signed part of a certificate, to be signed by the caller CA
)

// FuzzRaw: a header that is accepted is exactly the base64 of one certificate
// of the caller CA, and its OUs say the caller and nothing else. The key and
// the clock are fixed, so that corpus and workers agree.
func FuzzRaw(f *testing.F) {
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), bytes.Repeat([]byte{7}, 32))
	require.NoError(f, err)
	signer, now := signWith(f, key), time.Now()
	v := trustingAt(f, func() time.Time { return now }, signer.ca)
	der := signer.leaf(func(c *x509.Certificate) { c.NotBefore, c.NotAfter = now.AddDate(-10, 0, 0), now.AddDate(10, 0, 0) })
	leaf, err := x509.ParseCertificate(der)
	require.NoError(f, err)
	f.Add([]byte(xfcc(der)), byte(asHeader))
	f.Add([]byte(""), byte(asHeader))
	f.Add([]byte("=\n"), byte(asHeader))
	f.Add(der, byte(asDER))
	f.Add(append(bytes.Clone(der), 0), byte(asDER))
	f.Add(signer.ca.Raw, byte(asDER))
	f.Add(leaf.RawTBSCertificate, byte(asSigned))
	f.Add(bytes.Replace(leaf.RawTBSCertificate, []byte("app:"), []byte("apq:"), 1), byte(asSigned))
	f.Add(bytes.Replace(leaf.RawTBSCertificate, []byte("app:d"), []byte("app:D"), 1), byte(asSigned))
	f.Fuzz(func(t *testing.T, input []byte, what byte) {
		header := string(input)
		switch what % 3 {
		case asDER:
			header = xfcc(input)
		case asSigned:
			header = xfcc((&handSigner{t: t, key: key}).sign(input))
		}
		caller, err := v.Verify([]string{header}, identity.Raw)
		checkAnswer(t, caller, err)
		if err != nil {
			return
		}
		decoded, err := base64.StdEncoding.DecodeString(header)
		require.NoError(t, err)
		require.Equal(t, xfcc(decoded), header, "one spelling")
		leaf, err := x509.ParseCertificate(decoded)
		require.NoError(t, err)
		require.NoError(t, leaf.CheckSignatureFrom(signer.ca))
		require.ElementsMatch(t, leaf.Subject.OrganizationalUnit, []string{
			"app:" + caller.App.String(), "space:" + caller.Space.String(), "organization:" + caller.Org.String(),
		})
	})
}

// The grammar of Envoy's form once more, as one regular expression: pairs in any
// order, Subject in quotes, and nothing in quotes that ends them early.
var (
	envoyGrammar = regexp.MustCompile(`\A(?:(?:By|Hash|URI|DNS)=(?:"[ !#-\[\]-~]*"|[ !#-+\--:<-\[\]-~]+)|Subject="[ !#-\[\]-~]*")` +
		`(?:;(?:(?:By|Hash|URI|DNS)=(?:"[ !#-\[\]-~]*"|[ !#-+\--:<-\[\]-~]+)|Subject="[ !#-\[\]-~]*"))*\z`)
	guidGrammar = regexp.MustCompile(`\A[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\z`)
)

// FuzzGUID: a guid is refused, or its own spelling.
func FuzzGUID(f *testing.F) {
	for _, s := range []string{"d76446a1-f429-4444-8797-be2f78b75b08", "00000000-0000-0000-0000-000000000000", "D76446A1-F429-4444-8797-BE2F78B75B08", "d76446a1f42944448797be2f78b75b08", "{d76446a1-f429-4444-8797-be2f78b75b08}", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := identity.ParseGUID(s)
		require.Equal(t, guidGrammar.MatchString(s) && strings.Trim(s, "0-") != "", err == nil, "%v", err)
		if err != nil {
			require.Zero(t, id)
			return
		}
		require.Equal(t, s, id.String())
	})
}

// FuzzEnvoy: a header that is accepted is of the grammar, says each part of the
// caller exactly once, and holds nothing that could end an element early.
func FuzzEnvoy(f *testing.F) {
	v := newFoundation(f).verifier(f)
	f.Add(envoyElement)
	f.Add(envoyElement + ";URI=spiffe://cf/app")
	f.Add(`By=a;DNS="b";` + envoyElement)
	f.Add(envoyElement + "," + envoyElement)
	f.Add(envoyHash + `;Subject="CN=\"x\",` + envoyUnits + `"`)
	f.Add(`Subject=";Hash="`)
	f.Fuzz(func(t *testing.T, header string) {
		caller, err := v.Verify([]string{header}, identity.Envoy)
		checkAnswer(t, caller, err)
		if err != nil {
			return
		}
		require.Regexp(t, envoyGrammar, header)
		for _, key := range []string{"By=", "Hash=", "Subject=", "URI=", "DNS="} {
			pairs := regexp.MustCompile(`(?:\A|;)`+key).FindAllString(regexp.MustCompile(`"[^"]*"`).ReplaceAllString(header, `""`), -1)
			require.LessOrEqual(t, len(pairs), 1, key)
		}
		subject := header[strings.Index(header, `Subject="`)+len(`Subject="`):]
		subject = subject[:strings.IndexByte(subject, '"')]
		for _, unit := range []string{"OU=app:" + caller.App.String(), "OU=space:" + caller.Space.String(), "OU=organization:" + caller.Org.String()} {
			require.Contains(t, subject, unit)
		}
		require.Equal(t, 3, strings.Count(subject, "OU="))
		require.NotContains(t, header, `\`)
	})
}

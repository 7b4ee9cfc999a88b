package acceptance_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// Certificates as the router's header carries them; all but the first claim to
// be the frontend.
func TestOnlyAVerifiedInstanceCertificateIsACaller(t *testing.T) {
	t.Parallel()
	p := common(t).protect(t, protection{parameters: `{"allow":["cf:any"]}`})
	for caller, want := range map[string]string{
		"frontend": "200 allowed", "": "403 no_certificate", "foreign CA": "403 untrusted_certificate",
		"expired": "403 untrusted_certificate", "CA as leaf": "403 untrusted_certificate",
		"two apps": "403 identity_extraction", "no space": "403 identity_extraction", "upper case guid": "403 identity_extraction",
	} {
		t.Run(caller, func(t *testing.T) {
			r := p.direct(t, leg2{caller: caller}).expect(t, want)
			if caller != "frontend" {
				for _, name := range []string{"caller_app", "caller_space", "caller_org", "caller_instance"} {
					assert.Empty(t, r.line[name], name)
				}
			}
		})
	}
}

// The same through the router, where it lets such clients in.
func TestTheRoutersClientsAreNotTrustedAsCallers(t *testing.T) {
	t.Parallel()
	p := common(t).protect(t, protection{parameters: `{"allow":["cf:any"]}`})
	p.call(t, "", "GET", "/").expect(t, "403 no_certificate")
	p.call(t, "foreign CA", "GET", "/").expect(t, "403 untrusted_certificate")
	p.call(t, "two apps", "GET", "/").expect(t, "403 identity_extraction")
	p.call(t, "no space", "GET", "/").expect(t, "403 identity_extraction")
}

func TestACertificateHeaderThatIsNotExactlyOneCertificateIsRefused(t *testing.T) {
	t.Parallel()
	p := common(t).protect(t, protection{parameters: `{"allow":["cf:any"]}`})
	good := p.credentials["frontend"].XFCC()
	der, err := base64.StdEncoding.DecodeString(good)
	assert.NoError(t, err)
	for name, headers := range map[string][]string{
		"twice the same":  {good, good},
		"two in one":      {good + "," + good},
		"rubbish":         {"rubbish"},
		"trailing bytes":  {base64.StdEncoding.EncodeToString(append(der, 0))},
		"truncated":       {base64.StdEncoding.EncodeToString(der[:len(der)-1])},
		"two in one DER":  {base64.StdEncoding.EncodeToString(append(append([]byte{}, der...), der...))},
		"the Envoy form":  {`Hash=00;Subject="OU=app:x"`},
		"URL-encoded PEM": {"-----BEGIN%20CERTIFICATE-----"},
	} {
		t.Run(name, func(t *testing.T) {
			var lines []string
			for _, value := range headers {
				lines = append(lines, xfccHeader+": "+value)
			}
			p.direct(t, leg2{headers: lines}).expect(t, "403 untrusted_certificate")
		})
	}
	t.Run("empty", func(t *testing.T) {
		r := p.direct(t, leg2{headers: []string{xfccHeader + ": "}})
		assert.True(t, strings.HasPrefix(r.outcome(), "403 "), r.outcome())
	})
}

func TestTheLineNamesTheIssuerOfAnUntrustedCertificate(t *testing.T) {
	t.Parallel()
	p := common(t).protect(t, protection{parameters: `{"allow":["cf:any"]}`})
	r := p.direct(t, leg2{caller: "foreign CA"}).expect(t, "403 untrusted_certificate")
	assert.NotEmpty(t, r.line["issuer_key_id"])
}

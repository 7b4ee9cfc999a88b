package acceptance_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestTheLineNamesTheIssuerOfAnUntrustedCertificate(t *testing.T) {
	t.Parallel()
	p := common(t).protect(t, protection{parameters: `{"allow":["cf:any"]}`})
	r := p.direct(t, leg2{caller: "foreign CA"}).expect(t, "403 untrusted_certificate")
	assert.NotEmpty(t, r.line["issuer_key_id"])
}

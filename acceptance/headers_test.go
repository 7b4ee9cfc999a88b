package acceptance_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// gatewayNames are names that mean something when the gateway says them, and
// spellings that some apps take for them.
var gatewayNames = []string{
	"X-Mtls-Authz-Caller", "X-Mtls-Authz-Decision", "X-Mtls-Authz-Assertion", "X-Mtls-Authz-Policy-Tier", "X-Mtls-Authz-Anything",
	"X_Mtls_Authz_Caller", "X-Mtls_Authz-Caller", "x_mtls_authz_anything",
	"X_Forwarded_Client_Cert", "X-Forwarded_Client-Cert", "x_cf_forwarded_url", "X_CF_Proxy_Signature", "X-CF_Proxy-Metadata",
}

const forgedValue = "forged-by-the-test"

func assertNoForgery(t *testing.T, headers http.Header) {
	t.Helper()
	for name, values := range headers {
		assert.NotContains(t, strings.Join(values, ","), forgedValue, name)
	}
}

func TestTheAppCannotSpeakInTheGatewaysName(t *testing.T) {
	t.Parallel()
	p := common(t).protect(t, protection{parameters: `{"allow":["cf:any"]}`, handler: func(w http.ResponseWriter, _ *http.Request) {
		for _, name := range gatewayNames {
			w.Header()[name] = []string{forgedValue}
		}
		for _, name := range []string{forwardedURLHeader, signatureHeader, metadataHeader} {
			w.Header().Set(name, forgedValue)
		}
		w.Header().Set("Trailer", "X-Mtls-Authz-Caller, X-Mtls_Authz-Decision, X-Checksum")
		w.Header().Set("X-Own", "kept")
		_, _ = io.WriteString(w, "body")
		w.Header().Set("X-Mtls-Authz-Caller", forgedValue)
		w.Header()["X-Mtls_Authz-Decision"] = []string{forgedValue}
		w.Header().Set("X-Checksum", "kept")
		w.Header().Set(http.TrailerPrefix+"X-Mtls-Authz-Late", forgedValue)
	}})
	r := p.call(t, "frontend", "GET", "/").expect(t, "200 allowed")
	assertNoForgery(t, r.header)
	assertNoForgery(t, r.trailer)
	assert.NotContains(t, r.trailer, "X-Mtls-Authz-Caller", "not even announced")
	assert.Equal(t, "kept", r.header.Get("X-Own"))
	assert.Equal(t, "kept", r.trailer.Get("X-Checksum"))
}

// The app is itself behind a gateway and calls another protected route: its
// own requests are new ones, and carry the header no more.
func TestTheAppGetsTheHopHeaderThatMarksALoop(t *testing.T) {
	t.Parallel()
	p := common(t).protect(t, protection{parameters: `{"allow":["cf:any"]}`})
	p.call(t, "frontend", "GET", "/").expect(t, "200 allowed")
	assert.NotEmpty(t, p.app.last(t).header.Get("X-Mtls-Authz-Hop"))
}

func TestForwardingHeadersAreKept(t *testing.T) {
	t.Parallel()
	p := common(t).protect(t, protection{parameters: `{"allow":["cf:any"]}`})
	p.call(t, "frontend", "GET", "/", "X-Forwarded-For: 192.0.2.1", "X-Forwarded-Host: public.example.com", "X-Forwarded-Proto: http",
		"Forwarded: for=192.0.2.1", "X-Own: a", "X-Own: b", "Accept-Encoding: br", "User-Agent: test/1").expect(t, "200 allowed")
	got := p.app.last(t).header
	assert.True(t, strings.HasPrefix(got.Get("X-Forwarded-For"), "192.0.2.1, "), got.Get("X-Forwarded-For"))
	assert.Equal(t, "public.example.com", got.Get("X-Forwarded-Host"))
	assert.Equal(t, "http", got.Get("X-Forwarded-Proto"))
	assert.Equal(t, "for=192.0.2.1", got.Get("Forwarded"))
	assert.Equal(t, []string{"a", "b"}, got["X-Own"])
	assert.Equal(t, "br", got.Get("Accept-Encoding"))
	assert.Equal(t, "test/1", got.Get("User-Agent"))
}

func TestHopByHopHeadersAreNotForwarded(t *testing.T) {
	t.Parallel()
	p := common(t).protect(t, protection{parameters: `{"allow":["cf:any"]}`})
	p.direct(t, leg2{caller: "frontend", headers: []string{"Connection: X-Listed", "X-Listed: 1", "Keep-Alive: 1", "Proxy-Authorization: x", "Proxy-Connection: x"}}).expect(t, "200 allowed")
	for _, name := range []string{"X-Listed", "Keep-Alive", "Proxy-Authorization", "Proxy-Connection"} {
		assert.NotContains(t, p.app.last(t).header, name)
	}
}

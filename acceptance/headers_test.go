package acceptance_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
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

func TestHeadersThatOnlyTheGatewayMaySendNeverReachTheApp(t *testing.T) {
	t.Parallel()
	w := common(t)
	for _, parameters := range []string{`{"allow":["cf:any"]}`, `{"mode":"report"}`} {
		p := w.protect(t, protection{parameters: parameters})
		for _, name := range gatewayNames {
			r := p.direct(t, leg2{caller: "frontend", headers: []string{name + ": " + forgedValue, "X-Own: kept"}})
			require.Equal(t, 200, r.status, name)
			assertNoForgery(t, p.app.last(t).header)
			assert.Equal(t, "kept", p.app.last(t).header.Get("X-Own"))
		}
		// Through the router, as clients come.
		var lines []string
		for _, name := range gatewayNames {
			lines = append(lines, name+": "+forgedValue)
		}
		p.call(t, "frontend", "GET", "/", lines...)
		assertNoForgery(t, p.app.last(t).header)
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

// Apps that listen to these take another method or path than was decided on.
func TestOverrideHeadersAreRefusedWhereMethodOrPathDecide(t *testing.T) {
	t.Parallel()
	w := common(t)
	decides := map[string]*protected{
		"methods": w.protect(t, protection{parameters: `{"allow":["cf:app:$frontend",{"source":"cf:app:$backend","methods":["GET"]}]}`}),
		"paths":   w.protect(t, protection{parameters: `{"allow":["cf:app:$frontend",{"source":"cf:app:$backend","paths":["/a"]}]}`}),
		"a check": policed(t).protect(t, protection{parameters: `{"allow":["cf:app:$frontend"]}`}),
	}
	free := w.protect(t, protection{parameters: `{"allow":["cf:app:$frontend"]}`})
	for _, name := range []string{
		"X-HTTP-Method", "X-HTTP-Method-Override", "X-Method-Override", "X-Original-URL", "X-Rewrite-URL", "X_HTTP_Method_Override", "x-rewrite_url",
	} {
		for what, p := range decides {
			r := p.call(t, "frontend", "GET", "/", name+": DELETE")
			assert.Equal(t, "400 malformed_request", r.outcome(), "%s where %s decides", name, what)
		}
		free.call(t, "frontend", "GET", "/", name+": DELETE").expect(t, "200 allowed")
	}
}

func TestARequestThatHasPassedTheGatewayIsALoop(t *testing.T) {
	t.Parallel()
	w := common(t)
	for _, parameters := range []string{`{"allow":["cf:any"]}`, `{"mode":"report"}`} {
		p := w.protect(t, protection{plan: "any", parameters: parameters})
		for _, name := range []string{"X-Mtls-Authz-Hop", "x_mtls_authz_hop", "X-Mtls_Authz-Hop"} {
			p.direct(t, leg2{caller: "frontend", headers: []string{name + ": 1"}}).expect(t, "400 loop")
			p.call(t, "frontend", "GET", "/", name+": 1").expect(t, "400 loop")
		}
		p.call(t, "gateway", "GET", "/").expect(t, "400 loop")
	}
}

// The app is itself behind a gateway and calls another protected route: its
// own requests are new ones, and carry the header no more.
func TestTheAppGetsTheHopHeaderThatMarksALoop(t *testing.T) {
	t.Parallel()
	p := common(t).protect(t, protection{parameters: `{"allow":["cf:any"]}`})
	p.call(t, "frontend", "GET", "/").expect(t, "200 allowed")
	assert.NotEmpty(t, p.app.last(t).header.Get("X-Mtls-Authz-Hop"))
}

func TestTheThreeHeadersMustBeThereExactlyOnce(t *testing.T) {
	t.Parallel()
	p := common(t).protect(t, protection{parameters: `{"allow":["cf:any"]}`})
	for _, name := range []string{forwardedURLHeader, signatureHeader, metadataHeader} {
		for _, request := range []leg2{
			{without: []string{name}},
			{headers: []string{name + ": https://" + p.route + "/"}},
			{without: []string{name}, headers: []string{name + ":"}},
			{without: []string{name}, headers: []string{strings.ReplaceAll(name, "-", "_") + ": x"}},
		} {
			request.caller = "frontend"
			p.direct(t, request).expect(t, "400 malformed_request")
		}
	}
	// Listed as hop-by-hop they do not arrive.
	p.call(t, "frontend", "GET", "/", "Connection: close, "+signatureHeader).expect(t, "400 malformed_request")
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

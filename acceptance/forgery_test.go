package acceptance_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/mtls-authz/mtls-authz/playground"
	"github.com/mtls-authz/mtls-authz/playground/router"
)

func (w *world) forged() string { return xfccHeader + ": " + w.credentials["frontend"].XFCC() }

func TestAForgedCertificateHeaderIsNobodyBehindSanitizeSet(t *testing.T) {
	t.Parallel()
	p := common(t).protect(t, protection{plan: "any", parameters: `{"allow":["cf:app:$frontend"]}`})
	p.call(t, "", "GET", "/", p.forged()).expect(t, "403 no_certificate")
	p.call(t, "intruder", "GET", "/", p.forged()).expect(t, noMatch)
}

// In these modes the router passes a client's own header on; the self-test
// notices, and nobody passes, the real one included.
func TestARouterThatPassesForgedHeadersOnIsNotTrusted(t *testing.T) {
	t.Parallel()
	const untrusted = "503 router_untrusted"
	for _, mode := range []router.ForwardedClientCert{router.Forward, router.AlwaysForward} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			var w *world
			if mode == router.Forward {
				w = forwards(t)
			} else {
				w = start(t, setup{mode: mode, untrusted: true})
			}
			p := w.protect(t, protection{parameters: `{"allow":["cf:any"]}`})
			r := p.call(t, "frontend", "GET", "/").expect(t, untrusted)
			assert.Equal(t, "gateway:router_untrusted", r.line["mtls_policy"])
			assert.Empty(t, r.line["caller_app"])
			p.call(t, "intruder", "GET", "/", p.forged()).expect(t, untrusted)
			p.call(t, "", "GET", "/", p.forged()).expect(t, untrusted)
		})
	}
}

func TestAnOperatorsWordReplacesTheSelfTest(t *testing.T) {
	t.Parallel()
	w := limited(t)
	// A route each: these have room for one request, which may still be ending
	// when its answer has come.
	route := func() *protected {
		return w.protect(t, protection{plan: "any", parameters: `{"allow":["cf:app:$frontend"]}`})
	}
	route().call(t, "frontend", "GET", "/").expect(t, "200 allowed")
	route().call(t, "intruder", "GET", "/", w.forged()).expect(t, noMatch)
	route().call(t, "", "GET", "/", w.forged()).expect(t, "403 no_certificate")
}

// The intruder owns a route with a route service of its own: it holds
// signatures, and forges caller and forwarded URL with one. The secret in the
// URL stops it.
func TestASignatureOfAnotherRouteIsUselessWithoutTheSecretURL(t *testing.T) {
	t.Parallel()
	w := common(t)
	p := w.protect(t, protection{parameters: `{"allow":["cf:app:$frontend"]}`})
	own := w.protect(t, protection{})
	p.direct(t, leg2{caller: "frontend", signed: "https://" + own.route + "/", path: "/r/" + p.bound.GUID + "/guessed"}).expect(t, "403 unknown_binding")
	// Through the router, as such a client would.
	header := w.Router.Sign("https://" + own.route + "/")
	r := p.callHost(t, playground.GatewayHost, "intruder", "GET", "/r/"+p.bound.GUID+"/guessed",
		"X-Cf-Forwarded-Url: https://"+p.route+"/", signatureHeader+": "+header.Get(signatureHeader), metadataHeader+": "+header.Get(metadataHeader), p.forged())
	r.expect(t, "403 unknown_binding")
	assert.Zero(t, p.app.count())
}

// Even with the secret: leg 3 goes through the router, which refuses.
func TestTheRouterRefusesASignatureOfAnotherRouteOnLeg3(t *testing.T) {
	t.Parallel()
	w := common(t)
	p := w.protect(t, protection{parameters: `{"allow":["cf:app:$frontend"]}`})
	own := w.protect(t, protection{})
	r := p.direct(t, leg2{caller: "frontend", signed: "https://" + own.route + "/"}).expect(t, "502 router_rejected")
	assert.Equal(t, "denied", r.line["mtls_auth"])
	assert.Equal(t, true, r.line["router_rejected"])
	assert.Zero(t, p.app.count())
}

func TestTheRouterRefusesAnExpiredSignatureOnLeg3(t *testing.T) {
	t.Parallel()
	p := common(t).protect(t, protection{parameters: `{"allow":["cf:app:$frontend"]}`})
	r := p.direct(t, leg2{caller: "frontend", age: 2 * time.Minute}).expect(t, "504 router_rejected")
	assert.Equal(t, true, r.line["router_rejected"])
	assert.Zero(t, p.app.count())
}

func TestAForgedSignatureIsRefusedByTheRouterOnLeg3(t *testing.T) {
	t.Parallel()
	p := common(t).protect(t, protection{parameters: `{"allow":["cf:app:$frontend"]}`})
	r := p.direct(t, leg2{caller: "frontend", without: []string{signatureHeader}, headers: []string{signatureHeader + ": AAAA"}})
	r.expect(t, "502 router_rejected")
	assert.Equal(t, true, r.line["router_rejected"])
}

// The caller may pass one route; its forwarded URL names another, and the
// signature fits.
func TestAForwardedURLOfAnotherRouteIsAMismatch(t *testing.T) {
	t.Parallel()
	w := common(t)
	p := w.protect(t, protection{parameters: `{"allow":["cf:any"]}`})
	other := w.protect(t, protection{parameters: `{"allow":["cf:app:$monitoring"]}`})
	p.direct(t, leg2{caller: "frontend", forwarded: "https://" + other.route + "/"}).expect(t, "403 route_mismatch")
	assert.Zero(t, other.app.count())
}

package acceptance_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground"
	"github.com/mtls-authz/mtls-authz/playground/router"
)

// attacked is a world whose gateway finds a proxy in its environment that leads
// nowhere, may protect wildcard routes, and takes Envoy's form on one domain.
var attacked = lazy(setup{env: []string{
	"HTTPS_PROXY=http://127.0.0.1:1", "https_proxy=http://127.0.0.1:1", "HTTP_PROXY=http://127.0.0.1:1", "ALL_PROXY=socks5://127.0.0.1:1",
	"ALLOW_WILDCARD_ROUTES=true", "XFCC_FORMAT=envoy.apps.identity=envoy,raw",
}})

// Behind sanitize_set the router takes the header off. In the other modes it
// passes a client's own on: the self-test notices, and nobody passes, the real
// one included.
func TestAttack01XFCCSetByTheClient(t *testing.T) {
	t.Parallel()
	t.Run(string(router.SanitizeSet), func(t *testing.T) {
		p := attacked(t).protect(t, protection{plan: "any", parameters: `{"allow":["cf:app:$frontend"]}`})
		p.call(t, "", "GET", "/", p.forged()).expect(t, "403 no_certificate")
		p.call(t, "intruder", "GET", "/", p.forged()).expect(t, noMatch)
		p.call(t, "intruder", "GET", "/", strings.ToUpper(xfccHeader)+": "+p.credentials["frontend"].XFCC(), p.forged()).expect(t, noMatch)
		p.call(t, "", "GET", "/", strings.ReplaceAll(p.forged(), "-", "_")).expect(t, "403 no_certificate")
	})
	// The path of the self-test is a path like others, and a word like its own is
	// none.
	t.Run("a probe that is none", func(t *testing.T) {
		p := attacked(t).protect(t, protection{plan: "any", parameters: `{"allow":["cf:app:$frontend"]}`})
		for _, query := range []string{"", "?", "?AAAA.BBBB", "?" + strings.Repeat("A", 32) + "." + strings.Repeat("A", 43) + "x"} {
			p.call(t, "", "GET", probePath+query, p.forged()).expect(t, "403 no_certificate")
			p.call(t, "intruder", "GET", probePath+query, p.forged()).expect(t, noMatch)
			p.call(t, "frontend", "GET", probePath+query).expect(t, "200 allowed")
			assert.Equal(t, probePath+query, p.app.last(t).target)
			// On the gateway's own route.
			res, err := p.client("frontend").Get("https://" + playground.GatewayHost + probePath + query)
			require.NoError(t, err)
			require.NoError(t, res.Body.Close())
			assert.Equal(t, http.StatusNotFound, res.StatusCode)
		}
	})
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
			// An app that answers the gateway's probes itself, because its route is not
			// bound in the router, does not make the router trusted: neither in a domain
			// that is known to be unsafe, nor in one that nobody knows yet.
			const seen = `{"seen":"nothing","mac":"AAAA"}`
			for _, host := range []string{"liar." + playground.Domain, "liar.wild." + playground.Domain} {
				liar := w.protect(t, protection{route: host, parameters: `{"allow":["cf:any"]}`, probed: func(w http.ResponseWriter) {
					w.Header().Set("Content-Type", "application/json")
					_, _ = w.Write([]byte(seen))
				}})
				require.NoError(t, w.Router.Unbind(host))
				liar.direct(t, leg2{caller: "frontend"}).expect(t, untrusted)
				liar.direct(t, leg2{headers: []string{liar.forged()}}).expect(t, untrusted)
			}
		})
	}
}

// The intruder owns a route with a route service of its own: it holds
// signatures, and forges caller and forwarded URL with one.
func TestAttack02XFCCForgedWithASignatureOfAnotherRoute(t *testing.T) {
	t.Parallel()
	w := attacked(t)
	p := w.protect(t, protection{parameters: `{"allow":["cf:app:$frontend"]}`})
	own := w.protect(t, protection{})

	t.Run("the secret in the URL stops it", func(t *testing.T) {
		p.direct(t, leg2{caller: "frontend", signed: "https://" + own.route + "/", path: "/r/" + p.bound.GUID + "/guessed"}).expect(t, "403 unknown_binding")
		// Through the router, as such a client would.
		header := w.Router.Sign("https://" + own.route + "/")
		r := p.callHost(t, playground.GatewayHost, "intruder", "GET", "/r/"+p.bound.GUID+"/guessed",
			"X-Cf-Forwarded-Url: https://"+p.route+"/", signatureHeader+": "+header.Get(signatureHeader), metadataHeader+": "+header.Get(metadataHeader), p.forged())
		r.expect(t, "403 unknown_binding")
	})

	t.Run("so does the token of another binding", func(t *testing.T) {
		token := own.url[strings.LastIndex(own.url, "/")+1:]
		p.direct(t, leg2{caller: "frontend", path: "/r/" + p.bound.GUID + "/" + token}).expect(t, "403 unknown_binding")
		own.direct(t, leg2{caller: "frontend", forwarded: "https://" + p.route + "/"}).expect(t, "403 route_mismatch")
	})

	// Even with the secret, leg 3 goes through the router.
	for name, test := range map[string]struct {
		want    string
		request leg2
	}{
		"of another route": {"502 router_rejected", leg2{signed: "https://" + own.route + "/"}},
		"expired":          {"504 router_rejected", leg2{age: 2 * time.Minute}},
		"of nobody":        {"502 router_rejected", leg2{without: []string{signatureHeader}, headers: []string{signatureHeader + ": AAAA"}}},
		"of nobody, HEAD":  {"502 router_rejected", leg2{method: "HEAD", without: []string{metadataHeader}, headers: []string{metadataHeader + ": AAAA"}}},
	} {
		t.Run("the router refuses a signature "+name, func(t *testing.T) {
			test.request.caller = "frontend"
			r := p.direct(t, test.request).expect(t, test.want)
			assert.Equal(t, "denied", r.line["mtls_auth"])
			assert.Equal(t, true, r.line["router_rejected"])
		})
	}
	assert.Zero(t, p.app.count())
}

// A neighbour's signature outlives the neighbour's route: when a more specific
// route is withdrawn, what was signed for it leads to its parent, and the router
// takes it for the parent's. The secret stops whoever sends it to the gateway;
// whoever goes around the gateway with it has no assertion.
func TestAttack02ASignatureOfANeighbourThatWasWithdrawn(t *testing.T) {
	t.Parallel()
	w := attacked(t)
	table, ok := w.Router.(interface {
		Deregister(route, backend string) error
	})
	require.True(t, ok, "the router cannot withdraw a route")
	for name, test := range map[string]struct{ victim, neighbour, host, path string }{
		"below a wildcard":     {"*.withdrawn.apps.identity", "mallory.withdrawn.apps.identity", "shop.withdrawn.apps.identity", "/"},
		"below a context path": {"withdrawn.apps.identity/shop", "withdrawn.apps.identity/shop/mallory", "withdrawn.apps.identity", "/shop/"},
	} {
		t.Run(name, func(t *testing.T) {
			app := &verifying{}
			p := w.protect(t, protection{route: test.victim, parameters: `{"assert":true,"allow":["cf:app:$frontend"]}`, handler: app.ServeHTTP})
			p.host = test.host
			app.verifier = verifierOf(t, p)
			forwarded := "https://" + test.neighbour + "/"

			own := newApp(t, nil)
			require.NoError(t, w.Router.Register(test.neighbour, own.url))
			require.NoError(t, w.Router.Bind(test.neighbour, "https://mallory.example.com/"))
			signed := w.Router.Sign(forwarded) // as mallory.example.com was given
			require.NoError(t, w.Router.Unbind(test.neighbour))
			require.NoError(t, table.Deregister(test.neighbour, own.url))

			// To the gateway, as the frontend on its way to the victim.
			forged := []string{p.forged()}
			for _, header := range []string{signatureHeader, metadataHeader} {
				forged = append(forged, header+": "+signed.Get(header))
			}
			for _, path := range []string{"/r/" + p.bound.GUID + "/", "/r/" + p.bound.GUID + "/AAAAAAAAAAAAAAAAAAAAAA"} {
				r := p.callHost(t, playground.GatewayHost, "intruder", "GET", path, append(forged, forwardedURLHeader+": "+forwarded)...)
				r.expect(t, "403 unknown_binding")
			}
			assert.Zero(t, p.app.count())

			// Around it: the router believes certificate and signature, and the app
			// gets the forged one. Only the assertion is missing.
			through := *p
			through.host = playground.GatewayHost // a name that the router has a certificate for
			conn := through.dial(t, "intruder")
			writeRequest(t, conn, "GET "+test.path+" HTTP/1.1", append(forged, "Host: "+test.host, forwardedURLHeader+": "+forwarded,
				"X-Mtls-Authz-Caller: app="+playground.Frontend.Identity().App), "")
			res := readResponse(t, conn, "GET")
			defer res.Body.Close()
			assert.Equal(t, 1, p.app.count(), "the router lets it through to the app")
			assert.Equal(t, p.credentials["frontend"].XFCC(), p.app.last(t).header.Get(xfccHeader), "as the frontend")
			assert.Equal(t, http.StatusForbidden, res.StatusCode, "an app that verifies knows better")
		})
	}
}

func TestAttack05OpenProxyAndSSRF(t *testing.T) {
	t.Parallel()
	w := attacked(t)
	p := w.protect(t, protection{parameters: `{"allow":["cf:any"]}`})
	other := w.protect(t, protection{parameters: `{"allow":["cf:app:$monitoring"]}`})

	t.Run("only the bound host", func(t *testing.T) {
		// The caller may pass one route; its forwarded URL names another, and the
		// signature fits.
		p.direct(t, leg2{caller: "frontend", forwarded: "https://" + other.route + "/"}).expect(t, "403 route_mismatch")
		for _, host := range []string{"evil.example", "localhost", "x." + p.host, playground.GatewayHost, playground.Domain, p.host + ".evil.example"} {
			p.direct(t, leg2{caller: "frontend", forwarded: "https://" + host + "/"}).expect(t, "403 route_mismatch")
		}
	})

	t.Run("a wildcard means labels before its suffix", func(t *testing.T) {
		const suffix = ".wild.apps.identity"
		wide := w.protect(t, protection{route: "*" + suffix, parameters: `{"allow":["cf:any"]}`})
		wide.direct(t, leg2{caller: "frontend", forwarded: "https://a" + suffix + "/"}).expect(t, "200 allowed")
		assert.Equal(t, "a"+suffix, wide.app.last(t).host)
		for _, host := range []string{"evil.example", "evilwild.apps.identity", suffix[1:], "a" + suffix + ".evil.example", other.host} {
			wide.direct(t, leg2{caller: "frontend", forwarded: "https://" + host + "/"}).expect(t, "403 route_mismatch")
		}
		for _, host := range []string{
			suffix, "*" + suffix, "a" + suffix + ".", "a" + suffix + ":8443", "u@a" + suffix, "evil.example#" + suffix, `evil.example\` + suffix, "a%2e" + suffix,
			"127.0.0.1", "[::1]", "127.0.0.1:443", "169.254.169.254", "0x7f.1", "2130706433",
		} {
			wide.direct(t, leg2{caller: "frontend", forwarded: "https://" + host + "/"}).expect(t, "400 malformed_request")
		}
		assert.Equal(t, 1, wide.app.count())
	})

	t.Run("no redirect is followed", func(t *testing.T) {
		away := w.protect(t, protection{parameters: `{"allow":["cf:any"]}`, handler: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://"+other.host+"/", http.StatusTemporaryRedirect)
		}})
		away.direct(t, leg2{caller: "frontend"}).expect(t, "307 allowed")
	})

	t.Run("only https", func(t *testing.T) {
		p.direct(t, leg2{caller: "frontend", forwarded: "http://" + p.route + "/"}).expect(t, "400 malformed_request")
	})
	assert.Zero(t, other.app.count()+p.app.count())
}

func TestAttack17LoopsAndConfusedDeputies(t *testing.T) {
	t.Parallel()
	w := attacked(t)
	for _, parameters := range []string{`{"allow":["cf:any"]}`, `{"mode":"report"}`} {
		p := w.protect(t, protection{plan: "any", parameters: parameters})
		for _, name := range []string{"X-Mtls-Authz-Hop", "x_mtls_authz_hop", "X-Mtls_Authz-Hop", "X.Mtls.Authz.Hop"} {
			p.direct(t, leg2{caller: "frontend", headers: []string{name + ": 1"}}).expect(t, "400 loop")
			p.call(t, "frontend", "GET", "/", name+": 1").expect(t, "400 loop")
			p.direct(t, leg2{caller: "frontend", headers: []string{name + ":", "Connection: " + name}}).expect(t, "400 loop")
		}
		// The gateway's own certificate, as somebody has it who makes the gateway
		// call for him.
		p.call(t, "gateway", "GET", "/").expect(t, "400 loop")
	}
}

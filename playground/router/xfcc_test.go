package router_test

import (
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground/ca"
	"github.com/mtls-authz/mtls-authz/playground/router"
)

const (
	xfcc   = "X-Forwarded-Client-Cert"
	forged = "forged"
)

func TestXFCCOnLeg1(t *testing.T) {
	const realCert = "the real certificate"
	for _, test := range []struct {
		name        string
		mode        router.ForwardedClientCert
		certificate bool
		want        []string
	}{
		{"sanitize_set, no certificate, forged header: absent", router.SanitizeSet, false, nil},
		{"sanitize_set, own certificate, forged header: the real certificate", router.SanitizeSet, true, []string{realCert}},
		{"forward, no certificate, forged header: absent", router.Forward, false, nil},
		{"forward, own certificate, forged header: forged", router.Forward, true, []string{forged}},
		{"always_forward, no certificate, forged header: forged", router.AlwaysForward, false, []string{forged}},
		{"always_forward, own certificate, forged header: forged", router.AlwaysForward, true, []string{forged}},
		{"the stand-in's default is sanitize_set", "", false, nil},
	} {
		for _, bound := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, bound %t", test.name, bound), func(t *testing.T) {
				w := newWorld(t, mode(test.mode))
				requests, handler := record()
				if bound {
					w.bind()
					w.app(handler, gateway)
				}
				w.app(handler, host)
				client := w.client()
				if test.certificate {
					client = w.client(w.caller)
				}
				w.get(client, "https://"+host+"/", xfcc, forged)
				want := test.want
				if len(want) == 1 && want[0] == realCert {
					want = []string{w.caller.XFCC()}
				}
				assert.Equal(t, want, (<-requests).Header[xfcc])
			})
		}
	}
}

func TestXFCCOnLeg3(t *testing.T) {
	for _, test := range []struct {
		mode router.ForwardedClientCert
		kept bool
	}{
		{router.SanitizeSet, true}, {router.Forward, false}, {router.AlwaysForward, true},
	} {
		t.Run(fmt.Sprintf("%s: kept %t", test.mode, test.kept), func(t *testing.T) {
			w := newWorld(t, mode(test.mode))
			requests, handler := record()
			w.app(handler, host)
			w.bind()
			leg2 := w.routeService(nil)
			res := w.get(w.client(w.caller), "https://"+host+"/", xfcc, forged)
			require.Equal(t, http.StatusOK, res.StatusCode, res.body)
			carried := (<-leg2).Header[xfcc]
			require.Len(t, carried, 1, "leg 2 keeps it: TLS and a valid signature")
			if test.kept {
				assert.Equal(t, carried, (<-requests).Header[xfcc])
			} else {
				assert.Empty(t, (<-requests).Header[xfcc])
			}
		})
	}
}

func TestXFCCAddsWhatTheClientPresentedOnly(t *testing.T) {
	w := newWorld(t)
	requests, handler := record()
	w.app(handler, host)
	w.get(w.client(w.caller), "https://"+host+"/")
	assert.Equal(t, []string{w.caller.XFCC()}, (<-requests).Header[xfcc])
	w.get(w.client(), "https://"+host+"/")
	assert.Empty(t, (<-requests).Header[xfcc])
}

// Leg 2 never proves for which route a signature was made: the attack that the
// token in the route service URL is there for.
func TestXFCCForgedOnTheGatewaysRouteWithASignatureOfAnotherRoute(t *testing.T) {
	w := newWorld(t)
	requests, handler := record()
	w.app(handler, gateway)
	header := w.router.Sign("https://attacker.apps.identity/")
	header.Set(xfcc, forged)
	header.Set("X-CF-Forwarded-Url", "https://"+host+"/")
	w.do(w.client(), signed(t, "https://"+gateway+"/r/x", header))
	got := <-requests
	assert.Equal(t, []string{forged}, got.Header[xfcc])
	assert.Equal(t, "https://"+host+"/", got.Header.Get("X-CF-Forwarded-Url"))
	assert.NotEmpty(t, got.Header.Get("X-CF-Proxy-Signature"), "unbound: the three headers reach the app")
}

func TestXFCCWithoutAValidSignatureIsSanitizedOnUnboundRoutes(t *testing.T) {
	for name, spoil := range map[string]func(http.Header){
		"no signature":         func(h http.Header) { h.Del("X-CF-Proxy-Signature") },
		"unreadable signature": func(h http.Header) { h.Set("X-CF-Proxy-Signature", "AAAA") },
		"no metadata":          func(h http.Header) { h.Del("X-CF-Proxy-Metadata") },
		"no forwarded url":     func(h http.Header) { h.Del("X-CF-Forwarded-Url") },
		"unreadable metadata":  func(h http.Header) { h.Set("X-CF-Proxy-Metadata", "e30=") },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			requests, handler := record()
			w.app(handler, gateway)
			header := w.router.Sign("https://attacker.apps.identity/")
			header.Set(xfcc, forged)
			spoil(header)
			res := w.do(w.client(), signed(t, "https://"+gateway+"/", header))
			assert.Equal(t, http.StatusOK, res.StatusCode)
			assert.Empty(t, (<-requests).Header[xfcc])
		})
	}
}

func TestDomainsHaveTheirOwnModeAndFormat(t *testing.T) {
	w := newWorld(t, func(c *router.Config) {
		c.Domains = []router.Domain{
			{Pattern: "always.apps.identity", ForwardedClientCert: router.AlwaysForward},
			{Pattern: "*.apps.identity", XFCCFormat: router.Envoy},
		}
	})
	requests, handler := record()
	w.app(handler, "*.apps.identity", "*.iso.identity")
	envoy := fmt.Sprintf(`Hash=%x;Subject="CN=instance,OU=app:app,OU=space:space,OU=organization:org"`,
		sha256.Sum256(w.caller.Leaf().Raw))
	for name, test := range map[string]struct{ host, want string }{
		"first pattern that matches":   {"always.apps.identity", forged},
		"envoy format":                 {"Any.apps.identity", envoy},
		"wildcards match one label":    {"a.b.apps.identity", w.caller.XFCC()},
		"other domains: the default's": {"x.iso.identity", w.caller.XFCC()},
	} {
		t.Run(name, func(t *testing.T) {
			w.get(w.client(w.caller), "https://"+test.host+"/", xfcc, forged)
			assert.Equal(t, []string{test.want}, (<-requests).Header[xfcc])
		})
	}
}

func TestCertificatesOfOtherCAsEndTheHandshake(t *testing.T) {
	w := newWorld(t)
	w.app(func(http.ResponseWriter, *http.Request) {}, host)
	other, err := ca.NewRoot("other")
	require.NoError(t, err)
	stranger, err := other.Instance(ca.Identity{App: "a", Space: "s", Org: "o", Instance: "i"})
	require.NoError(t, err)
	config := tlsConfig(stranger)
	config.RootCAs, config.ServerName = pool(w.root), host
	chosen := stranger.TLS()
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &chosen, nil }
	conn, err := tls.Dial("tcp", w.router.Addr(), config)
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.Read(make([]byte, 1)) // TLS 1.3 clients learn of it here
	assert.ErrorContains(t, err, "unknown certificate authority")
}

func TestDomainThatRequiresACertificate(t *testing.T) {
	w := newWorld(t, func(c *router.Config) {
		c.Domains = []router.Domain{{Pattern: "*.iso.identity", RequireCertificate: true}}
	})
	w.app(func(http.ResponseWriter, *http.Request) {}, "*.iso.identity", host)
	_, err := w.client().Get("https://a.iso.identity/")
	require.Error(t, err, "no certificate, no handshake")

	for name, test := range map[string]struct {
		sni, host string
		want      int
	}{
		"SNI and Host of the domain":     {"a.iso.identity", "a.iso.identity", http.StatusOK},
		"two hosts of the domain":        {"a.iso.identity", "b.iso.identity", http.StatusOK},
		"Host of it, SNI of another":     {host, "a.iso.identity", http.StatusMisdirectedRequest},
		"SNI of it, Host of another":     {"a.iso.identity", host, http.StatusMisdirectedRequest},
		"neither: certificates optional": {host, host, http.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			req, err := http.NewRequest(http.MethodGet, "https://"+test.sni+"/", nil)
			require.NoError(t, err)
			req.Host = test.host
			assert.Equal(t, test.want, w.do(w.client(w.caller), req).StatusCode)
		})
	}
}

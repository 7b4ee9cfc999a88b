package router_test

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground/router"
)

func TestLeg2GoesToExactlyTheRouteServiceURL(t *testing.T) {
	for name, service := range map[string]string{
		"path":           serviceURL,
		"path and query": serviceURL + "?a=1",
		"no path":        "https://" + gateway,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			requests, handler := record()
			w.app(handler, gateway)
			w.app(handler, host)
			require.NoError(t, w.router.Bind(host, service))
			req, err := http.NewRequest("PATCH", "https://"+host+"/other?x=1", strings.NewReader("body"))
			require.NoError(t, err)
			req.Header.Set("X-Own", "kept")
			w.do(w.client(), req)
			got := <-requests
			want := strings.TrimPrefix(service, "https://"+gateway)
			if want == "" {
				want = "/"
			}
			assert.Equal(t, want, got.RequestURI)
			assert.Equal(t, gateway, got.Host)
			assert.Equal(t, "PATCH", got.Method)
			assert.Equal(t, "kept", got.Header.Get("X-Own"))
			assert.Equal(t, int64(4), got.ContentLength)
		})
	}
}

func TestForwardedURLIsTheRawOriginal(t *testing.T) {
	for name, test := range map[string]struct{ line, host, want string }{
		"escapes and dots":      {"/api/a%2Fb/../c?q=1", host, "https://" + host + "/api/a%2Fb/../c?q=1"},
		"the port is dropped":   {"/x", host + ":8443", "https://" + host + "/x"},
		"case of the host":      {"/x", "BackEnd.apps.identity", "https://BackEnd.apps.identity/x"},
		"double slash":          {"//a//b", host, "https://" + host + "//a//b"},
		"semicolon, nul, query": {"/a;b%00c?d;e&f=%zz", host, "https://" + host + "/a;b%00c?d;e&f=%zz"},
		"absolute form doubles": {"http://" + host + "/abs", host, "https://" + host + "http://" + host + "/abs"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			requests, handler := record()
			w.app(handler, gateway)
			w.app(handler, host)
			w.bind()
			res := w.raw(host, "GET "+test.line+" HTTP/1.1", "Host: "+test.host)
			require.Equal(t, http.StatusOK, res.StatusCode, res.body)
			got := <-requests
			assert.Equal(t, gateway, got.Host)
			assert.Equal(t, []string{test.want}, got.Header["X-Cf-Forwarded-Url"])
			assert.Len(t, got.Header["X-Cf-Proxy-Signature"], 1)
			assert.Len(t, got.Header["X-Cf-Proxy-Metadata"], 1)
		})
	}
}

func TestLeg1ReplacesTheClientsMetadataAndForwardedURL(t *testing.T) {
	w := newWorld(t)
	requests, handler := record()
	w.app(handler, gateway, host)
	w.bind()
	w.get(w.client(), "https://"+host+"/x", "X-CF-Forwarded-Url", "https://evil/", "X-CF-Forwarded-Url", "https://evil/2",
		"X-CF-Proxy-Metadata", "evil")
	got := <-requests
	assert.Equal(t, []string{"https://" + host + "/x"}, got.Header["X-Cf-Forwarded-Url"])
	assert.NotEqual(t, []string{"evil"}, got.Header["X-Cf-Proxy-Metadata"])
}

func TestLeg3ReachesTheAppWithoutTheThreeHeaders(t *testing.T) {
	w := newWorld(t)
	requests, handler := record()
	w.app(handler, host)
	w.bind()
	w.routeService(nil)
	res := w.get(w.client(), "https://"+host+"/path?q=1")
	require.Equal(t, http.StatusOK, res.StatusCode, res.body)
	got := <-requests
	assert.Equal(t, "/path?q=1", got.RequestURI)
	assert.Equal(t, host, got.Host)
	for _, name := range []string{"X-Cf-Forwarded-Url", "X-Cf-Proxy-Signature", "X-Cf-Proxy-Metadata"} {
		assert.NotContains(t, got.Header, name)
	}
}

// The gateway alone guards the path: the router compares pools.
func TestLeg3DoesNotComparePaths(t *testing.T) {
	w := newWorld(t)
	requests, handler := record()
	w.app(handler, host)
	w.bind()
	w.do(w.client(), signed(t, "https://"+host+"/admin", w.router.Sign("https://"+host+"/public")))
	assert.Equal(t, "/admin", (<-requests).RequestURI)
}

func TestLeg3IsRefused(t *testing.T) {
	type edit = func(w *world, h http.Header)
	const refusal = ": Failed to validate Route Service Signature: "
	sign := func(url string) edit {
		return func(w *world, h http.Header) {
			for name, values := range w.router.Sign(url) {
				h[name] = values
			}
		}
	}
	for name, test := range map[string]struct {
		edit   edit
		status int
	}{
		"signed for another route":         {sign("https://other.apps.identity/"), http.StatusBadGateway},
		"signed for an unknown route":      {sign("https://unknown.apps.identity/"), http.StatusBadGateway},
		"signed for a longer context path": {sign("https://" + host + "/deep/x"), http.StatusBadGateway},
		"signed URL cannot be parsed":      {sign("https://%zz/"), http.StatusBadGateway},
		"doubled URL of an absolute form":  {sign("https://" + host + "http://" + host + "/abs"), http.StatusBadGateway},
		"unreadable signature":             {func(_ *world, h http.Header) { h.Set("X-CF-Proxy-Signature", "AAAA") }, http.StatusBadGateway},
		"signature that is not base64":     {func(_ *world, h http.Header) { h.Set("X-CF-Proxy-Signature", "!") }, http.StatusBadGateway},
		"metadata missing":                 {func(_ *world, h http.Header) { h.Del("X-CF-Proxy-Metadata") }, http.StatusBadGateway},
		"metadata that is not base64":      {func(_ *world, h http.Header) { h.Set("X-CF-Proxy-Metadata", "!") }, http.StatusBadGateway},
		"metadata without nonce":           {func(_ *world, h http.Header) { h.Set("X-CF-Proxy-Metadata", "e30=") }, http.StatusBadGateway},
		"metadata of another signature": {func(w *world, h http.Header) {
			h.Set("X-CF-Proxy-Metadata", w.router.Sign("x").Get("X-CF-Proxy-Metadata"))
		}, http.StatusBadGateway},
		"first of two signatures counts: bad": {func(_ *world, h http.Header) {
			h["X-Cf-Proxy-Signature"] = append([]string{"AAAA"}, h["X-Cf-Proxy-Signature"]...)
		}, http.StatusBadGateway},
		"signature removed: it is leg 1 anew":  {func(_ *world, h http.Header) { h.Del("X-CF-Proxy-Signature") }, http.StatusTeapot},
		"forwarded url is not looked at":       {func(_ *world, h http.Header) { h.Set("X-CF-Forwarded-Url", "https://evil/") }, http.StatusOK},
		"first of two signatures counts: good": {func(_ *world, h http.Header) { h.Add("X-CF-Proxy-Signature", "AAAA") }, http.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.app(func(http.ResponseWriter, *http.Request) {}, host, host+"/deep", "other.apps.identity")
			w.app(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusTeapot) }, gateway)
			w.bind()
			header := w.router.Sign("https://" + host + "/")
			test.edit(w, header)
			res := w.do(w.client(), signed(t, "https://"+host+"/", header))
			assert.Equal(t, test.status, res.StatusCode, res.body)
			if test.status == http.StatusBadGateway {
				assert.True(t, strings.HasPrefix(res.body, "502 Bad Gateway"+refusal), res.body)
				assert.Empty(t, res.Header.Get("X-Cf-Routererror"), "gorouter sends none here")
				assert.NotContains(t, res.body, header.Get("X-CF-Proxy-Signature"))
			}
		})
	}
}

func expired(c *router.Config) { c.SignatureLifetime = time.Nanosecond }

func TestLeg3WithAnExpiredSignatureIs504(t *testing.T) {
	w := newWorld(t, expired)
	w.app(func(http.ResponseWriter, *http.Request) {}, host)
	w.bind()
	w.routeService(nil)
	res := w.get(w.client(), "https://"+host+"/")
	assert.Equal(t, http.StatusGatewayTimeout, res.StatusCode)
	assert.Equal(t, "504 Gateway Timeout: Failed to validate Route Service Signature: route service request expired\n", res.body)
}

func TestUnboundRoutesIgnoreSignaturesUnlessStrict(t *testing.T) {
	strict := func(c *router.Config) { c.StrictSignatureValidation = true }
	for name, test := range map[string]struct {
		config      []func(*router.Config)
		signature   string // replaces the valid one unless empty
		status      int
		routerError string
	}{
		"bad":             {nil, "AAAA", http.StatusOK, ""},
		"expired":         {[]func(*router.Config){expired}, "", http.StatusOK, ""},
		"strict, good":    {[]func(*router.Config){strict}, "", http.StatusOK, ""},
		"strict, bad":     {[]func(*router.Config){strict}, "AAAA", http.StatusBadRequest, "invalid_route_service_signature"},
		"strict, expired": {[]func(*router.Config){strict, expired}, "", http.StatusGatewayTimeout, "expired_route_service_signature"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, test.config...)
			w.app(func(http.ResponseWriter, *http.Request) {}, host)
			header := w.router.Sign("https://" + host + "/")
			if test.signature != "" {
				header.Set("X-CF-Proxy-Signature", test.signature)
			}
			res := w.do(w.client(), signed(t, "https://"+host+"/", header))
			assert.Equal(t, test.status, res.StatusCode, res.body)
			assert.Equal(t, test.routerError, res.Header.Get("X-Cf-Routererror"))
		})
	}
}

func TestRoutersOfOneSecretAcceptEachOthersSignatures(t *testing.T) {
	same := func(c *router.Config) { c.Secret = "secret" }
	for name, test := range map[string]struct {
		signer func(*router.Config)
		status int
	}{
		"same secret":  {same, http.StatusOK},
		"other secret": {func(*router.Config) {}, http.StatusBadGateway},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, same)
			w.app(func(http.ResponseWriter, *http.Request) {}, host)
			w.bind()
			header := newWorld(t, test.signer).router.Sign("https://" + host + "/")
			assert.Equal(t, test.status, w.do(w.client(), signed(t, "https://"+host+"/", header)).StatusCode)
		})
	}
}

// The hole that wildcards leave: the more specific route is gone, its young
// signature now leads to the parent.
func TestASignatureOutlivesItsRouteNextToAWildcard(t *testing.T) {
	w := newWorld(t)
	w.app(func(http.ResponseWriter, *http.Request) {}, "*.apps.identity")
	special := w.app(func(http.ResponseWriter, *http.Request) {}, "special.apps.identity")
	require.NoError(t, w.router.Bind("*.apps.identity", serviceURL))
	header := w.router.Sign("https://special.apps.identity/")
	request := func() int {
		return w.do(w.client(), signed(t, "https://victim.apps.identity/", header)).StatusCode
	}
	assert.Equal(t, http.StatusBadGateway, request())
	require.NoError(t, w.router.Deregister("special.apps.identity", special.URL))
	assert.Equal(t, http.StatusOK, request())
}

func TestLeg2ToARouteServiceElsewhere(t *testing.T) {
	w := newWorld(t)
	requests, handler := record()
	w.app(handler, host)
	elsewhere := httptest.NewUnstartedServer(handler)
	server, err := w.root.Server("127.0.0.1")
	require.NoError(t, err)
	elsewhere.Config.Protocols = new(http.Protocols)
	elsewhere.Config.Protocols.SetHTTP1(true)
	elsewhere.TLS = tlsConfig(server)
	elsewhere.StartTLS()
	t.Cleanup(elsewhere.Close)
	require.NoError(t, w.router.Bind(host, elsewhere.URL+"/r/1"))
	res := w.get(w.client(w.caller), "https://"+host+"/x")
	require.Equal(t, http.StatusOK, res.StatusCode, res.body)
	got := <-requests
	assert.Equal(t, "/r/1", got.RequestURI)
	assert.Equal(t, "https://"+host+"/x", got.Header.Get("X-CF-Forwarded-Url"))
	assert.Equal(t, w.caller.XFCC(), got.Header.Get(xfcc))
	assert.NotContains(t, got.Header, "X-Cf-Applicationid", "the destination is no app of this router")
}

func TestLeg2ToAnUntrustedRouteServiceIs526(t *testing.T) {
	w := newWorld(t)
	w.app(func(http.ResponseWriter, *http.Request) {}, host)
	elsewhere := httptest.NewUnstartedServer(http.NotFoundHandler())
	elsewhere.Config.ErrorLog = log.New(io.Discard, "", 0)
	elsewhere.StartTLS()
	t.Cleanup(elsewhere.Close)
	require.NoError(t, w.router.Bind(host, elsewhere.URL))
	assert.Equal(t, 526, w.get(w.client(), "https://"+host+"/").StatusCode)
}

func TestUnbindOpensTheRoute(t *testing.T) {
	w := newWorld(t)
	w.app(func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, "app") }, host)
	w.app(func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, "gateway") }, gateway)
	w.bind()
	assert.Equal(t, "gateway", w.get(w.client(), "https://"+host+"/").body)
	require.NoError(t, w.router.Unbind(host))
	assert.Equal(t, "app", w.get(w.client(), "https://"+host+"/").body)
}

func TestBindTakesHTTPSOnlyAndKeepsTheURLSecret(t *testing.T) {
	w := newWorld(t)
	for _, bad := range []string{"", "http://gateway.apps.identity/token", "https:///token", "gateway/token", "https://%zz/token"} {
		err := w.router.Bind(host, bad)
		require.Error(t, err, bad)
		assert.NotContains(t, err.Error(), "token")
	}
}

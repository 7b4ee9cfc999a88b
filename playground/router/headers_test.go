package router_test

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground/router"
)

func atoi(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	require.NoError(t, err)
	return n
}

func TestRequestIDIsReplacedOnEveryLeg(t *testing.T) {
	w := newWorld(t)
	requests, handler := record()
	w.app(handler, host)
	w.bind()
	leg2 := w.routeService(nil)
	res := w.get(w.client(), "https://"+host+"/", "X-Vcap-Request-Id", "mine")
	ids := []string{(<-leg2).Header.Get("X-Vcap-Request-Id"), (<-requests).Header.Get("X-Vcap-Request-Id")}
	assert.NotEqual(t, ids[0], ids[1])
	assert.NotContains(t, ids, "mine")
	assert.Len(t, ids[1], 36)
	assert.Equal(t, ids[1], res.Header.Get("X-Vcap-Request-Id"), "the answer carries leg 3's")
}

func TestForwardedForGainsOneHopPerLeg(t *testing.T) {
	w := newWorld(t)
	requests, handler := record()
	w.app(handler, host)
	w.bind()
	leg2 := w.routeService(nil)
	w.get(w.client(), "https://"+host+"/", "X-Forwarded-For", "10.0.0.1", "X-Forwarded-For", "10.0.0.2")
	local := ", 127.0.0.1"
	assert.Equal(t, []string{"10.0.0.1, 10.0.0.2" + strings.Repeat(local, 2)}, (<-leg2).Header["X-Forwarded-For"],
		"leg 1 and, since the route service is a route of this router, the way in")
	assert.Equal(t, []string{"10.0.0.1, 10.0.0.2" + strings.Repeat(local, 3)}, (<-requests).Header["X-Forwarded-For"])
}

func TestForwardedProto(t *testing.T) {
	sanitize := func(c *router.Config) { c.SanitizeForwardedProto = true }
	nothing := func(*router.Config) {}
	for name, test := range map[string]struct {
		config func(*router.Config)
		sent   string
		signed bool
		want   string
	}{
		"missing: set":                           {nothing, "", false, "https"},
		"present: kept":                          {nothing, "http", false, "http"},
		"sanitized":                              {sanitize, "http", false, "https"},
		"sanitized, but the signature is valid":  {sanitize, "http", true, "http"},
		"missing with a valid signature: absent": {nothing, "", true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, test.config)
			requests, handler := record()
			w.app(handler, host)
			header := http.Header{}
			if test.signed {
				w.bind()
				header = w.router.Sign("https://" + host + "/")
			}
			if test.sent != "" {
				header.Set("X-Forwarded-Proto", test.sent)
			}
			w.do(w.client(), signed(t, "https://"+host+"/", header))
			assert.Equal(t, test.want, (<-requests).Header.Get("X-Forwarded-Proto"))
		})
	}
}

func TestHeadersOfTheDestination(t *testing.T) {
	w := newWorld(t)
	requests, handler := record()
	app := w.app(handler, host)
	w.get(w.client(), "https://"+host+"/", "X-CF-ApplicationID", forged, "X-CF-InstanceID", forged, "X-CF-InstanceIndex", forged)
	got := <-requests
	assert.Equal(t, []string{""}, got.Header["X-Cf-Applicationid"])
	assert.Equal(t, []string{strings.TrimPrefix(app.URL, "http://")}, got.Header["X-Cf-Instanceid"])
	assert.Equal(t, []string{"0"}, got.Header["X-Cf-Instanceindex"])
	assert.NotEmpty(t, got.Header.Get("X-Request-Start"))

	require.NoError(t, w.router.RegisterApp(host, app.URL, router.App{GUID: "guid", Instance: "instance", Index: 7}))
	w.get(w.client(), "https://"+host+"/", "X-Request-Start", "1")
	got = <-requests
	assert.Equal(t, []string{"guid", "instance", "7", "1"}, []string{
		got.Header.Get("X-Cf-Applicationid"),
		got.Header.Get("X-Cf-Instanceid"), got.Header.Get("X-Cf-Instanceindex"), got.Header.Get("X-Request-Start"),
	})
}

func TestConnectionListedHeadersAreHopByHop(t *testing.T) {
	for _, name := range []string{
		"X-CF-Proxy-Signature", "X-CF-Proxy-Metadata", "X-CF-Forwarded-Url", "X-Forwarded-Client-Cert",
		"X-Forwarded-Proto", "X-Own",
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, mode(router.AlwaysForward))
			requests, handler := record()
			w.app(handler, gateway, host)
			w.bind()
			w.get(w.client(), "https://"+host+"/", xfcc, forged, "X-Own", "x", "Connection", "close, "+strings.ToLower(name))
			got := <-requests
			assert.NotContains(t, got.Header, http.CanonicalHeaderKey(name))
		})
	}
}

func TestDuplicateHeadersSurvive(t *testing.T) {
	w := newWorld(t)
	requests, handler := record()
	w.app(handler, host)
	w.get(w.client(), "https://"+host+"/", "X-CF-Forwarded-Url", "a", "X-CF-Forwarded-Url", "b", "X_own", "1", "X_own", "2")
	got := <-requests
	assert.Equal(t, []string{"a", "b"}, got.Header["X-Cf-Forwarded-Url"])
	assert.Equal(t, []string{"1", "2"}, got.Header["X_own"])
}

func TestTargetsArriveRaw(t *testing.T) {
	targets := []string{
		"/", "/a/../b", "/%2e%2e/%2E", "/a%2fb%2Fc", "/a//b///", "/a;b=c;d", "/%00", "/a%20b%7e~", "/a?", "/?x=1&x=2;y=%zz&z",
		"/a?http://x//y", "/:80/@x", "/[x]|{y}^`", "/a+b", "/\\x", "/caf\xc3\xa9/\xff", "http://" + host + "/absolute%2f..",
	}
	w := newWorld(t)
	requests, handler := record()
	w.app(handler, host)
	for _, target := range targets {
		t.Run(target, func(t *testing.T) {
			res := w.raw(host, "GET "+target+" HTTP/1.1", "Host: "+host)
			require.Equal(t, http.StatusOK, res.StatusCode, res.body)
			assert.Equal(t, target, (<-requests).RequestURI)
		})
	}
}

// gorouter's one exception: a target that begins with // becomes absolute.
func TestTargetThatBeginsWithTwoSlashesArrivesInAbsoluteForm(t *testing.T) {
	w := newWorld(t)
	requests, handler := record()
	w.app(handler, host)
	for sent, want := range map[string]string{
		"//a/b":           "http://" + host + "//a/b",
		"//a/%2e%2f?b&a=": "http://" + host + "//a/./?a=&b=", // even an escaped slash is lost
		"///":             "http://" + host + "///",
	} {
		res := w.raw(host, "GET "+sent+" HTTP/1.1", "Host: "+host)
		require.Equal(t, http.StatusOK, res.StatusCode, res.body)
		got := <-requests
		assert.Equal(t, want, got.RequestURI)
		assert.Equal(t, host, got.Host)
	}
}

func TestAnswersPassUnchanged(t *testing.T) {
	w := newWorld(t)
	w.app(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("X-CF-Proxy-Signature", "leaked")
		rw.Header().Set("X-CF-Forwarded-Url", "kept")
		rw.Header()["Set-Cookie"] = []string{"JSESSIONID=1", "__VCAP_ID__=2"}
		rw.Header()["Content-Type"] = nil
		rw.Header().Set("X-Vcap-Request-Id", "the app's own")
		rw.WriteHeader(http.StatusTeapot)
		_, _ = rw.Write([]byte("<html>"))
	}, host)
	res := w.get(w.client(), "https://"+host+"/")
	assert.Equal(t, http.StatusTeapot, res.StatusCode)
	assert.NotContains(t, res.Header, "X-Cf-Proxy-Signature", "gorouter always takes it off answers")
	assert.NotContains(t, res.Header, "Content-Type", "none is guessed")
	assert.Equal(t, "kept", res.Header.Get("X-CF-Forwarded-Url"))
	assert.Equal(t, []string{"JSESSIONID=1", "__VCAP_ID__=2"}, res.Header["Set-Cookie"])
	assert.Equal(t, "the app's own", res.Header.Get("X-Vcap-Request-Id"))
}

// net/http's ReverseProxy, and so gorouter, loses the values of request
// trailers: the names arrive, announced and empty.
func TestTrailersOfRequestsArriveEmpty(t *testing.T) {
	w := newWorld(t)
	trailers := make(chan http.Header, 1)
	w.app(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		trailers <- r.Trailer
	}, host)
	w.raw(host, "POST / HTTP/1.1", "Host: "+host, "Transfer-Encoding: chunked", "Trailer: X-Own", "", "2", "ab", "0", "X-Own: value")
	assert.Equal(t, http.Header{"X-Own": nil}, <-trailers)
}

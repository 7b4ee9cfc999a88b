package gateway_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestExpectationsOtherThan100ContinueAreRefused(t *testing.T) {
	for _, c := range []struct {
		expect []string
		status int
	}{
		{nil, 200},
		{[]string{"100-continue"}, 200},
		{[]string{"100-Continue"}, 200},
		{[]string{""}, 400},
		{[]string{"200-ok"}, 400},
		{[]string{"100-continue, 200-ok"}, 400},
		{[]string{"200-ok,100-continue"}, 400},
		{[]string{"100-continue", "200-ok"}, 400},
		{[]string{"100-continue", "100-continue"}, 400},
		{[]string{"100-continue;q=1"}, 400},
	} {
		w := newWorld(t, ok, nil)
		r := w.request()
		if c.expect != nil {
			r.Header["Expect"] = c.expect
		}
		assert.Equal(t, c.status, w.send(r).Code, "%q", c.expect)
	}
}

// A header that a client names in Connection is not sent on, unless the app or
// the router relies on it.
func TestConnectionCannotTakeOffWhatIsRelied(t *testing.T) {
	for _, connection := range [][]string{
		{"X-Cf-Proxy-Signature, X-Cf-Proxy-Metadata, X-Cf-Forwarded-Url, X-Forwarded-Client-Cert, X-Mtls-Authz-Caller, X-Mtls-Authz-Hop, X-Listed"},
		{"close", "x-cf-proxy-signature,,x-cf-proxy-metadata", "X-CF-FORWARDED-URL ,\tX-FORWARDED-CLIENT-CERT", "x-mtls-authz-caller,x-mtls-authz-hop", "X-listed"},
	} {
		var got http.Header
		w := newWorld(t, func(w http.ResponseWriter, r *http.Request) {
			got = r.Header.Clone()
			ok(w, r)
		}, nil)
		r := w.request()
		r.Header["Connection"] = connection
		r.Header.Set("X-Listed", "1")
		assert.Equal(t, 200, w.send(r).Code)
		for _, name := range []string{
			"X-Cf-Proxy-Signature", "X-Cf-Proxy-Metadata", "X-Cf-Forwarded-Url", "X-Forwarded-Client-Cert", "X-Mtls-Authz-Caller", "X-Mtls-Authz-Hop", "X-Mtls-Authz-Decision",
		} {
			assert.Len(t, got[name], 1, name)
		}
		assert.NotContains(t, got, "X-Listed")
		assert.NotContains(t, got, "Connection")
	}
}

// Where the path decides, the gateway refuses what elsewhere passes.
func TestAmbiguousPathsWhereThePathDecides(t *testing.T) {
	for _, path := range []string{"/a%2fb", "/a//b", "/a;b", "/a%252fb", "/a%3fb", "/a%EF%BC%8Fb"} {
		for given, status := range map[string]int{
			`{"allow":["cf:app:` + frontend.App + `"]}`:                                               200,
			`{"allow":[{"source":"cf:app:` + frontend.App + `","paths":["/**"]}]}`:                    400,
			`{"allow":[{"source":"cf:app:` + frontend.App + `","paths":["/**"]}],"mode":"report"}`:    400,
			`{"allow":["cf:any",{"source":"cf:app:` + owner.App + `","paths":["/another's"]}]}`:       400,
			`{"allow":[{"source":"cf:app:` + frontend.App + `","methods":["GET"]}],"mode":"enforce"}`: 200,
		} {
			w := newWorld(t, ok, nil)
			w.bind("backend.apps.identity", given)
			r := w.request()
			r.Header.Set("X-CF-Forwarded-Url", "https://backend.apps.identity"+path)
			assert.Equal(t, status, w.send(r).Code, "%s with %s", path, given)
		}
		w := newWorld(t, ok, nil)
		w.bind("backend.apps.identity/ctx", `{"allow":["cf:any"]}`)
		r := w.request()
		r.Header.Set("X-CF-Forwarded-Url", "https://backend.apps.identity/ctx"+path)
		assert.Equal(t, 400, w.send(r).Code, "%s below a bound path", path)
	}
}

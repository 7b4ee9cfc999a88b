package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/store"
)

var everyPath = []string{"/v1/instances", "/v1/instances/i", "/v1/bindings", "/v1/bindings/b", "/v1/audit"}

// world has one instance "i" with one binding "b".
func world(t *testing.T, options ...func(*testbed)) *testbed {
	b := newTestbed(t, options...)
	b.create("i", grants.ScopeOrg, acme, shop, `{"allow":["cf:app:`+frontend+`"]}`)
	b.bind("i", "b", "backend.apps.example/api", "{}")
	return b
}

func TestNobodyGetsInWithoutAPassword(t *testing.T) {
	b := world(t)
	for name, as := range map[string]change{
		"nobody":                    func(r *http.Request) { r.Header.Del("Authorization") },
		"an empty password":         func(r *http.Request) { r.SetBasicAuth(brokers, "") },
		"nothing at all":            func(r *http.Request) { r.SetBasicAuth("", "") },
		"the wrong password":        func(r *http.Request) { r.SetBasicAuth(brokers, brokersPassword+"x") },
		"a part of the password":    func(r *http.Request) { r.SetBasicAuth(brokers, brokersPassword[:5]) },
		"another's password":        func(r *http.Request) { r.SetBasicAuth(reader, brokersPassword) },
		"the other's password":      func(r *http.Request) { r.SetBasicAuth(brokers, readersPassword) },
		"a token":                   func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+brokersPassword) },
		"rubbish":                   func(r *http.Request) { r.Header.Set("Authorization", "Basic !!!") },
		"a password in the query":   func(r *http.Request) { r.Header.Del("Authorization"); r.URL.RawQuery = "password=" + brokersPassword },
		"headers of a proxy":        func(r *http.Request) { r.Header.Del("Authorization"); r.Header.Set("X-Forwarded-User", brokers) },
		"a certificate of somebody": func(r *http.Request) { r.Header.Del("Authorization"); r.Header.Set("X-Forwarded-Client-Cert", "MII") },
	} {
		for _, path := range append(everyPath, "/v1", "/v1/", "/v1/nothing", "/v1/instances/../audit") {
			for _, method := range []string{"GET", "DELETE", "OPTIONS", "BREW"} {
				r := b.do(method, path, as)
				assert.Equal(t, `Basic realm="mtls-authz"`, r.Header.Get("WWW-Authenticate"), name)
				r.expect(t, 401, "credentials")
			}
		}
	}
	assert.NotContains(t, b.log.String(), brokersPassword)
	assert.NotContains(t, b.log.String(), `"by":"`+brokers, "nobody is named who has not shown a password")
	assert.Contains(t, b.log.String(), `"status":401`)
}

func TestReadersReadAndOperatorsChange(t *testing.T) {
	b := world(t)
	for _, path := range everyPath {
		require.Equal(t, 200, b.do("GET", path, asReader).StatusCode, path)
		require.Equal(t, 200, b.do("GET", path).StatusCode, path)
	}
	for _, path := range append(everyPath, "/v1/instances/unknown", "/v1/nothing") {
		for _, method := range []string{"DELETE", "PUT", "POST", "PATCH", "BREW", "delete"} {
			b.do(method, path, asReader).expect(t, 403, "may read and not change")
		}
	}
	require.NotNil(t, b.store.View().Access("b"))
	require.Equal(t, 204, b.do("DELETE", "/v1/bindings/b").StatusCode)
}

// A page of any site can make an operator's browser send the password that it
// remembers.
func TestAnotherSiteCannotMakeAnOperatorsBrowserDelete(t *testing.T) {
	b := world(t)
	for name, browser := range map[string][]change{
		"another site":          {header("Origin", "https://evil.example"), header("Sec-Fetch-Site", "cross-site")},
		"an old browser":        {header("Origin", "https://evil.example")},
		"no origin to tell":     {header("Origin", "null")},
		"an empty origin":       {header("Origin", "")},
		"a sibling":             {header("Sec-Fetch-Site", "same-site")},
		"an app on our host":    {header("Origin", base), header("Sec-Fetch-Site", "same-origin")},
		"twice, the first good": {header("Sec-Fetch-Site", "none"), header("Sec-Fetch-Site", "cross-site")},
	} {
		t.Run(name, func(t *testing.T) {
			for _, path := range []string{"/v1/bindings/b", "/v1/instances/i"} {
				b.do("DELETE", path, browser...).expect(t, 403, "browser")
			}
			require.NotNil(t, b.store.View().Access("b"))
			b.do("OPTIONS", "/v1/bindings/b", append(browser, header("Access-Control-Request-Method", "DELETE"))...).expect(t, 405, "DELETE")
			require.Equal(t, 200, b.do("GET", "/v1/bindings/b", browser...).StatusCode, "reading changes nothing")
		})
	}
}

func TestAMethodInAHeaderIsNotTheMethod(t *testing.T) {
	b := world(t)
	for _, name := range []string{"X-Http-Method-Override", "X-Http-Method", "X-Method-Override"} {
		require.Equal(t, 200, b.do("GET", "/v1/bindings/b?", asReader, header(name, "DELETE")).StatusCode)
		b.do("POST", "/v1/bindings/b", header(name, "DELETE")).expect(t, 405, "DELETE")
	}
	require.NotNil(t, b.store.View().Access("b"))
}

func TestPathsAndMethodsThatAreNotThere(t *testing.T) {
	b := world(t)
	for _, path := range []string{
		"/v1", "/v1/", "/v1/nothing", "/v1/instances/", "/v1/instances/i/", "/v1/instances/i/audit", "/v1//instances", "/v1/./instances",
		"/v1/bindings/../instances", "/v1/bindings/%2e%2e/instances", "/v1/routes", "/v1/policy", "/V1/instances", "/v1/Instances", "/v1/audit/1",
		"/v1/instances/a%2fb", "/v1/instances/%00", "/v1/instances/%ff", "/v1/instances/i%20", "/v1/instances/" + strings.Repeat("a", 129), "/v1/bindings/'%20OR%201=1--",
	} {
		for _, method := range []string{"GET", "DELETE"} {
			r := b.do(method, path).expect(t, 404, "there is no")
			assert.Empty(t, r.Header.Get("Location"), path)
		}
	}
	for path, allowed := range map[string]string{
		"/v1/instances": "GET, HEAD", "/v1/bindings": "GET, HEAD", "/v1/audit": "GET, HEAD",
		"/v1/instances/i": "DELETE, GET, HEAD", "/v1/bindings/b": "DELETE, GET, HEAD",
	} {
		for _, method := range []string{"POST", "PUT", "PATCH", "OPTIONS", "BREW", "get"} {
			assert.Equal(t, allowed, b.do(method, path).expect(t, 405, allowed).Header.Get("Allow"))
		}
		if allowed == "GET, HEAD" {
			b.do("DELETE", path).expect(t, 405, allowed)
		}
	}
	require.NotNil(t, b.store.View().Access("b"))
	assert.Equal(t, []string{"b", "i"}, b.list("/v1/audit").guids(), "what cannot be an id leaves no trace in the store")
}

func TestHeadIsGetWithoutABody(t *testing.T) {
	b := world(t)
	for _, path := range append(everyPath, "/v1/nothing", "/v1/instances?x=1") {
		get, head := b.do("GET", path, asReader), b.do("HEAD", path, asReader)
		assert.Equal(t, get.StatusCode, head.StatusCode, path)
		assert.Equal(t, get.Header.Get("Content-Type"), head.Header.Get("Content-Type"), path)
		assert.Empty(t, head.body)
	}
}

// Links lead where the operator says, whatever a request claims.
func TestLinksCannotBeForged(t *testing.T) {
	b := world(t)
	for _, path := range everyPath {
		r := b.do("GET", path, func(r *http.Request) { r.Host = "evil.example" },
			header("X-Forwarded-Host", "evil.example"), header("X-Forwarded-Proto", "http"), header("Forwarded", "host=evil.example"),
			header("X-Original-Url", "/v1/evil.example"), header("X-Forwarded-Prefix", "/evil.example"))
		require.Equal(t, 200, r.StatusCode)
		assert.NotContains(t, r.body, "evil.example")
	}
}

func TestTheAuditNamesTheOperatorAndNobodyElse(t *testing.T) {
	b := world(t)
	r := b.do("DELETE", "/v1/bindings/b",
		header("X-Broker-Api-Originating-Identity", "cloudfoundry eyJ1c2VyX2lkIjoiZm9yZ2VkIn0="), header("X-Broker-Api-Request-Identity", "forged"),
		header("X-Forwarded-User", "forged"), header("X-Vcap-Request-Id", "vcap-2\u202e\u00ff"+strings.Repeat("x", 1000)))
	require.Equal(t, 204, r.StatusCode)
	list, _, err := b.store.Audit(ctx, store.AuditFilter{Actions: []string{"delete"}}, store.Page{})
	require.NoError(t, err)
	require.Len(t, list, 1)
	assert.Equal(t, "operator:broker", list[0].By)
	assert.Empty(t, list[0].RequestIdentity)
	assert.Regexp(t, `^vcap-2\x{ff}x{500,505}$`, list[0].RequestID, "bounded and printable")
	assert.Contains(t, b.log.String(), `"by":"broker"`)
}

package route_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/grants/route"
)

func TestRoutes(t *testing.T) {
	for text, want := range map[string]route.Route{
		"backend.apps.identity":        {Host: "backend.apps.identity"},
		"backend.apps.identity/":       {Host: "backend.apps.identity"},
		"backend.apps.identity/beta":   {Host: "backend.apps.identity", Path: "/beta"},
		"backend.apps.identity/beta/":  {Host: "backend.apps.identity", Path: "/beta"},
		"Backend.Apps.Identity/Beta":   {Host: "backend.apps.identity", Path: "/beta"},
		"a.b/x/y":                      {Host: "a.b", Path: "/x/y"},
		"a.b/x:y@z~1,2":                {Host: "a.b", Path: "/x:y@z~1,2"},
		"my_app.apps.identity":         {Host: "my_app.apps.identity"},
		"xn--bcher-kva.example":        {Host: "xn--bcher-kva.example"},
		"*.apps.identity":              {Host: "*.apps.identity"},
		"*.apps.identity/beta":         {Host: "*.apps.identity", Path: "/beta"},
		"1234.apps.identity":           {Host: "1234.apps.identity"},
		"10.0.0.1.nip.example":         {Host: "10.0.0.1.nip.example"},
		"app.1und1":                    {Host: "app.1und1"},
		"internal":                     {Host: "internal"},
		strings.Repeat("a", 63) + ".b": {Host: strings.Repeat("a", 63) + ".b"},
	} {
		r, err := route.Parse(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, r, text)
		again, err := route.Parse(r.String())
		require.NoError(t, err)
		assert.Equal(t, r, again)
	}
}

func TestRoutesThatCannotBeProtected(t *testing.T) {
	for name, text := range map[string]string{
		"empty":                       "",
		"no host":                     "/beta",
		"TCP":                         "tcp.example.com:1024",
		"port 443":                    "backend.apps.identity:443",
		"port behind an empty host":   ":1024",
		"IPv4":                        "10.0.16.4",
		"IPv4 with a path":            "10.0.16.4/beta",
		"IPv4 in short":               "127.1",
		"IPv4 as one number":          "2130706433",
		"IPv4 in hexadecimal":         "0x7f000001",
		"IPv4 partly in hexadecimal":  "0x7f.0.0.0x1",
		"IPv4 in octal":               "0177.0.0.1",
		"IPv4 with a final dot":       "10.0.16.4.",
		"wildcard over IPv4":          "*.0.0.1",
		"IPv6":                        "::1",
		"IPv6 in brackets":            "[::1]",
		"IPv6 with zone":              "fe80::1%eth0",
		"U-label":                     "b\u00fccher.example",
		"Kelvin sign for k":           "bac\u212aend.apps.identity",
		"long s":                      "app\u017f.identity",
		"full-width dot":              "backend\uff0eapps.identity",
		"not UTF-8":                   "back\xffend.apps",
		"space":                       "back end.apps",
		"newline":                     "backend.apps\n",
		"NUL":                         "backend\x00.apps",
		"scheme":                      "https://backend.apps",
		"userinfo":                    "user@backend.apps",
		"empty label":                 "backend..apps",
		"final dot":                   "backend.apps.",
		"dot in front":                ".apps.identity",
		"hyphen first":                "-backend.apps",
		"hyphen last":                 "backend-.apps",
		"label of 64":                 strings.Repeat("a", 64) + ".apps",
		"host of 254":                 strings.Repeat("a.", 126) + "aa",
		"only a star":                 "*",
		"star and dot":                "*.",
		"star inside":                 "back*.apps",
		"star in the middle":          "a.*.apps",
		"two stars":                   "*.*.apps",
		"star without a dot":          "*apps.identity",
		"query":                       "backend.apps/a?b",
		"fragment":                    "backend.apps/a#b",
		"escape in the path":          "backend.apps/a%2fb",
		"dot segment":                 "backend.apps/../admin",
		"dot segment at the end":      "backend.apps/a/.",
		"empty segment":               "backend.apps//a",
		"only slashes":                "backend.apps//",
		"backslash":                   `backend.apps/a\b`,
		"path parameter":              "backend.apps/a;b",
		"path not ASCII":              "backend.apps/\u00fc",
		"path with a space":           "backend.apps/a b",
		"path with quotes":            `backend.apps/"`,
		"path longer than CC's limit": "backend.apps/" + strings.Repeat("a", 128),
	} {
		t.Run(name, func(t *testing.T) {
			r, err := route.Parse(text)
			require.ErrorIs(t, err, route.ErrRoute)
			assert.Zero(t, r)
			assert.NotContains(t, err.Error(), "\n")
		})
	}
}

func TestCheckHost(t *testing.T) {
	for _, host := range []string{"a", "backend.apps.identity", "my_app.b", "a-b.c9"} {
		assert.NoError(t, route.CheckHost(host), host)
	}
	for _, host := range []string{"", "A.b", "*.b", "a.b.", "a:443", "1.2.3.4", "::1", "127.1", "a.0x", "a b", "a/b", "\u00fc.b"} {
		assert.Error(t, route.CheckHost(host), host)
	}
}

func TestRouteMatchesHostAndPath(t *testing.T) {
	plain, wild, context := parsed("backend.apps.identity"), parsed("*.apps.identity"), parsed("backend.apps.identity/api")
	assert.True(t, plain.MatchHost("backend.apps.identity"))
	assert.True(t, wild.MatchHost("backend.apps.identity"))
	assert.True(t, wild.MatchHost("a.b.apps.identity"), "any number of labels")
	for _, host := range []string{"", "apps.identity", ".apps.identity", "xapps.identity", "backend.apps.identity.evil", "backend.apps.identit", "evil"} {
		assert.False(t, plain.MatchHost(host), host)
		assert.False(t, wild.MatchHost(host), host)
	}
	for _, r := range []route.Route{{}, {Host: "*"}, {Path: "/api"}} {
		assert.False(t, r.MatchHost(""), "%q", r)
		assert.False(t, r.MatchHost("backend.apps.identity"), "%q", r)
	}
	assert.True(t, wild.IsWildcard())
	assert.False(t, plain.IsWildcard())

	for _, path := range []string{"/api", "/api/", "/api/x", "/API/x", "/Api//x"} {
		assert.True(t, context.MatchPath(path), path)
	}
	for _, path := range []string{"", "/", "/ap", "/apix", "/api%2fx", "/x/api", "api/x", "/ap\u0131"} {
		assert.False(t, context.MatchPath(path), path)
		assert.True(t, plain.MatchPath(path), path)
	}
}

// parsed is a route that must be one.
func parsed(s string) route.Route {
	r, err := route.Parse(s)
	if err != nil {
		panic(err)
	}
	return r
}

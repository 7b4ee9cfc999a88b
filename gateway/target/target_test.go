package target_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/gateway/target"
)

func TestAccepted(t *testing.T) {
	for forwarded, want := range map[string]target.Target{
		"https://backend.apps.identity":              {Host: "backend.apps.identity", RawPath: "/", Path: "/"},
		"https://backend.apps.identity/":             {Host: "backend.apps.identity", RawPath: "/", Path: "/"},
		"https://Backend.Apps.Identity/A/b":          {Host: "backend.apps.identity", RawPath: "/A/b", Path: "/A/b", Segments: []string{"A", "b"}},
		"https://backend.apps.identity:443/a":        {Host: "backend.apps.identity", RawPath: "/a", Path: "/a", Segments: []string{"a"}},
		"https://b.x/a%20b":                          {Host: "b.x", RawPath: "/a%20b", Path: "/a b", Segments: []string{"a b"}},
		"https://b.x/a%2Fb":                          {Host: "b.x", RawPath: "/a%2Fb", Path: "/a/b", Segments: []string{"a", "b"}},
		"https://b.x//a//":                           {Host: "b.x", RawPath: "//a//", Path: "//a//", Segments: []string{"a"}},
		"https://b.x/a;v=1":                          {Host: "b.x", RawPath: "/a;v=1", Path: "/a;v=1", Segments: []string{"a;v=1"}},
		"https://b.x/%25":                            {Host: "b.x", RawPath: "/%25", Path: "/%", Segments: []string{"%"}},
		"https://b.x/100%25x":                        {Host: "b.x", RawPath: "/100%25x", Path: "/100%x", Segments: []string{"100%x"}},
		"https://b.x/%C3%A9":                         {Host: "b.x", RawPath: "/%C3%A9", Path: "/é", Segments: []string{"é"}},
		"https://b.x/...":                            {Host: "b.x", RawPath: "/...", Path: "/...", Segments: []string{"..."}},
		"https://b.x/.well-known/x":                  {Host: "b.x", RawPath: "/.well-known/x", Path: "/.well-known/x", Segments: []string{".well-known", "x"}},
		"https://b.x?":                               {Host: "b.x", RawPath: "/", Path: "/", HasQuery: true},
		"https://b.x/a?q=../..&r=%zz|{}\"":           {Host: "b.x", RawPath: "/a", Path: "/a", Segments: []string{"a"}, Query: "q=../..&r=%zz|{}\"", HasQuery: true},
		"https://b.x/a?https://evil/":                {Host: "b.x", RawPath: "/a", Path: "/a", Segments: []string{"a"}, Query: "https://evil/", HasQuery: true},
		"https://xn--bcher-kva.apps.identity/a":      {Host: "xn--bcher-kva.apps.identity", RawPath: "/a", Path: "/a", Segments: []string{"a"}},
		"https://under_score.apps.identity/-._~!$&'": {Host: "under_score.apps.identity", RawPath: "/-._~!$&'", Path: "/-._~!$&'", Segments: []string{"-._~!$&'"}},
	} {
		got, err := target.Parse(forwarded)
		if assert.NoError(t, err, forwarded) {
			assert.Equal(t, want, got, forwarded)
		}
	}
}

// Each line is something that a client or another route's owner could send.
var attacks = []string{
	// scheme
	"", "/", "backend.apps.identity/a", "//backend.apps.identity/a", "http://backend.apps.identity/a", "HTTPS://backend.apps.identity/a",
	"ftp://b.x/", "javascript:alert(1)", "https:/b.x/", "https:b.x/", " https://b.x/", "https://b.x/\n", "https:\\\\b.x/",
	// what an absolute-form request line makes of it
	"https://backend.apps.identityhttp://evil.example/abs", "https://backend.apps.identityhttps://evil.example/",
	// authority
	"https://", "https:///a", "https://user@b.x/", "https://user:pass@b.x/", "https://b.x@evil.example/", "https://b.x%40evil.example/",
	"https://b.x:80/", "https://b.x:8443/", "https://b.x:/", "https://b.x:443:443/", "https://b.x:0443/", "https://b.x:+443/", "https://b.x:４４３/",
	"https://127.0.0.1/", "https://[::1]/", "https://[::1]:443/", "https://::1/", "https://0x7f.1/../",
	"https://b..x/", "https://.b.x/", "https://b.x./", "https://-b.x/", "https://b-.x/", "https://b.x\x00.evil/", "https://b x/", "https://b\tx/",
	"https://b.x,evil.example/", "https://b.x;evil/", "https://*.b.x/", "https://bücher.x/", "https://ｂ.x/", "https://b%2ex/", "https://b.x\\@evil/",
	"https://b.x\\evil/", "https://" + strings.Repeat("a", 64) + ".x/", "https://" + strings.Repeat("a.", 127) + "xx/", "https://169.254.169.254/latest/",
	"https://[fe80::1%25en0]/", "https://b.x:٤٤٣/", "https://2130706433./", "https://b.x:443@evil.example/",
	// fragment
	"https://b.x/#", "https://b.x/a#b", "https://b.x#a", "https://b.x/a?q#f", "https://b.x?#",
	// dot segments: plain, encoded, mixed, doubly encoded, with parameters
	"https://b.x/.", "https://b.x/..", "https://b.x/../", "https://b.x/a/../b", "https://b.x/a/./b", "https://b.x/a/..", "https://b.x/./a",
	"https://b.x/%2e", "https://b.x/%2e%2e/a", "https://b.x/%2E%2E/a", "https://b.x/.%2e/a", "https://b.x/%2e./a", "https://b.x/a/%2e%2e%2fb",
	"https://b.x/a%2f..%2fb", "https://b.x/a%2F%2E%2E%2Fb", "https://b.x/..%2f", "https://b.x/%252e%252e/a", "https://b.x/%252e", "https://b.x/.%252e/a",
	"https://b.x/a%252f..%252fb", "https://b.x/a%252f%252e%252e%252fb", "https://b.x/%25%32%65%25%32%65/", "https://b.x/%2%65%2%65/",
	"https://b.x/..;/a", "https://b.x/..;x=1/a", "https://b.x/.;/a", "https://b.x/%2e%2e;/a", "https://b.x/%2e%2e%3b/a", "https://b.x/%252e%252e%253b/a",
	"https://b.x/a/..;/..;/b", "https://b.x/..%3Bx/",
	"https://b.x/a%2f%2e%2e/b", "https://b.x/%2e%2e%2f%2e%2e%2fetc", "https://b.x/;/../a", "https://b.x/a/..%00/", "https://b.x/a/%2e/%2e%2e/",
	// backslashes
	"https://b.x/\\", "https://b.x/a\\..\\b", "https://b.x/a%5cb", "https://b.x/a%5C..%5Cb", "https://b.x/a%255cb", "https://b.x/..%5ca", "https://b.x/%5c%5cevil/",
	// control characters
	"https://b.x/%00", "https://b.x/a%00b", "https://b.x/a%00.png", "https://b.x/a%0d%0aX:y", "https://b.x/a%0a", "https://b.x/a%09b", "https://b.x/a%7f",
	"https://b.x/a%2500", "https://b.x/a%250d%250a", "https://b.x/a\x00b", "https://b.x/a\r\nX: y", "https://b.x/a\x7f", "https://b.x/a\tb", "https://b.x/%1b[31m", "https://b.x/a%C2%9Bb",
	// invalid and overlong UTF-8
	"https://b.x/%ff", "https://b.x/%c0%ae%c0%ae/a", "https://b.x/%c0%af", "https://b.x/%e0%80%af", "https://b.x/%f0%80%80%af", "https://b.x/%c1%9c", "https://b.x/%ed%a0%80",
	"https://b.x/%80", "https://b.x/%c3", "https://b.x/%25c0%25ae", "https://b.x/a%25ff", "https://b.x/%fe%ff",
	// bytes outside RFC 3986
	"https://b.x/a b", "https://b.x/<script>", "https://b.x/a\"b", "https://b.x/{a}", "https://b.x/a|b", "https://b.x/a^b", "https://b.x/`a`", "https://b.x/é",
	"https://b.x/[a]", "https://b.x/\xff", "https://b.x/\u2025/", "https://b.x/\uff0e\uff0e/",
	// bad escapes
	"https://b.x/%", "https://b.x/%2", "https://b.x/%zz", "https://b.x/a%g0", "https://b.x/%u002e", "https://b.x/%-1", "https://b.x/%%32%65",
	// the query
	"https://b.x/a?q=a b", "https://b.x/a?q=\x00", "https://b.x/a?q=\r\nX:y", "https://b.x/a?\x7f",
	// size
	"https://b.x/" + strings.Repeat("a", 17<<10),
}

func TestMalformedForwardedURLIsRefused(t *testing.T) {
	assert.GreaterOrEqual(t, len(attacks), 150)
	for _, forwarded := range attacks {
		got, err := target.Parse(forwarded)
		assert.ErrorIs(t, err, target.ErrMalformed, "%q gave %+v", forwarded, got)
	}
}

func TestPathConfusionIsRefusedWhereThePathDecides(t *testing.T) {
	for raw, clear := range map[string]bool{
		"/": true, "/a": true, "/a/": true, "/a%20b": true, "/a:b@c": true,
		"//": false, "//a": false, "/a//b": false, "/a%2fb": false, "/a%2Fb": false, "/a;b": false, "/a%3bb": false, "/a%2f%2fb": false, "/;": false,
	} {
		parsed, err := target.Parse("https://b.x" + raw)
		require.NoError(t, err, raw)
		if err := parsed.Unambiguous(); clear {
			assert.NoError(t, err, raw)
		} else {
			assert.ErrorIs(t, err, target.ErrMalformed, raw)
		}
	}
}

// What was decided on is sent on, byte for byte.
func TestURLIsByteForByte(t *testing.T) {
	for _, raw := range []string{
		"/", "/a", "/a/", "//", "//a", "//a//b", "/a%2Fb", "/a%2fb", "/%41", "/a%20b", "/a;b=c,d", "/!$&'()*+,;=:@", "/%C3%A9", "/a?", "/a?b", "/?b=c&d", "/a?b?c", "/a?%zz", "/~%7E",
		"/%25", "/a%25b?x=%00", "//evil.example/a", "/a:b", "/a?q=\"|\"",
	} {
		parsed, err := target.Parse("https://b.x" + raw)
		require.NoError(t, err, raw)
		assert.Equal(t, raw, parsed.URL().RequestURI())
		assert.Equal(t, "b.x", parsed.URL().Host)
	}
}

func FuzzParse(f *testing.F) {
	for _, attack := range attacks {
		f.Add(attack)
	}
	f.Add("https://backend.apps.identity/a%2Fb?q")
	f.Fuzz(func(t *testing.T, forwarded string) {
		parsed, err := target.Parse(forwarded)
		if err != nil {
			assert.ErrorIs(t, err, target.ErrMalformed)
			return
		}
		assert.True(t, strings.HasPrefix(parsed.RawPath, "/"))
		assert.True(t, utf8.ValidString(parsed.Path))
		for _, segment := range parsed.Segments {
			assert.NotContains(t, []string{"", ".", ".."}, segment)
		}
		want := parsed.RawPath
		if parsed.HasQuery {
			want += "?" + parsed.Query
		}
		assert.Equal(t, want, parsed.URL().RequestURI())
		// What comes out, put in again, is the same: there is one reading.
		again, err := target.Parse("https://" + parsed.Host + want)
		assert.NoError(t, err)
		assert.Equal(t, parsed, again)
	})
}

package route_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/mtls-authz/mtls-authz/grants/route"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPathPatterns(t *testing.T) {
	for pattern, paths := range map[string]struct{ allow, deny string }{
		"/":          {"/ //", "/a /a/b"},
		"/metrics":   {"/metrics /metrics/ //metrics", "/ /metric /metricsx /Metrics /metrics/x /x/metrics"},
		"/metrics/":  {"/metrics /metrics/", "/ /metrics/x"},
		"/a/b":       {"/a/b /a/b/", "/a /a/ /a/b/c /b /a/c /a/B"},
		"/*":         {"/a /a/ /b", "/ /a/b"},
		"/*/":        {"/a /a/", "/ /a/b"},
		"/a/*":       {"/a/b /a/c/", "/a /a/ /a/b/c /b/b"},
		"/a/*/c":     {"/a/b/c /a/x/c/", "/a/c /a//c /a/b/b/c /a/b/d"},
		"/*/*":       {"/a/b", "/ /a /a/b/c"},
		"/**":        {"/ /a /a/b /a/b/c/", ""},
		"/**/":       {"/ /a /a/b", ""},
		"/api/**":    {"/api /api/ /api/x /api/x/y/z", "/ /ap /apix /apix/y /API/x /x/api"},
		"/api/*/**":  {"/api/x /api/x/y", "/api /api/"},
		"/\u00fc":    {"/\u00fc", "/u /%C3%BC /u\u0308"},
		"/.hidden":   {"/.hidden", "/hidden /."},
		"/a:b@c,d=e": {"/a:b@c,d=e", "/a"},
		"/a b":       {"", "/a%20b /a+b /ab /a/b"},
	} {
		p, err := route.ParsePattern(pattern)
		require.NoError(t, err, pattern)
		for _, path := range strings.Fields(paths.allow) {
			assert.True(t, p.Match(route.Segments(path)), "%s must match %s", pattern, path)
		}
		for _, path := range strings.Fields(paths.deny) {
			assert.False(t, p.Match(route.Segments(path)), "%s must not match %s", pattern, path)
		}
	}
}

func TestPathPatternsThatAreRefused(t *testing.T) {
	for name, pattern := range map[string]string{
		"empty":                  "",
		"no slash in front":      "api",
		"only a wildcard":        "**",
		"a URL":                  "https://backend.apps/api",
		"** inside":              "/a/**/b",
		"** twice":               "/**/**",
		"* as part of a segment": "/a*",
		"* in a file name":       "/*.html",
		"** as part":             "/a**",
		"three stars":            "/***",
		"empty segment":          "/a//b",
		"two slashes":            "//",
		"slash at the end twice": "/a//",
		"dot segment":            "/a/./b",
		"dot segments up":        "/a/../b",
		"dot segment at the end": "/a/..",
		"escape":                 "/a%2fb",
		"query":                  "/a?x=1",
		"fragment":               "/a#b",
		"path parameter":         "/a;v=1",
		"backslash":              `/a\b`,
		"NUL":                    "/a\x00",
		"newline":                "/a\n",
		"DEL":                    "/a\x7f",
		"a C1 control":           "/a\u009b2J",
		"bidi override":          "/a\u202eb",
		"bidi isolate":           "/a\u2066b",
		"zero width":             "/a\u200bb",
		"a space that is none":   "/a\u00a0b",
		"byte order mark":        "/\ufeffa",
		"not UTF-8":              "/a\xff",
		"too long":               "/" + strings.Repeat("a", 1024),
	} {
		t.Run(name, func(t *testing.T) {
			p, err := route.ParsePattern(pattern)
			require.Error(t, err)
			assert.Empty(t, p)
			assert.False(t, p.Match(nil))
		})
	}
}

func TestZeroPatternMatchesNothing(t *testing.T) {
	for _, segments := range [][]string{nil, {}, {""}, {"a"}} {
		assert.False(t, route.Pattern("").Match(segments))
	}
}

// Segments are not empty by contract; a caller that breaks it gets no match.
func TestEmptySegmentsNeverMatch(t *testing.T) {
	for _, pattern := range []route.Pattern{"/*", "/a/*", "/a", "/*/*"} {
		assert.False(t, pattern.Match([]string{""}), pattern)
		assert.False(t, pattern.Match([]string{"a", ""}), pattern)
		assert.False(t, pattern.Match([]string{"", "a"}), pattern)
	}
}

func TestSegments(t *testing.T) {
	for path, want := range map[string][]string{
		"": nil, "/": nil, "//": nil, "/a": {"a"}, "a/b": {"a", "b"}, "/a//b/": {"a", "b"}, "/a b/%": {"a b", "%"},
	} {
		assert.Equal(t, want, route.Segments(path), path)
	}
}

// matchesOracle is the pattern language once more, as a regular expression
// over the joined path.
func matchesOracle(pattern string, segments []string) bool {
	expression := strings.Builder{}
	for _, segment := range route.Segments(pattern) {
		switch segment {
		case "*":
			expression.WriteString("/[^/]+")
		case "**":
			expression.WriteString("(/[^/]+)*")
		default:
			expression.WriteString("/" + regexp.QuoteMeta(segment))
		}
	}
	path := ""
	for _, segment := range segments {
		path += "/" + segment
	}
	return regexp.MustCompile(`\A(?s:` + expression.String() + `)\z`).MatchString(path)
}

func FuzzPathPattern(f *testing.F) {
	for _, pattern := range []string{"/", "/a", "/a/", "/*", "/**", "/a/*/b/**", "/a/**/b", "//", "/a*", "/\u00fc", "/.."} {
		f.Add(pattern, "/a")
		f.Add(pattern, "/a/x/b//c/")
		f.Add(pattern, "/*/**")
	}
	f.Fuzz(func(t *testing.T, pattern, path string) {
		segments := route.Segments(path)
		p, err := route.ParsePattern(pattern)
		if err != nil {
			require.Empty(t, p)
			return
		}
		require.Equal(t, matchesOracle(pattern, segments), p.Match(segments), "%q on %q", pattern, segments)
		own := route.Segments(pattern)
		require.True(t, p.Match(own) || slices.Contains(own, "**"), "a pattern matches itself")
		if !strings.Contains(pattern, "*") {
			require.Equal(t, slices.Equal(own, segments), p.Match(segments), "without a wildcard only itself")
		}
		again, err := route.ParsePattern(string(p))
		require.NoError(t, err)
		require.Equal(t, p, again, "the parsed pattern is its own spelling")
	})
}

package route_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/grants/route"
)

// FuzzRoute: a route is refused as such, or is its own spelling and matches
// itself.
func FuzzRoute(f *testing.F) {
	for _, s := range []string{"backend.apps.identity/beta", "*.a.b", "A.B/C/", "10.0.0.1", "a:1", "\u212a.b", "a.b//", "a.0x1", "[::1]/", "a.b/.."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := route.Parse(text)
		if err != nil {
			require.ErrorIs(t, err, route.ErrRoute)
			require.Zero(t, r)
			return
		}
		again, err := route.Parse(r.String())
		require.NoError(t, err)
		require.Equal(t, r, again)
		require.True(t, strings.EqualFold(strings.TrimSuffix(text, "/"), r.String()))
		require.Len(t, r.String(), len(strings.TrimSuffix(text, "/")), "no letter but A-Z changes")
		host := strings.Replace(r.Host, "*", "x", 1)
		require.NoError(t, route.CheckHost(host))
		require.True(t, r.MatchHost(host))
		require.True(t, r.MatchPath(r.Path+"/x"))
	})
}

// FuzzMatch: hosts match as a whole or below a wildcard, context paths by whole
// segments in any case; and what covers a route matches all that it matches.
func FuzzMatch(f *testing.F) {
	f.Add("backend.apps.identity/beta", "*.apps.identity", "backend.apps.identity", "/BETA/x")
	f.Add("*.a.b/c", "*.a.b/c", "x.y.a.b", "/c")
	f.Add("a.b/c", "a.b", "a.b", "/cc")
	f.Add("*.a.b", "*.b", "a.b", "/")
	f.Add("a.b/k", "a.b/k", "a.b", "/\u212a")
	f.Fuzz(func(t *testing.T, bound, pattern, host, path string) {
		r, err := route.Parse(bound)
		if err != nil {
			return
		}
		if parsed, err := route.ParseHost(host); err == nil {
			require.Equal(t, strings.ToLower(host), parsed)
			host = parsed
			labels, own := strings.Split(host, "."), strings.Split(r.Host, ".")
			want := slices.Equal(labels, own)
			if own[0] == "*" {
				want = len(labels) >= len(own) && slices.Equal(labels[len(labels)-len(own)+1:], own[1:])
			}
			require.Equal(t, want, r.MatchHost(host), "%s on %s", r, host)
		}
		if strings.HasPrefix(path, "/") && isASCII(path) {
			segments, own := strings.Split(strings.ToLower(path), "/"), strings.Split(r.Path, "/")
			require.Equal(t, len(segments) >= len(own) && slices.Equal(segments[:len(own)], own), r.MatchPath(path), "%q on %q", r.Path, path)
		}
		p, err := route.Parse(pattern)
		if err == nil && p.Covers(r) && r.MatchHost(host) && r.MatchPath(path) {
			require.True(t, p.MatchHost(host) && p.MatchPath(path), "%s covers %s", p, r)
		}
	})
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > 0x7e })
}

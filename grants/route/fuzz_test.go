package route_test

import (
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

package headers_test

import (
	"net/http"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/gateway/headers"
)

// The names once more: any character but letters and digits stands for "-".
var (
	ownName    = regexp.MustCompile(`\A(?i:x[^a-z0-9]mtls[^a-z0-9]authz[^a-z0-9])`)
	routerName = regexp.MustCompile(`\A(?i:x[^a-z0-9](?:cf[^a-z0-9](?:forwarded[^a-z0-9]url|proxy[^a-z0-9](?:signature|metadata))|forwarded[^a-z0-9]client[^a-z0-9]cert))\z`)
	exactName  = regexp.MustCompile(`\AX-(?:Cf-(?:Forwarded-Url|Proxy-(?:Signature|Metadata))|Forwarded-Client-Cert)\z`)
)

// FuzzNames: whatever a name, it passes only if nobody can take it for one that
// only the gateway or the router may speak.
func FuzzNames(f *testing.F) {
	for _, name := range []string{
		"X-Mtls-Authz-Caller", "x_mtls_authz_hop", "X.Mtls-Authz", "X-Cf-Proxy-Signature", "X_CF_Proxy_Metadata", "x-forwarded-client-cert", "X-Forwarded-For", "", "-", "X-MTLS-AUTHZ-",
		"Trailer:X-Mtls-Authz-Caller", "X-\u212aey",
	} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		own, router, exact := ownName.MatchString(name), routerName.MatchString(name), exactName.MatchString(name)
		require.Equal(t, own || router && !exact, headers.IsForged(name))
		require.Equal(t, own || router, headers.IsForgedTrailer(name))

		h := http.Header{name: {"v"}, http.TrailerPrefix + name: {"v"}}
		headers.DeleteForged(h)
		require.Equal(t, !headers.IsForged(name), h[name] != nil)
		headers.DeleteForgedTrailers(h)
		require.Equal(t, !headers.IsForgedTrailer(name), h[http.TrailerPrefix+name] != nil)

		// A list with the name in it announces what may come, and nothing else.
		for _, allowed := range headers.AllowedNames([]string{"Ok, " + name, name}) {
			require.False(t, headers.IsForgedTrailer(http.CanonicalHeaderKey(allowed)), "%q", allowed)
		}
	})
}

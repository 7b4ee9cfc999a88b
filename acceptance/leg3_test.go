package acceptance_test

import (
	"crypto/tls"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const leg3Host = "leg3.apps.identity"

// sent is leg 3 as it left the gateway.
type sent struct {
	*http.Request
	body    string
	trailer http.Header
}

// leg3 is a protected route whose router is the test itself: routers drop the
// trailers of requests and take signatures off, so that apps do not see them.
func leg3(t *testing.T) (*protected, chan sent) {
	w := start(t, setup{env: []string{"ROUTER_TRUST=assume"}})
	requests := make(chan sent, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		requests <- sent{r, string(body), r.Trailer.Clone()}
		if r.URL.Path == "/redirect" {
			http.Redirect(w, r, "https://elsewhere.apps.identity/", http.StatusTemporaryRedirect)
		}
	}))
	certificate, err := w.RouterCA.Server(leg3Host)
	require.NoError(t, err)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate.TLS()}, ClientAuth: tls.RequireAnyClientCert}
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // one handshake is meant to fail
	server.StartTLS()
	t.Cleanup(server.Close)
	w.restart(t, "ROUTER_ADDRESS="+leg3Host+"="+server.Listener.Addr().String()+","+w.Router.Addr())
	return w.protect(t, protection{route: leg3Host, parameters: `{"allow":["cf:any"]}`}), requests
}

func TestLeg3(t *testing.T) {
	t.Parallel()
	p, requests := leg3(t)

	t.Run("goes to the configured address under the route's name with the gateway's own certificate", func(t *testing.T) {
		p.direct(t, leg2{caller: "frontend"}).expect(t, "200 allowed")
		got := <-requests
		assert.Equal(t, leg3Host, got.Host)
		assert.Equal(t, leg3Host, got.TLS.ServerName)
		assert.Equal(t, gateway.Identity().Instance, got.TLS.PeerCertificates[0].Subject.CommonName)
	})

	t.Run("carries the three headers and the caller's certificate unchanged", func(t *testing.T) {
		names := []string{forwardedURLHeader, signatureHeader, metadataHeader}
		header := p.directSigned(t, "https://"+leg3Host+"/x", names)
		got := <-requests
		for _, name := range names {
			assert.Equal(t, header[name], got.Header[name])
		}
		assert.Equal(t, []string{p.credentials["frontend"].XFCC()}, got.Header[xfccHeader])
		assert.Equal(t, "/x", got.RequestURI)
	})

	t.Run("carries the trailers of the request", func(t *testing.T) {
		p.direct(t, leg2{
			caller: "frontend", method: "POST", headers: []string{"Transfer-Encoding: chunked", "Trailer: X-Checksum"},
			body: "4\r\nbody\r\n0\r\nX-Checksum: 42\r\n\r\n",
		}).expect(t, "200 allowed")
		got := <-requests
		assert.Equal(t, "body", got.body)
		assert.Equal(t, "42", got.trailer.Get("X-Checksum"))
	})

	t.Run("carries no trailer that only the gateway may send", func(t *testing.T) {
		for _, name := range gatewayNames {
			p.direct(t, leg2{
				caller: "frontend", method: "POST", headers: []string{"Transfer-Encoding: chunked", "Trailer: " + name + ", X-Checksum"},
				body: "4\r\nbody\r\n0\r\n" + name + ": " + forgedValue + "\r\nX-Checksum: 42\r\n\r\n",
			}).expect(t, "200 allowed")
			got := <-requests
			assertNoForgery(t, got.Header)
			assertNoForgery(t, got.trailer)
			assert.NotContains(t, got.trailer, http.CanonicalHeaderKey(name))
			assert.Equal(t, "42", got.trailer.Get("X-Checksum"), name)
		}
	})

	t.Run("does not follow redirects", func(t *testing.T) {
		r := p.direct(t, leg2{caller: "frontend", forwarded: "https://" + leg3Host + "/redirect"}).expect(t, "307 allowed")
		assert.Equal(t, "https://elsewhere.apps.identity/", r.header.Get("Location"))
		<-requests
	})

	t.Run("is refused by a router with a certificate of somebody else", func(t *testing.T) {
		p.restart(t, "ROUTER_CA_FILES="+anotherCA(t, p.world))
		p.direct(t, leg2{caller: "frontend"}).expect(t, "502 upstream_unreachable")
	})
}

// anotherCA writes a CA that did not issue the router's certificate.
func anotherCA(t *testing.T, w *world) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "another.pem")
	require.NoError(t, os.WriteFile(path, w.another.PEM(), 0o600))
	return path
}

// directSigned sends a leg 2 with three headers that the test knows.
func (p *protected) directSigned(t *testing.T, forwarded string, names []string) http.Header {
	t.Helper()
	header, err := sign(forwarded, time.Now())
	require.NoError(t, err)
	request := leg2{caller: "frontend", forwarded: forwarded, without: names}
	for _, name := range names {
		request.headers = append(request.headers, name+": "+header.Get(name))
	}
	p.direct(t, request).expect(t, "200 allowed")
	return header
}

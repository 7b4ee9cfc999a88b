package acceptance_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground"
)

const (
	egressHost = "egress.apps.identity"
	oldHost    = "old-tls.apps.identity"
)

// egress is what leaves the gateway, as a router sees it that the test is.
type egress struct {
	*protected
	// old is a route whose router speaks TLS 1.1 only.
	old *protected

	mu   sync.Mutex
	came []connection
	// answer is what the router does with the next requests.
	answer http.HandlerFunc
	// refused counts connections to the old router, elsewhere those to places that
	// the gateway has no business with.
	refused, elsewhere atomic.Int64
	elsewhereURL       string
}

// connection is how a request came.
type connection struct {
	client, host, certificate string
	tls.ConnectionState
}

func newEgress(t *testing.T) *egress {
	e := &egress{}
	e.elsewhereURL = "http://" + counting(t, &e.elsewhere)
	proxy := e.elsewhereURL
	w := start(t, setup{env: []string{
		"ROUTER_TRUST=assume", "HTTPS_PROXY=" + proxy, "https_proxy=" + proxy, "HTTP_PROXY=" + proxy, "http_proxy=" + proxy, "ALL_PROXY=" + proxy, "NO_PROXY=",
	}})
	now := e.listen(t, w, func(*tls.Config) {}, func(rw http.ResponseWriter, r *http.Request) {
		e.mu.Lock()
		defer e.mu.Unlock()
		_, _ = io.Copy(io.Discard, r.Body)
		e.came = append(e.came, connection{r.RemoteAddr, r.Host, r.TLS.PeerCertificates[0].Subject.CommonName + " " + r.TLS.PeerCertificates[0].SerialNumber.String(), *r.TLS})
		if e.answer != nil {
			e.answer(rw, r)
		}
	})
	old := e.listen(t, w, func(c *tls.Config) {
		c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
		c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { e.refused.Add(1); return nil, nil }
	}, func(http.ResponseWriter, *http.Request) { t.Error("a router that speaks TLS 1.1 got a request") })
	w.restart(t, fmt.Sprintf("ROUTER_ADDRESS=%s=%s,%s=%s,%s", egressHost, now, oldHost, old, w.Router.Addr()))
	e.protected = w.protect(t, protection{route: egressHost, parameters: `{"allow":["cf:app:$frontend"]}`})
	e.old = w.protect(t, protection{route: oldHost, parameters: `{"allow":["cf:app:$frontend"]}`})
	return e
}

// listen starts a router; it returns its address.
func (e *egress) listen(t *testing.T, w *world, edit func(*tls.Config), handler http.HandlerFunc) string {
	certificate, err := w.RouterCA.Server("*." + playground.Domain)
	require.NoError(t, err)
	server := httptest.NewUnstartedServer(handler)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate.TLS()}, ClientAuth: tls.RequireAnyClientCert}
	edit(server.TLS)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // some handshakes are meant to fail
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// counting listens and counts who comes, and says nothing.
func counting(t *testing.T, count *atomic.Int64) (address string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			count.Add(1)
			conn.Close()
		}
	}()
	return listener.Addr().String()
}

// send sends the frontend's request, and returns how it came to the router.
func (e *egress) send(t *testing.T, want string) connection {
	t.Helper()
	before := len(e.seen())
	e.direct(t, leg2{caller: "frontend"}).expect(t, want)
	require.Len(t, e.seen(), before+1)
	return e.seen()[before]
}

// seen is how all requests came to the router.
func (e *egress) seen() []connection {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.came)
}

func TestEgress(t *testing.T) {
	t.Parallel()
	e := newEgress(t)
	once := func(answer http.HandlerFunc) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.answer = answer
	}
	hangUp := func(rw http.ResponseWriter, _ *http.Request) { rw.Header().Set("Connection", "close") }

	t.Run("under the route's name, by TLS 1.2 or later, with the gateway's own certificate", func(t *testing.T) {
		got := e.send(t, "200 allowed")
		assert.Equal(t, egressHost, got.host)
		assert.Equal(t, egressHost, got.ServerName)
		assert.GreaterOrEqual(t, got.Version, uint16(tls.VersionTLS12))
		assert.Contains(t, got.certificate, gateway.Identity().Instance)
	})

	t.Run("connections are kept, and sessions resumed", func(t *testing.T) {
		first := e.send(t, "200 allowed")
		once(hangUp)
		assert.Equal(t, first.client, e.send(t, "200 allowed").client)
		once(nil)
		next := e.send(t, "200 allowed")
		assert.NotEqual(t, first.client, next.client)
		assert.True(t, next.DidResume)
	})

	t.Run("nothing of the former certificate is used again", func(t *testing.T) {
		former := e.send(t, "200 allowed")
		renewed, err := e.Credential(playground.Authz)
		require.NoError(t, err)
		_, _, err = renewed.WriteFiles(filepath.Join(e.Dir, playground.Authz.Name))
		require.NoError(t, err)
		e.await(t, "the new certificate", func() map[string]any {
			for _, line := range e.lines {
				if strings.Contains(line, "read again: the gateway's own certificate") {
					return map[string]any{}
				}
			}
			return nil
		})
		got := e.send(t, "200 allowed")
		assert.Contains(t, got.certificate, renewed.Leaf().SerialNumber.String())
		assert.NotEqual(t, former.certificate, got.certificate)
		assert.NotEqual(t, former.client, got.client)
		assert.False(t, got.DidResume)
	})

	t.Run("not to a router that speaks TLS 1.1 only", func(t *testing.T) {
		e.old.direct(t, leg2{caller: "frontend"}).expect(t, "502 upstream_unreachable")
		assert.Positive(t, e.refused.Load(), "it was tried")
	})

	t.Run("421 of the router concerns the connection", func(t *testing.T) {
		misdirected := func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusMisdirectedRequest) }
		once(func(rw http.ResponseWriter, r *http.Request) {
			misdirected(rw, r)
			e.answer = nil // under the lock
		})
		before := len(e.seen())
		e.direct(t, leg2{caller: "frontend"}).expect(t, "200 allowed")
		require.Len(t, e.seen(), before+2)
		assert.NotEqual(t, e.seen()[before].client, e.seen()[before+1].client)

		once(misdirected)
		r := e.direct(t, leg2{caller: "frontend"}).expect(t, "502 upstream_unreachable")
		assert.Equal(t, "allowed", r.line["mtls_auth"])
		assert.Contains(t, r.line["detail"], "421")
		require.Len(t, e.seen(), before+4)
		e.direct(t, leg2{caller: "frontend", method: "POST", headers: []string{"Content-Length: 4"}, body: "body"}).expect(t, "502 upstream_unreachable")
		require.Len(t, e.seen(), before+5, "a body is sent once")

		once(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("X-Vcap-Request-Id", "the app's")
			misdirected(rw, r)
		})
		e.direct(t, leg2{caller: "frontend"}).expect(t, "421 allowed")
		require.Len(t, e.seen(), before+6)
	})

	t.Run("no way out of an answer is followed", func(t *testing.T) {
		for _, status := range []int{301, 302, 303, 307, 308} {
			once(func(rw http.ResponseWriter, _ *http.Request) {
				rw.Header().Set("Location", e.elsewhereURL+"/")
				rw.Header().Set("Refresh", "0; url="+e.elsewhereURL)
				rw.Header().Set("Content-Location", e.elsewhereURL)
				rw.Header().Set("Alt-Svc", `h2="`+strings.TrimPrefix(e.elsewhereURL, "http://")+`"; ma=86400`)
				rw.Header().Set("Link", "<"+e.elsewhereURL+">; rel=preload")
				rw.WriteHeader(status)
			})
			r := e.direct(t, leg2{caller: "frontend"}).expect(t, fmt.Sprint(status, " allowed"))
			assert.Equal(t, e.elsewhereURL+"/", r.header.Get("Location"))
			assertNoForgery(t, r.header)
			for _, name := range []string{forwardedURLHeader, signatureHeader, metadataHeader} {
				assert.NotContains(t, r.header, name)
			}
		}
		once(nil)
		e.send(t, "200 allowed")
	})

	assert.Zero(t, e.elsewhere.Load(), "neither a proxy of the environment nor a place that an answer named was dialled")
	assert.Zero(t, e.app.count()+e.old.app.count())
}

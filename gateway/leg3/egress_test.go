package leg3_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/gateway/leg3"
	"github.com/mtls-authz/mtls-authz/playground/ca"
)

const (
	backend = "https://backend.apps.identity/"
	sibling = "https://sibling.apps.identity/"
)

// watched is a router that remembers how each request came to it.
type watched struct {
	*httptest.Server
	cfg leg3.Config

	mu     sync.Mutex
	came   []came
	closed chan string // the client's addresses of closed connections
}

// came is how a request came.
type came struct {
	client, serverName, method string
	resumed                    bool
	certificate                *x509.Certificate
}

// watch starts a router; edit may change its TLS.
func watch(t *testing.T, handler http.HandlerFunc, edit func(*tls.Config)) *watched {
	root, err := ca.NewRoot("router")
	require.NoError(t, err)
	certificate, err := root.Server("*.apps.identity")
	require.NoError(t, err)
	w := &watched{closed: make(chan string, 100)}
	w.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		one := came{client: r.RemoteAddr, serverName: r.TLS.ServerName, method: r.Method, resumed: r.TLS.DidResume}
		if len(r.TLS.PeerCertificates) > 0 {
			one.certificate = r.TLS.PeerCertificates[0]
		}
		w.mu.Lock()
		w.came = append(w.came, one)
		w.mu.Unlock()
		handler(rw, r)
	}))
	w.Config.ErrorLog = log.New(io.Discard, "", 0) // some handshakes are meant to fail
	w.Config.ConnState = func(conn net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			w.closed <- conn.RemoteAddr().String()
		}
	}
	w.TLS = &tls.Config{Certificates: []tls.Certificate{certificate.TLS()}, ClientAuth: tls.RequestClientCert}
	if edit != nil {
		edit(w.TLS)
	}
	w.StartTLS()
	t.Cleanup(w.Close)
	roots := x509.NewCertPool()
	roots.AddCert(root.Certificate())
	w.cfg = leg3.Config{Address: func(string) string { return w.Listener.Addr().String() }, Roots: roots, HeaderTimeout: time.Minute}
	return w
}

func (w *watched) router(t *testing.T, certificate func() *tls.Certificate) *leg3.Router {
	w.cfg.Certificate = certificate
	r := leg3.New(w.cfg)
	t.Cleanup(r.CloseIdle)
	return r
}

// last is how the last request came, after it was answered.
func (w *watched) last(t *testing.T) came {
	w.mu.Lock()
	defer w.mu.Unlock()
	require.NotEmpty(t, w.came)
	return w.came[len(w.came)-1]
}

// nextClosed is the client's address of the next connection that was closed.
func (w *watched) nextClosed(t *testing.T) string {
	select {
	case client := <-w.closed:
		return client
	case <-time.After(time.Minute):
		t.Fatal("no connection was closed")
		return ""
	}
}

// read sends a request and reads the answer to its end, so that the connection
// can be used again.
func read(t *testing.T, r http.RoundTripper, method, url, body string) (int, error) {
	t.Helper()
	var content io.Reader
	if body != "" {
		content = strings.NewReader(body)
	}
	request, err := http.NewRequestWithContext(t.Context(), method, url, content)
	require.NoError(t, err)
	res, err := r.RoundTrip(request)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, res.Body)
	require.NoError(t, err)
	return res.StatusCode, res.Body.Close()
}

func fine(http.ResponseWriter, *http.Request) {}

// pairs are certificates of the gateway, one after the other.
func pairs(t *testing.T, n int) []*tls.Certificate {
	root, err := ca.NewRoot("identity")
	require.NoError(t, err)
	var all []*tls.Certificate
	for range n {
		one, err := root.Instance(ca.Identity{App: "a", Space: "b", Org: "c", Instance: "i"})
		require.NoError(t, err)
		pair := one.TLS()
		all = append(all, &pair)
	}
	return all
}

func TestARouterOfAnOldTLSIsNotTalkedTo(t *testing.T) {
	for version, spoken := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		w := watch(t, fine, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, version })
		_, err := read(t, w.router(t, nil), "GET", backend, "")
		if spoken {
			require.NoError(t, err, tls.VersionName(version))
			continue
		}
		require.ErrorContains(t, err, "protocol version", tls.VersionName(version))
		assert.Empty(t, w.came)
	}
}

func TestSessionsAreResumedForTheSameHostOnly(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			w := watch(t, fine, func(c *tls.Config) { c.MaxVersion = version })
			own := pairs(t, 1)[0]
			r := w.router(t, func() *tls.Certificate { return own })
			for _, step := range []struct {
				url     string
				resumed bool
			}{{backend, false}, {backend, true}, {sibling, false}, {sibling, true}, {backend, true}} {
				_, err := read(t, r, "GET", step.url, "")
				require.NoError(t, err)
				got := w.last(t)
				assert.Equal(t, step.resumed, got.resumed)
				assert.Equal(t, strings.Split(step.url, "/")[2], got.serverName)
				assert.True(t, got.certificate.Equal(own.Leaf), "also by a resumed session")
				r.CloseIdle()
			}
		})
	}
}

// A connection to one host is not used for another: the router would answer 421.
func TestAConnectionIsForOneHost(t *testing.T) {
	w := watch(t, fine, nil)
	r := w.router(t, nil)
	var clients []string
	for _, url := range []string{backend, sibling, backend, sibling} {
		_, err := read(t, r, "GET", url, "")
		require.NoError(t, err)
		clients = append(clients, w.last(t).client)
	}
	assert.NotEqual(t, clients[0], clients[1])
	assert.Equal(t, clients[:2], clients[2:], "connections are kept")
}

func TestAProbeProvesWhatIsTrueNow(t *testing.T) {
	w := watch(t, fine, nil)
	r := leg3.NewOneShot(w.cfg)
	for range 3 {
		_, err := read(t, r, "GET", backend, "")
		require.NoError(t, err)
		got := w.last(t)
		assert.False(t, got.resumed)
		assert.Equal(t, got.client, w.nextClosed(t))
	}
}

// Nothing of the former certificate is left: no connection, which would show it
// on and on, and no session, by which a router takes the client for its holder.
func TestARotatedCertificateIsShownAtOnce(t *testing.T) {
	all := pairs(t, 2)
	var current atomic.Pointer[tls.Certificate]
	current.Store(all[0])
	w := watch(t, fine, nil)
	r := w.router(t, current.Load)
	for range 2 {
		_, err := read(t, r, "GET", backend, "")
		require.NoError(t, err)
	}
	before := w.last(t)
	require.True(t, before.certificate.Equal(all[0].Leaf))

	current.Store(all[1])
	for range 2 {
		_, err := read(t, r, "GET", backend, "")
		require.NoError(t, err)
		after := w.last(t)
		assert.True(t, after.certificate.Equal(all[1].Leaf))
		assert.False(t, after.resumed)
		assert.NotEqual(t, before.client, after.client)
	}
	assert.Equal(t, before.client, w.nextClosed(t), "the idle connection of the former certificate")
}

// What is under way when the certificate changes ends as it would have, and its
// connection is not used again.
func TestARotationDisturbsNobody(t *testing.T) {
	all := pairs(t, 2)
	var current atomic.Pointer[tls.Certificate]
	current.Store(all[0])
	begun, release := make(chan struct{}, 1), make(chan struct{})
	w := watch(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			begun <- struct{}{}
			<-release
		}
	}, nil)
	r := w.router(t, current.Load)
	ended := make(chan error, 1)
	go func() {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, backend+"slow", nil)
		if err == nil {
			var res *http.Response
			if res, err = r.RoundTrip(request); err == nil {
				err = res.Body.Close()
			}
		}
		ended <- err
	}()
	<-begun
	slow := w.last(t)
	current.Store(all[1])
	_, err := read(t, r, "GET", backend, "")
	require.NoError(t, err)
	close(release)
	require.NoError(t, <-ended)
	assert.Equal(t, slow.client, w.nextClosed(t))
	_, err = read(t, r, "GET", backend, "")
	require.NoError(t, err)
	assert.True(t, w.last(t).certificate.Equal(all[1].Leaf))
}

// For the race detector, and so that no request is lost.
func TestRotationsUnderLoad(t *testing.T) {
	all := pairs(t, 4)
	var current atomic.Pointer[tls.Certificate]
	current.Store(all[0])
	w := watch(t, fine, nil)
	w.closed = make(chan string, 10_000)
	r := w.router(t, current.Load)
	var senders sync.WaitGroup
	for range 4 {
		senders.Go(func() {
			for i := range 40 {
				current.Store(all[i/10])
				_, err := read(t, r, "GET", backend, "")
				assert.NoError(t, err)
			}
		})
	}
	senders.Wait()
}

// 421 concerns the connection, and comes before anybody looks at the request.
func TestARoutersMisdirectedRequestIsSentOnceMore(t *testing.T) {
	const app = "an app's"
	for name, c := range map[string]struct {
		method, body string
		answers      []string // request ids of 421 answers; then 200
		sent         int
		status       int // 0: ErrMisdirected
	}{
		"a stale connection":                  {method: "GET", answers: []string{""}, sent: 2, status: 200},
		"HEAD":                                {method: "HEAD", answers: []string{""}, sent: 2, status: 200},
		"a method that is not repeated else":  {method: "POST", answers: []string{""}, sent: 2, status: 200},
		"once only":                           {method: "GET", answers: []string{"", ""}, sent: 2},
		"not where a body has gone":           {method: "PUT", body: "body", answers: []string{""}, sent: 1},
		"an app's own is the app's":           {method: "GET", answers: []string{app}, sent: 1, status: 421},
		"an app's own after the router's own": {method: "GET", answers: []string{"", app}, sent: 2, status: 421},
	} {
		t.Run(name, func(t *testing.T) {
			left := c.answers
			w := watch(t, func(rw http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				if len(left) > 0 {
					rw.Header()["X-Vcap-Request-Id"] = []string{left[0]}
					left = left[1:]
					rw.WriteHeader(http.StatusMisdirectedRequest)
				}
			}, nil)
			r := w.router(t, nil)
			status, err := read(t, r, c.method, backend, c.body)
			assert.Equal(t, c.status, status)
			if c.status == 0 {
				require.ErrorIs(t, err, leg3.ErrMisdirected)
				require.ErrorIs(t, err, leg3.ErrUnreachable)
			}
			require.Len(t, w.came, c.sent)
			if c.sent == 2 {
				assert.NotEqual(t, w.came[0].client, w.came[1].client, "on a connection of its own")
				assert.Equal(t, c.method, w.came[1].method)
				assert.False(t, w.came[1].resumed)
			}
		})
	}
}

func TestAnAnswerWithAnEndlessHeaderIsNone(t *testing.T) {
	w := watch(t, func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("X-Long", strings.Repeat("x", 2<<20))
	}, nil)
	_, err := read(t, w.router(t, nil), "GET", backend, "")
	assert.ErrorContains(t, err, "exceeded")
}

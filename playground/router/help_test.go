package router_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground/ca"
	"github.com/mtls-authz/mtls-authz/playground/router"
)

const (
	host       = "backend.apps.identity"
	gateway    = "gateway.apps.identity"
	serviceURL = "https://" + gateway + "/r/binding/token"
)

// world is one router with the certificates around it.
type world struct {
	t        *testing.T
	router   *router.Router
	root     *ca.Authority
	identity *ca.Authority
	caller   *ca.Credential
}

func tlsConfig(c *ca.Credential) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{c.TLS()}}
}

func newWorld(t *testing.T, edits ...func(*router.Config)) *world {
	t.Helper()
	root, err := ca.NewRoot("appRootCA")
	require.NoError(t, err)
	identity, err := root.Intermediate("instanceIdentityCA")
	require.NoError(t, err)
	server, err := root.Server("*.apps.identity", "*.iso.identity", "*.b.apps.identity")
	require.NoError(t, err)
	caller, err := identity.Instance(ca.Identity{App: "app", Space: "space", Org: "org", Instance: "instance"})
	require.NoError(t, err)
	config := router.Config{Certificate: server.TLS(), ClientCAs: pool(root), RouteServiceCAs: pool(root)}
	for _, edit := range edits {
		edit(&config)
	}
	r, err := router.New(config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return &world{t: t, router: r, root: root, identity: identity, caller: caller}
}

func mode(m router.ForwardedClientCert) func(*router.Config) {
	return func(c *router.Config) { c.ForwardedClientCert = m }
}

func pool(authorities ...*ca.Authority) *x509.CertPool {
	p := x509.NewCertPool()
	for _, authority := range authorities {
		p.AddCert(authority.Certificate())
	}
	return p
}

// client reaches every host through the router, with a certificate or without.
func (w *world) client(certificates ...*ca.Credential) *http.Client {
	config := &tls.Config{RootCAs: pool(w.root)}
	for _, c := range certificates {
		config.Certificates = append(config.Certificates, c.TLS())
	}
	transport := &http.Transport{
		TLSClientConfig: config,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, w.router.Addr())
		},
	}
	w.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// app registers a plain HTTP app on each route.
func (w *world) app(handler http.HandlerFunc, routes ...string) *httptest.Server {
	w.t.Helper()
	server := httptest.NewServer(handler)
	w.t.Cleanup(server.Close)
	for _, route := range routes {
		require.NoError(w.t, w.router.Register(route, server.URL))
	}
	return server
}

// seen records the requests that a handler got.
type seen chan *http.Request

func record() (seen, http.HandlerFunc) {
	requests := make(seen, 16)
	return requests, func(_ http.ResponseWriter, r *http.Request) { requests <- r.Clone(context.Background()) }
}

func (w *world) bind() {
	w.t.Helper()
	require.NoError(w.t, w.router.Bind(host, serviceURL))
}

// routeService is a minimal route service on the gateway's route: it records
// leg 2 and plays leg 3 through the router, as edited.
func (w *world) routeService(edit func(leg3 *http.Request)) seen {
	w.t.Helper()
	requests := make(seen, 16)
	client := w.client()
	w.app(func(rw http.ResponseWriter, leg2 *http.Request) {
		requests <- leg2.Clone(context.Background())
		leg3, err := http.NewRequestWithContext(leg2.Context(), leg2.Method, leg2.Header.Get("X-Cf-Forwarded-Url"), leg2.Body)
		if err != nil {
			http.Error(rw, err.Error(), http.StatusBadRequest)
			return
		}
		leg3.Header = leg2.Header.Clone()
		leg3.ContentLength = leg2.ContentLength
		if edit != nil {
			edit(leg3)
		}
		res, err := client.Do(leg3)
		if err != nil {
			http.Error(rw, err.Error(), http.StatusBadGateway)
			return
		}
		defer res.Body.Close()
		for name, values := range res.Header {
			rw.Header()[name] = values
		}
		rw.WriteHeader(res.StatusCode)
		_, _ = io.Copy(rw, res.Body)
	}, gateway)
	return requests
}

type answer struct {
	*http.Response
	body string
}

func (w *world) get(client *http.Client, url string, headers ...string) answer {
	w.t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	require.NoError(w.t, err)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	return w.do(client, req)
}

func (w *world) do(client *http.Client, req *http.Request) answer {
	w.t.Helper()
	res, err := client.Do(req)
	require.NoError(w.t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(w.t, err)
	return answer{res, string(body)}
}

// signed is a GET to url that carries header.
func signed(t *testing.T, url string, header http.Header) *http.Request {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	require.NoError(t, err)
	req.Header = header.Clone()
	return req
}

// raw sends a request byte for byte over TLS and reads one answer.
func (w *world) raw(serverName string, lines ...string) answer {
	w.t.Helper()
	conn, err := tls.Dial("tcp", w.router.Addr(), &tls.Config{RootCAs: pool(w.root), ServerName: serverName})
	require.NoError(w.t, err)
	defer conn.Close()
	_, err = io.Copy(conn, strings.NewReader(strings.Join(lines, "\r\n")+"\r\n\r\n"))
	require.NoError(w.t, err)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(w.t, err)
	var body bytes.Buffer
	_, err = body.ReadFrom(res.Body)
	require.NoError(w.t, err)
	return answer{res, body.String()}
}

// Package router is a stand-in for gorouter on one machine: it terminates TLS
// on loopback, forwards client certificates, routes by host and context path,
// and plays all three legs of a route service. It behaves as the real one does
// where a route service can notice, weaknesses included, so it protects nobody:
// it is for the playground and the tests. It trusts its configuration and its
// callers in this process; requests it cannot place are answered as gorouter
// answers them.
package router

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/mtls-authz/mtls-authz/playground/router/relay"
	"github.com/mtls-authz/mtls-authz/playground/router/routes"
	"github.com/mtls-authz/mtls-authz/playground/router/signature"
)

// headerTimeout is how long a client may take to send a request's headers.
const headerTimeout = 10 * time.Second

// Router is a running router. It is safe for concurrent use.
type Router struct {
	config   Config
	routes   routes.Table
	sealer   *signature.Sealer
	listener net.Listener
	server   *http.Server
	cancel   context.CancelFunc
	served   chan struct{}

	backends *http.Transport // to apps, plain HTTP
	services *http.Transport // leg 2 to a route service elsewhere
	hairpin  *http.Transport // leg 2 to a route of this router
}

// New starts a router that listens on 127.0.0.1. It fails when config is not
// complete, naming the field, or when the port is taken.
func New(config Config) (*Router, error) {
	config, err := config.complete()
	if err != nil {
		return nil, err
	}
	sealer, err := signature.NewSealer(config.Secret, config.SignatureLifetime)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(config.Port)))
	if err != nil {
		return nil, fmt.Errorf("router: listen on Port %d: %w", config.Port, err)
	}
	r := &Router{
		config: config, sealer: sealer, listener: listener, served: make(chan struct{}),
		backends: relay.NewTransport(nil),
		services: relay.NewTransport(&tls.Config{RootCAs: config.RouteServiceCAs, MinVersion: tls.VersionTLS12}),
		hairpin:  relay.NewTransport(hairpinTLS(config.Certificate)),
	}
	r.hairpin.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, r.Addr())
	}
	r.serve()
	return r, nil
}

// Addr is the address the router listens on, 127.0.0.1:port.
func (r *Router) Addr() string { return r.listener.Addr().String() }

// Close ends the router at once: it listens no more, connections are cut,
// upgraded ones included, and requests under way are cancelled. The error is
// the listener's.
func (r *Router) Close() error {
	r.cancel()
	err := r.server.Close()
	<-r.served
	for _, transport := range []*http.Transport{r.backends, r.services, r.hairpin} {
		transport.CloseIdleConnections()
	}
	return err
}

// Sign returns the three headers that leg 1 would add for forwardedURL, signed
// now with this router's secret. Routers with the same Config.Secret accept
// each other's signatures.
func (r *Router) Sign(forwardedURL string) http.Header { return r.sealer.Seal(forwardedURL) }

// serve runs the server until Close. Every request's context descends from
// the one that Close cancels: that is what ends upgraded connections.
func (r *Router) serve() {
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	r.server = &http.Server{
		Handler:           http.HandlerFunc(r.walk),
		TLSConfig:         r.serverTLS(),
		ReadHeaderTimeout: headerTimeout,
		Protocols:         relay.HTTP1(),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          r.config.ErrorLog,
	}
	go func() {
		defer close(r.served)
		_ = r.server.ServeTLS(r.listener, "", "") // always http.ErrServerClosed or a failed accept
	}()
}

// serverTLS asks every client for a certificate and verifies it if one is
// given; for domains that require one, the handshake fails without it.
func (r *Router) serverTLS() *tls.Config {
	base := &tls.Config{
		Certificates: []tls.Certificate{r.config.Certificate},
		ClientAuth:   tls.VerifyClientCertIfGiven,
		ClientCAs:    r.config.ClientCAs,
		MinVersion:   tls.VersionTLS12,
	}
	strict := base.Clone()
	strict.ClientAuth = tls.RequireAndVerifyClientCert
	strict.NextProtos = []string{"http/1.1"}
	base.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if r.config.domain(hello.ServerName).RequireCertificate {
			return strict, nil
		}
		return nil, nil
	}
	return base
}

// hairpinTLS trusts exactly the router's own certificate, whatever host leg 2
// names: the connection goes to the router's own listener.
func hairpinTLS(own tls.Certificate) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection below is stricter
		VerifyConnection: func(state tls.ConnectionState) error {
			if !bytes.Equal(state.PeerCertificates[0].Raw, own.Certificate[0]) {
				return errors.New("router: leg 2 to itself met another certificate")
			}
			return nil
		},
	}
}

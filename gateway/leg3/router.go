// Package leg3 sends requests to the routers that the operator configured, and
// to nobody else: over TLS, with the route's host as server name, whatever the
// host's DNS says. It follows no redirect and knows no proxy environment. It
// tells a router's own refusal from an app's answer.
package leg3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"
)

// Config configures [New].
type Config struct {
	// Address returns the host:port to dial, by the host of the route. Required.
	Address func(host string) string
	// Roots verify the router's certificate. Required.
	Roots *x509.CertPool
	// Certificate is the gateway's own, presented where the router asks; nil:
	// none.
	Certificate func() *tls.Certificate
	// HeaderTimeout bounds the wait for the answer's header.
	HeaderTimeout time.Duration
}

// Router is the way to the apps. It is safe for concurrent use.
type Router struct {
	transport *http.Transport
}

// New returns a Router.
func New(cfg Config) *Router {
	dialer := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}
	tlsConfig := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		RootCAs:            cfg.Roots,
		ClientSessionCache: tls.NewLRUClientSessionCache(1024),
		NextProtos:         []string{"http/1.1"},
	}
	if cfg.Certificate != nil {
		tlsConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return cfg.Certificate(), nil
		}
	}
	return &Router{transport: &http.Transport{
		Proxy: nil,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			host, _, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			return dialer.DialContext(ctx, network, cfg.Address(host))
		},
		TLSClientConfig:       tlsConfig,
		TLSHandshakeTimeout:   5 * time.Second,
		DisableCompression:    true,
		MaxIdleConns:          2048,
		MaxIdleConnsPerHost:   256,
		IdleConnTimeout:       60 * time.Second,
		ResponseHeaderTimeout: cfg.HeaderTimeout,
		ExpectContinueTimeout: 5 * time.Second,
		TLSNextProto:          map[string]func(string, *tls.Conn) http.RoundTripper{}, // HTTP/1.1 only
	}}
}

// RoundTrip implements http.RoundTripper.
func (r *Router) RoundTrip(request *http.Request) (*http.Response, error) {
	res, err := r.transport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	if res, err = detectRejection(res); err != nil {
		return nil, err
	}
	if err := routerFailure(res); err != nil {
		res.Body.Close()
		return nil, err
	}
	return res, nil
}

// CloseIdle closes the connections that carry no request.
func (r *Router) CloseIdle() { r.transport.CloseIdleConnections() }

// ParseAddress checks a host:port to dial.
func ParseAddress(s string) (string, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return "", fmt.Errorf("%q: expected host:port", s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("%q: expected a port between 1 and 65535", s)
	}
	if host == "" {
		return "", errors.New("the host is empty")
	}
	return s, nil
}

// NewOneShot returns a Router that keeps no connection, for single requests such
// as probes: what they prove was true now.
func NewOneShot(cfg Config) *Router {
	r := New(cfg)
	r.transport.DisableKeepAlives = true
	return r
}

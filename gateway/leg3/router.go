// Package leg3 sends requests to the routers that the operator configured, and
// to nobody else: over TLS, with the route's host as server name, whatever the
// host's DNS says. It follows no redirect and knows no proxy environment. It
// tells a router's own refusal from an app's answer.
//
// It trusts the routers' certificates by the roots it was given, and fails by an
// error: there is no second way.
package leg3

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Config configures [New].
type Config struct {
	// Address returns the host:port to dial, by the host of the route. Required.
	Address func(host string) string
	// Roots verify the router's certificate. Required.
	Roots *x509.CertPool
	// Certificate is the gateway's own, presented where the router asks; nil:
	// none. Another pointer is another certificate: no connection and no session
	// of the former one is used again.
	Certificate func() *tls.Certificate
	// HeaderTimeout bounds the wait for the answer's header.
	HeaderTimeout time.Duration
}

// Router is the way to the apps. It is safe for concurrent use.
type Router struct {
	cfg     Config
	oneShot bool
	// turning is held while the connections are given up for new ones.
	turning     sync.Mutex
	connections atomic.Pointer[connections]
}

// New returns a Router.
func New(cfg Config) *Router {
	r := &Router{cfg: cfg}
	r.connections.Store(r.connect(r.certificate()))
	return r
}

// NewOneShot returns a Router that keeps no connection and resumes no session,
// for single requests such as probes: what they prove was true now.
func NewOneShot(cfg Config) *Router {
	r := New(cfg)
	r.oneShot = true
	return r
}

// RoundTrip implements http.RoundTripper. Its errors are those of this package
// where the router answered, else the network's.
func (r *Router) RoundTrip(request *http.Request) (*http.Response, error) {
	res, err := r.send(request)
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

// send sends a request once more, on a connection of its own, if the router does
// not take it on the one it came by: it has not looked at it then, so that RFC
// 9110, 15.5.20 allows this for any method. A body, though, may be gone.
func (r *Router) send(request *http.Request) (*http.Response, error) {
	by := r.current()
	if r.oneShot {
		return by.single.RoundTrip(request)
	}
	res, err := by.kept.RoundTrip(request)
	if err == nil && misdirected(res) && (request.Body == nil || request.Body == http.NoBody) {
		res.Body.Close()
		return by.single.RoundTrip(request)
	}
	return res, err
}

// CloseIdle closes the connections that carry no request.
func (r *Router) CloseIdle() { r.connections.Load().kept.CloseIdleConnections() }

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

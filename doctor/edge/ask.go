package edge

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"
)

// connect is a TLS connection to a router as a client of one host has it, with the
// gateway's own certificate: some domains demand one.
func (cfg Config) connect(ctx context.Context, router, host string) (*tls.Conn, error) {
	if cfg.RootsErr != nil {
		return nil, cfg.RootsErr
	}
	var dialer net.Dialer
	plain, err := dialer.DialContext(ctx, "tcp", router)
	if err != nil {
		return nil, &unreachable{err}
	}
	settings := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: cfg.Roots, ServerName: host, NextProtos: []string{"http/1.1"}, Time: cfg.Now}
	if cfg.Certificate != nil {
		settings.Certificates = []tls.Certificate{*cfg.Certificate}
	}
	conn := tls.Client(plain, settings)
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline) // an error shows when it is read
	}
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = plain.Close() // nothing was written
		return nil, err
	}
	return conn, nil
}

// unreachable: not even TCP connects.
type unreachable struct{ error }

func (u *unreachable) Unwrap() error { return u.error }

// question is a request without a body; target is its request line's.
type question struct {
	host, target string
	header       map[string]string
}

// answer is a response's head.
type answer struct {
	status       int
	header       http.Header
	begun, ended time.Time
}

// routerError is what gorouter calls its own refusal.
func (a *answer) routerError() string { return a.header.Get("X-Cf-Routererror") }

// fromGateway tells answers of the gateway's data plane.
func (a *answer) fromGateway() bool { return a.header.Get("X-Mtls-Authz-Decision") != "" }

// ask sends a request line as it is, which net/http's client would not, over a
// connection for a host of the place.
func (cfg Config) ask(ctx context.Context, p Place, sni string, q question) (*answer, error) {
	conn, err := cfg.connect(ctx, p.Router, sni)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	text := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: mtls-authz-doctor\r\nConnection: close\r\n", q.target, q.host)
	for name, value := range q.header {
		text += name + ": " + value + "\r\n"
	}
	a := &answer{begun: cfg.Now()}
	if _, err := io.WriteString(conn, text+"\r\n"); err != nil {
		return nil, err
	}
	res, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, 64<<10)), &http.Request{Method: http.MethodGet})
	if err != nil {
		return nil, err
	}
	_ = res.Body.Close() // only the head is of interest
	a.status, a.header, a.ended = res.StatusCode, res.Header, cfg.Now()
	return a, nil
}

// diagnose says what a failure to connect means, and what to do about it.
func diagnose(err error, router string) (found, fix string) {
	var lookup *net.DNSError
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var plain tls.RecordHeaderError
	switch {
	case errors.As(err, &lookup):
		return "the name does not resolve", "DNS must know the host in ROUTER_ADDRESS, else of GATEWAY_URL, from where the gateway runs"
	case isTimeout(err):
		return "no answer in time", "let the gateway's space reach it: cf create-security-group and cf bind-security-group with " + rule(router)
	case errors.Is(err, syscall.ECONNREFUSED):
		return "the connection is refused: nobody listens there", "correct the address; if it is right, start what should listen there"
	case errors.As(err, &authority):
		return "its certificate is of an authority that is not trusted here", "ROUTER_CA_FILES must hold the CA of the router's certificate"
	case errors.As(err, &name):
		return "its certificate is not for this host", "give the router a certificate that covers the domain, or correct ROUTER_ADDRESS"
	case errors.As(err, &invalid):
		return "its certificate is not valid: " + invalid.Error(), "renew the router's certificate; look at the clocks if it is not expired"
	case errors.As(err, &plain):
		return "it does not speak TLS", "ROUTER_ADDRESS must name the router's TLS port"
	}
	return err.Error(), "look at the router's log"
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}

// rule is one of a security group, as Cloud Foundry reads it.
func rule(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		host, port = address, "443"
	}
	if net.ParseIP(host) == nil {
		host = "the addresses of " + strings.TrimSpace(host)
	}
	return fmt.Sprintf(`{"protocol":"tcp","destination":%q,"ports":%q}`, host, port)
}

package edge

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
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
		// As the gateway does: whatever authorities the router names.
		settings.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cfg.Certificate, nil }
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

// answer is a response, with the begin of its body.
type answer struct {
	status       int
	header       http.Header
	body         string
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
	return cfg.exchange(conn, q)
}

// maxBody is what is read of an answer's body: what the gateway says at /healthz is
// shorter.
const maxBody = 256

// exchange sends a question over a connection and reads what comes.
func (cfg Config) exchange(conn io.ReadWriter, q question) (*answer, error) {
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
	a.status, a.header, a.ended = res.StatusCode, res.Header, cfg.Now()
	body, _ := io.ReadAll(io.LimitReader(res.Body, maxBody)) // what broke off is not what is looked for
	_ = res.Body.Close()                                     // the connection is closed with it
	a.body = string(body)
	return a, nil
}

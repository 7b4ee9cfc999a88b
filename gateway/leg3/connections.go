package leg3

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"time"
)

// maxAnswerHeader bounds the header of an answer, in bytes.
const maxAnswerHeader = 1 << 20

// connections are those that show one certificate of the gateway.
type connections struct {
	certificate *tls.Certificate // nil: none
	// kept are used again and resume sessions of the same server name; single
	// ones do neither.
	kept, single *http.Transport
}

func (r *Router) certificate() *tls.Certificate {
	if r.cfg.Certificate == nil {
		return nil
	}
	return r.cfg.Certificate()
}

// current are the connections of the certificate in force. Those of the former
// one end: routers must not see a certificate that has expired, nor take somebody
// for its holder by a session that was begun with it.
func (r *Router) current() *connections {
	if now := r.connections.Load(); now.certificate == r.certificate() {
		return now
	}
	r.turning.Lock()
	defer r.turning.Unlock()
	former, certificate := r.connections.Load(), r.certificate()
	if former.certificate == certificate {
		return former
	}
	next := r.connect(certificate)
	r.connections.Store(next)
	former.kept.CloseIdleConnections() // those that carry a request end with it
	return next
}

func (r *Router) connect(certificate *tls.Certificate) *connections {
	kept := r.transport(certificate)
	kept.TLSClientConfig.ClientSessionCache = tls.NewLRUClientSessionCache(1024) // by server name
	single := r.transport(certificate)
	single.DisableKeepAlives = true
	return &connections{certificate, kept, single}
}

func (r *Router) transport(certificate *tls.Certificate) *http.Transport {
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: r.cfg.Roots, NextProtos: []string{"http/1.1"}}
	if certificate != nil {
		tlsConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate, nil }
	}
	dialer := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}
	return &http.Transport{
		Proxy: nil,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			host, _, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			return dialer.DialContext(ctx, network, r.cfg.Address(host))
		},
		TLSClientConfig:        tlsConfig,
		TLSHandshakeTimeout:    5 * time.Second,
		DisableCompression:     true,
		MaxIdleConns:           2048,
		MaxIdleConnsPerHost:    256,
		IdleConnTimeout:        60 * time.Second,
		ResponseHeaderTimeout:  r.cfg.HeaderTimeout,
		MaxResponseHeaderBytes: maxAnswerHeader,
		ExpectContinueTimeout:  5 * time.Second,
		TLSNextProto:           map[string]func(string, *tls.Conn) http.RoundTripper{}, // HTTP/1.1 only
	}
}

// Command bare is the least that a route service can be: a bare
// [httputil.ReverseProxy] that sends every request back to the URL that the
// router forwarded, through the router, with the router's headers untouched. It
// asks nobody, decides nothing and refuses nothing, so it protects nothing: it is
// what the gateway is measured against. It fails by an exit code.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"time"
)

func main() {
	listen := flag.String("listen", "", "host:port to listen on")
	router := flag.String("router", "", "host:port of the router")
	roots := flag.String("roots", "", "file of the CA that issued the router's certificate")
	flag.Parse()
	if err := serve(*listen, *router, *roots); err != nil {
		fmt.Fprintln(os.Stderr, "bare:", err)
		os.Exit(1)
	}
}

func serve(listen, router, roots string) error {
	text, err := os.ReadFile(roots)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return fmt.Errorf("-roots: no certificate in %q", roots)
	}
	server := http.Server{Addr: listen, Handler: newProxy(router, pool), ReadHeaderTimeout: 10 * time.Second}
	return server.ListenAndServe()
}

// newProxy keeps its connections to the router, as the gateway does; else it
// would spend its time on handshakes.
func newProxy(router string, roots *x509.CertPool) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(0)},
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, router)
			},
			MaxIdleConns: 1024, MaxIdleConnsPerHost: 256,
		},
		Rewrite: func(p *httputil.ProxyRequest) {
			forwarded, err := url.Parse(p.In.Header.Get("X-Cf-Forwarded-Url"))
			if err != nil {
				forwarded = &url.URL{} // which the transport refuses
			}
			p.Out.URL, p.Out.Host = forwarded, forwarded.Host
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if !errors.Is(err, context.Canceled) {
				fmt.Fprintln(os.Stderr, "bare:", r.Host, err)
			}
			w.WriteHeader(http.StatusBadGateway)
		},
	}
}

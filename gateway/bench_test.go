package gateway_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/cache"
	"github.com/mtls-authz/mtls-authz/gateway"
)

// answerNothing is leg 3 without a network, so that the handler itself is
// measured.
type answerNothing struct{}

func (answerNothing) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusNoContent, Header: http.Header{}, Body: http.NoBody, Request: r, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}, nil
}

func cached(b *testing.B) func(*gateway.Config) {
	return func(c *gateway.Config) {
		remembered, err := cache.New(cache.Config{Metrics: c.Metrics})
		require.NoError(b, err)
		c.Decider = remembered
	}
}

// BenchmarkHandler is the whole walk without leg 3's network.
func BenchmarkHandler(b *testing.B) {
	for name, edit := range map[string]func(*gateway.Config){"uncached": func(*gateway.Config) {}, "cached": cached(b)} {
		b.Run(name, func(b *testing.B) {
			w := newWorld(b, nil, func(c *gateway.Config) { edit(c); c.Router = answerNothing{} })
			proto := w.request()
			b.ReportAllocs()
			for b.Loop() {
				w.lines.Reset()
				r := *proto
				r.Header = proto.Header.Clone()
				w.gateway.ServeHTTP(httptest.NewRecorder(), &r)
			}
		})
	}
}

// BenchmarkThroughput compares the gateway with a bare ReverseProxy, both in
// front of the same TLS server, driven by the same clients in the same run.
func BenchmarkThroughput(b *testing.B) {
	app := func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello from the app") }
	w := newWorld(b, app, cached(b))
	bare := &httputil.ReverseProxy{
		Transport: w.config.Router,
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL = &url.URL{Scheme: "https", Host: "backend.apps.identity", Path: "/hello", RawQuery: "q=1"}
			p.Out.Host = "backend.apps.identity"
		},
	}
	for _, side := range []struct {
		name    string
		handler http.Handler
	}{{"bare", bare}, {"gateway", w.gateway}} {
		b.Run(side.name, func(b *testing.B) {
			server := httptest.NewServer(side.handler)
			defer server.Close()
			proto := w.request()
			transport := &http.Transport{MaxIdleConnsPerHost: 64}
			defer transport.CloseIdleConnections()
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					r, err := http.NewRequestWithContext(b.Context(), http.MethodGet, server.URL+proto.URL.Path, nil)
					if err != nil {
						b.Error(err)
						return
					}
					r.Header = proto.Header.Clone()
					res, err := transport.RoundTrip(r)
					if err != nil {
						b.Error(err)
						return
					}
					_, _ = io.Copy(io.Discard, res.Body)
					res.Body.Close()
					if res.StatusCode != http.StatusOK {
						b.Errorf("status %d", res.StatusCode)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
			w.mu.Lock()
			w.lines.Reset()
			w.mu.Unlock()
		})
	}
}

package gateway

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"sync"

	"github.com/mtls-authz/mtls-authz/gateway/headers"
	"github.com/mtls-authz/mtls-authz/identity"
)

// exchangeKey finds the exchange in a request's context.
type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchange { return ctx.Value(exchangeKey{}).(*exchange) }

// forward sends the request to the route through the router. All that is sent
// was decided before; the proxy's callbacks only copy.
func (x *exchange) forward() {
	ctx, cancel := context.WithTimeout(context.WithValue(x.r.Context(), exchangeKey{}, x), x.g.MaxStream)
	defer cancel()
	x.cut = cancel
	x.g.proxy.ServeHTTP(x.w, x.r.WithContext(ctx))
}

func newProxy(router http.RoundTripper) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite:        rewrite,
		Transport:      router,
		FlushInterval:  -1,
		BufferPool:     &bufferPool{},
		ModifyResponse: noteUpstream,
		ErrorHandler: func(_ http.ResponseWriter, r *http.Request, err error) {
			x := exchangeOf(r.Context())
			x.refuse(upstreamError(x.r, err))
		},
		ErrorLog: log.New(io.Discard, "", 0), // the decision line says it
	}
}

// restored are headers that ReverseProxy takes off and the app must get as
// they came; hop-by-hop rules of the client must not take them off either.
var restored = []string{
	"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto",
	identity.Header, headers.ForwardedURL, headers.Signature, headers.Metadata,
}

func rewrite(p *httputil.ProxyRequest) {
	x := exchangeOf(p.In.Context())
	p.Out.URL = x.target.URL()
	p.Out.Host = x.target.Host
	h := p.Out.Header
	for _, name := range restored {
		if values, ok := p.In.Header[name]; ok {
			h[name] = values
		}
	}
	h[headers.Hop] = []string{"1"}
	h[headers.Decision] = []string{x.id}
	if !x.caller.IsZero() {
		c := x.caller
		h[headers.Caller] = []string{"app=" + c.App.String() + ";space=" + c.Space.String() + ";org=" + c.Org.String()}
	}
	for _, header := range x.decision.Headers {
		h[header.Name] = []string{header.Value}
	}
	if p.Out.Body != nil && len(p.In.Trailer) > 0 {
		forwardTrailers(p)
	}
}

// forwardTrailers sends the announced request trailers on, without those that
// only the gateway may send.
func forwardTrailers(p *httputil.ProxyRequest) {
	p.Out.Trailer = make(http.Header, len(p.In.Trailer))
	for name := range p.In.Trailer {
		if !headers.IsForgedTrailer(name) {
			p.Out.Trailer[name] = nil
		}
	}
	p.Out.Body = &trailerBody{ReadCloser: p.Out.Body, from: p.In, to: p.Out.Trailer}
}

// trailerBody copies the values of trailers when the body has ended, which is
// when net/http knows them.
type trailerBody struct {
	io.ReadCloser
	from *http.Request
	to   http.Header
}

// Read implements io.Reader.
func (b *trailerBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		for name := range b.to {
			b.to[name] = b.from.Trailer[name]
		}
	}
	return n, err
}

// noteUpstream takes down what leg 3 answered; a switch of protocols is
// answered by ReverseProxy on the raw connection, so its line is written here.
func noteUpstream(res *http.Response) error {
	x := exchangeOf(res.Request.Context())
	x.line.UpstreamRequestID = res.Header.Get(headers.RequestID)
	x.clean(res.Header)
	if staysOpen(res) {
		x.streamEnds = x.g.streams.Add(x.stillAllowed(), x.cutStream)
	}
	if res.StatusCode == http.StatusSwitchingProtocols {
		if checkUpgrade(res.Header) != nil || len(x.r.Header["Upgrade"]) != 1 || len(res.Header["Upgrade"]) != 1 {
			return fmt.Errorf("%w: the app switched to a protocol that was not asked for", ErrMalformed)
		}
		x.record(res.StatusCode)
	}
	return nil
}

// bufferPool keeps ReverseProxy's copy buffers.
type bufferPool struct{ pool sync.Pool }

const copyBuffer = 32 << 10

// Get implements httputil.BufferPool.
func (p *bufferPool) Get() []byte {
	if b, ok := p.pool.Get().(*[copyBuffer]byte); ok {
		return b[:]
	}
	return make([]byte, copyBuffer)
}

// Put implements httputil.BufferPool.
func (p *bufferPool) Put(b []byte) { p.pool.Put((*[copyBuffer]byte)(b)) }

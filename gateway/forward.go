package gateway

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"time"

	"github.com/mtls-authz/mtls-authz/callerassertion"
	"github.com/mtls-authz/mtls-authz/gateway/headers"
	"github.com/mtls-authz/mtls-authz/gateway/leg3"
	"github.com/mtls-authz/mtls-authz/gateway/refusal"
	"github.com/mtls-authz/mtls-authz/gateway/request"
	"github.com/mtls-authz/mtls-authz/gateway/streams"
)

// exchangeKey finds the exchange in a request's context.
type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchange { return ctx.Value(exchangeKey{}).(*exchange) }

// forward sends the request to the route through the router. All that is sent
// was decided before; the proxy's callbacks only copy.
func (x *exchange) forward() {
	ctx, cancel := context.WithTimeout(context.WithValue(x.r.Context(), exchangeKey{}, x), x.g.MaxStream)
	defer cancel()
	x.cut, x.sent = cancel, x.g.Now()
	// The end of the context ends leg 3; it must also end waiting for a client
	// that does not read.
	defer context.AfterFunc(ctx, x.letGo)()
	x.g.proxy.ServeHTTP(x.w, x.r.WithContext(ctx))
}

// lastWords is how long a refusal may take to be written at the end.
const lastWords = time.Second

// letGo makes writing to the client fail.
func (x *exchange) letGo() {
	if socket := x.socket.Load(); socket != nil {
		_ = socket.Close()
		return
	}
	_ = http.NewResponseController(x.w.ResponseWriter).SetWriteDeadline(time.Now().Add(lastWords)) // it fails only where there is no connection
}

// flushInterval is how long a body of known length may linger in a buffer, as in
// gorouter. Streams, whose length nobody knows, are flushed at once whatever this
// says; with -1 most answers would be written twice, the header alone first.
const flushInterval = 50 * time.Millisecond

func newProxy(router http.RoundTripper) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite:        rewrite,
		Transport:      router,
		FlushInterval:  flushInterval,
		BufferPool:     &leg3.Buffers{},
		ModifyResponse: noteUpstream,
		ErrorHandler: func(_ http.ResponseWriter, r *http.Request, err error) {
			x := exchangeOf(r.Context())
			x.refuse(refusal.Upstream(x.r, err))
		},
		ErrorLog: log.New(io.Discard, "", 0), // the decision line says it
	}
}

func rewrite(p *httputil.ProxyRequest) {
	x := exchangeOf(p.In.Context())
	p.Out.URL = x.target.URL()
	p.Out.Host = x.target.Host
	h := p.Out.Header
	headers.Restore(h, p.In.Header)
	h[headers.Hop] = []string{"1"}
	h[headers.Decision] = []string{x.id}
	if !x.caller.IsZero() {
		c := x.caller
		h[headers.Caller] = []string{"app=" + c.App.String() + ";space=" + c.Space.String() + ";org=" + c.Org.String()}
	}
	if x.assertion != "" {
		h[callerassertion.Header] = []string{x.assertion}
	}
	for _, header := range x.decision.Headers {
		h[header.Name] = []string{header.Value}
	}
	if p.Out.Body != nil && len(p.In.Trailer) > 0 {
		headers.ForwardTrailers(p.In, p.Out)
	}
}

// noteUpstream takes down what leg 3 answered; a switch of protocols is
// answered by ReverseProxy on the raw connection, so its line is written here.
func noteUpstream(res *http.Response) error {
	x := exchangeOf(res.Request.Context())
	x.line.Upstream = x.g.Now().Sub(x.sent)
	x.line.UpstreamRequestID = res.Header.Get(headers.RequestID)
	headers.OfAnswer(res.Header, x.id)
	switched := res.StatusCode == http.StatusSwitchingProtocols
	if switched && (request.CheckUpgrade(res.Header) != nil || len(res.Request.Header["Upgrade"]) != 1 || len(res.Header["Upgrade"]) != 1) {
		return fmt.Errorf("%w: the app switched to a protocol that was not asked for", request.ErrMalformed)
	}
	x.confirm()
	if streams.StaysOpen(res) {
		x.streamEnds = x.g.streams.Add(streams.Stream{Permitted: x.stillAllowed(), Cut: x.cutStream, Leave: streams.Leaver(res, &x.socket)})
	}
	if switched {
		x.record(res.StatusCode)
	}
	return nil
}

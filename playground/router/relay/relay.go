// Package relay carries one HTTP/1.1 request to the first destination that
// takes it and the answer back, as gorouter does: raw request targets, bodies,
// trailers, informational answers and upgrades unbuffered, hop-by-hop headers
// taken off. It trusts its caller with headers and destinations; failures go to
// the caller's Fail.
package relay

import (
	"crypto/rand"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	requestIDHeader   = "X-Vcap-Request-Id"
	appInstanceHeader = "X-Cf-App-Instance"
	signatureHeader   = "X-Cf-Proxy-Signature"

	// flushInterval is how long a response may linger in a buffer.
	flushInterval = 50 * time.Millisecond
)

// Relay says how to carry one request.
type Relay struct {
	// Destinations in the order in which they are tried. Required.
	Destinations []Destination
	// Fail answers when no destination did. Required.
	Fail func(http.ResponseWriter, error)
	// FullDuplex lets the answer begin while the request's body still flows.
	// Default: off.
	FullDuplex bool
	// ErrorLog receives broken connections. Default: the standard logger.
	ErrorLog *log.Logger
}

// ServeHTTP carries the request under a new X-Vcap-Request-Id. The answer has
// the same, unless a later leg has put its own there.
func (r *Relay) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if r.FullDuplex {
		// It fails on writers that are not net/http's HTTP/1 ones only.
		_ = http.NewResponseController(w).EnableFullDuplex()
	}
	id := newGUID()
	req.Header.Set(requestIDHeader, id)
	proxy := httputil.ReverseProxy{
		Rewrite:       rewrite,
		Transport:     attempts(r.Destinations),
		FlushInterval: flushInterval,
		BufferPool:    buffers{},
		ErrorLog:      r.ErrorLog,
		ModifyResponse: func(res *http.Response) error {
			if res.Header.Get(requestIDHeader) == "" {
				res.Header.Set(requestIDHeader, id)
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) { r.Fail(w, err) },
	}
	proxy.ServeHTTP(&answer{w}, req)
}

// rewrite prepares the outgoing request but for its destination.
func rewrite(p *httputil.ProxyRequest) {
	// ReverseProxy has taken off the forwarding headers; gorouter keeps them,
	// unless the client lists them as hop by hop.
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if values, ok := p.In.Header[name]; ok && !hopByHop(p.In.Header, name) {
			p.Out.Header[name] = values
		}
	}
	if client, _, err := net.SplitHostPort(p.In.RemoteAddr); err == nil {
		hops := append(append([]string(nil), p.Out.Header["X-Forwarded-For"]...), client)
		p.Out.Header.Set("X-Forwarded-For", strings.Join(hops, ", "))
	}
	if p.Out.Header.Get("X-Request-Start") == "" {
		p.Out.Header.Set("X-Request-Start", strconv.FormatInt(time.Now().UnixMilli(), 10))
	}
	p.Out.Header.Del(appInstanceHeader)
	if strings.EqualFold(p.In.Header.Get("Expect"), "100-continue") {
		p.Out.Header.Set("Connection", "close")
	}
	p.Out.URL = rawTarget(p.In)
}

// rawTarget makes the transport repeat the request line's target byte for
// byte. The exception is gorouter's: a target that begins with // goes out in
// absolute form, its path escaped anew and its query sorted, since a URL that
// begins so would name a host.
func rawTarget(in *http.Request) *url.URL {
	target := &url.URL{Scheme: "http", Host: in.Host, Opaque: in.RequestURI}
	if !strings.HasPrefix(in.RequestURI, "//") {
		return target
	}
	segments := strings.Split(in.URL.Path, "/")
	for i, segment := range segments {
		segments[i] = url.PathEscape(segment)
	}
	target.Opaque = "//" + in.Host + strings.Join(segments, "/")
	if query := in.URL.Query(); len(query) > 0 {
		target.Opaque += "?" + query.Encode()
	}
	return target
}

// hopByHop tells whether a Connection header lists name.
func hopByHop(header http.Header, name string) bool {
	for _, line := range header["Connection"] {
		for listed := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(textproto.TrimString(listed), name) {
				return true
			}
		}
	}
	return false
}

// answer is a response writer that keeps signatures in and adds no
// Content-Type of its own.
type answer struct{ http.ResponseWriter }

func (a *answer) WriteHeader(status int) {
	header := a.Header()
	header.Del(signatureHeader)
	if _, given := header["Content-Type"]; !given {
		header["Content-Type"] = nil
	}
	a.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController flush and hijack.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func newGUID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails: crypto/rand ends the program instead
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

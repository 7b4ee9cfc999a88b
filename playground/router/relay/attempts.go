package relay

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
)

// Destination is one place to try.
type Destination struct {
	// Transport carries the request there. Required.
	Transport http.RoundTripper
	// Aim points the outgoing request, a copy, at the destination. Its
	// request target is already set. Required.
	Aim func(*http.Request)
}

// attempts sends one request to the first destination that takes it.
type attempts []Destination

// RoundTrip returns the first answer, whatever its status. Only failures that
// happened before the request was sent are tried again, and an EOF on
// idempotent requests: so a client's one GET can arrive twice.
func (a attempts) RoundTrip(req *http.Request) (*http.Response, error) {
	var failure error
	for _, destination := range a {
		var sent progress
		out := req.Clone(httptrace.WithClientTrace(req.Context(), sent.trace()))
		if out.Body != nil {
			out.Body = io.NopCloser(out.Body) // it must survive a failed attempt
		}
		destination.Aim(out)
		res, err := destination.Transport.RoundTrip(out)
		if err == nil {
			return res, nil
		}
		failure = err
		if !retriable(req, err, &sent) {
			break
		}
	}
	return nil, failure
}

// progress is how far a request got on its connection.
type progress struct{ connected, sent atomic.Bool }

func (p *progress) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GotConn:      func(httptrace.GotConnInfo) { p.connected.Store(true) },
		WroteHeaders: func() { p.sent.Store(true) },
	}
}

func retriable(req *http.Request, err error, p *progress) bool {
	if req.Context().Err() != nil {
		return false
	}
	return !p.connected.Load() || !p.sent.Load() || errors.Is(err, io.EOF) && idempotent(req)
}

// idempotent follows net/http's own idea of what may be sent twice.
func idempotent(req *http.Request) bool {
	if req.Body != nil && req.Body != http.NoBody {
		return false
	}
	switch req.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return req.Header.Get("Idempotency-Key") != "" || req.Header.Get("X-Idempotency-Key") != ""
}

// Package faults is a network between a platform and its broker in which
// requests and answers are lost, late, slow, repeated, or replaced by somebody
// else's. It serves the tests. It trusts its caller, and nothing in it waits for
// time to pass: a timeout is there at once.
package faults

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
)

// A Network carries requests to a broker, and lets things happen to them on the
// way.
type Network struct {
	// Transport is the way to the broker when nothing happens. Default:
	// http.DefaultTransport.
	Transport http.RoundTripper

	mu     sync.Mutex
	faults []Fault
}

// A Fault is what happens to one request on its way to the broker.
type Fault func(request *http.Request, broker http.RoundTripper) (*http.Response, error)

// Next lets the next requests meet these faults, one each and in this order.
func (n *Network) Next(faults ...Fault) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.faults = append(n.faults, faults...)
}

// RoundTrip implements http.RoundTripper.
func (n *Network) RoundTrip(request *http.Request) (*http.Response, error) {
	broker := n.Transport
	if broker == nil {
		broker = http.DefaultTransport
	}
	n.mu.Lock()
	fault := pass
	if len(n.faults) > 0 {
		fault, n.faults = n.faults[0], n.faults[1:]
	}
	n.mu.Unlock()
	return fault(request, broker)
}

// errReset is a connection that broke after the request was sent.
var errReset = errors.New("connection reset by peer")

// pass is no fault.
func pass(request *http.Request, broker http.RoundTripper) (*http.Response, error) {
	return broker.RoundTrip(request)
}

// Lose is a request that never arrives: the client waits until its timeout.
func Lose(*http.Request, http.RoundTripper) (*http.Response, error) {
	return nil, context.DeadlineExceeded
}

// LoseAnswer lets the broker do its work and answer in vain: the client waits
// until its timeout.
func LoseAnswer(request *http.Request, broker http.RoundTripper) (*http.Response, error) {
	return nil, errors.Join(deliver(request, broker), context.DeadlineExceeded)
}

// Reset lets the broker do its work, and breaks the connection before the
// answer.
func Reset(request *http.Request, broker http.RoundTripper) (*http.Response, error) {
	return nil, errors.Join(deliver(request, broker), errReset)
}

// Repeat lets a request arrive twice; the client hears the second answer.
func Repeat(request *http.Request, broker http.RoundTripper) (*http.Response, error) {
	if err := deliver(request, broker); err != nil {
		return nil, err
	}
	return broker.RoundTrip(copyOf(request.Context(), request))
}

// Instead lets the broker do its work, and something on the way answers in its
// place, as a router does that lost its backend.
func Instead(status int, body string) Fault {
	return func(request *http.Request, broker http.RoundTripper) (*http.Response, error) {
		if err := deliver(request, broker); err != nil {
			return nil, err
		}
		return &http.Response{
			StatusCode: status, Header: http.Header{"Content-Type": {"text/plain"}},
			Body: io.NopCloser(strings.NewReader(body)), Request: request,
		}, nil
	}
}

// Edit changes a request on its way.
func Edit(edit func(*http.Request)) Fault {
	return func(request *http.Request, broker http.RoundTripper) (*http.Response, error) {
		request = copyOf(request.Context(), request)
		edit(request)
		return broker.RoundTrip(request)
	}
}

// WithBody sends another body.
func WithBody(body string) Fault {
	return Edit(func(r *http.Request) {
		r.Body, r.ContentLength, r.GetBody = io.NopCloser(strings.NewReader(body)), int64(len(body)), nil
	})
}

// Late is a request that is under way for longer than the client waits. It
// holds one request, by its method Hold, which is a [Fault].
type Late struct {
	request *http.Request
	broker  http.RoundTripper
}

// Hold keeps the request; the client waits until its timeout.
func (l *Late) Hold(request *http.Request, broker http.RoundTripper) (*http.Response, error) {
	l.request, l.broker = copyOf(context.WithoutCancel(request.Context()), request), broker
	return nil, context.DeadlineExceeded
}

// Arrive lets the request arrive, once more if it has, and returns the status of
// the answer, which the client will never hear.
func (l *Late) Arrive() (status int, err error) {
	response, err := l.broker.RoundTrip(copyOf(l.request.Context(), l.request))
	if err != nil {
		return 0, err
	}
	return response.StatusCode, response.Body.Close()
}

// Slow is a request whose body comes in two parts. It holds one request, by its
// method Trickle, which is a [Fault].
type Slow struct {
	begun, rest chan struct{}
}

// NewSlow returns a Slow whose rest has not come.
func NewSlow() *Slow { return &Slow{make(chan struct{}), make(chan struct{})} }

// Begun is closed when the first part is on its way.
func (s *Slow) Begun() <-chan struct{} { return s.begun }

// Finish lets the rest of the body come.
func (s *Slow) Finish() { close(s.rest) }

// Trickle sends the first part, which is mere white space, and the rest after
// Finish.
func (s *Slow) Trickle(request *http.Request, broker http.RoundTripper) (*http.Response, error) {
	// More than a buffer holds, so that it leaves at once.
	first := bytes.Repeat([]byte(" "), 64<<10)
	slow := copyOf(request.Context(), request)
	reader, writer := io.Pipe()
	go func(rest io.Reader) {
		_, err := writer.Write(first)
		close(s.begun)
		<-s.rest
		if err == nil {
			_, err = io.Copy(writer, rest)
		}
		_ = writer.CloseWithError(err) // never fails
	}(slow.Body)
	slow.Body, slow.GetBody = reader, nil
	slow.ContentLength += int64(len(first))
	return broker.RoundTrip(slow)
}

// deliver sends a request whose answer nobody hears.
func deliver(request *http.Request, broker http.RoundTripper) error {
	response, err := broker.RoundTrip(copyOf(request.Context(), request))
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, response.Body)
	return errors.Join(err, response.Body.Close())
}

// copyOf is the request with a body of its own.
func copyOf(ctx context.Context, request *http.Request) *http.Request {
	second := request.Clone(ctx)
	if request.GetBody != nil {
		second.Body, _ = request.GetBody() // the client's bodies are in memory: no error
	}
	return second
}

package source

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/mtls-authz/mtls-authz/rego/bundle"
)

const (
	// answerTimeout bounds a request but for what the server was asked to wait,
	// with its redirects and to the last byte of its answer.
	answerTimeout = 30 * time.Second
	// leastPause stands between two requests, however fast a server answers a
	// long poll.
	leastPause   = time.Second
	maxRedirects = 5
)

// transport closes what OPA's downloader leaves open: the token goes to one host
// alone, an answer is whole, within bounds and in time before anything reads it,
// no delta bundles are asked for, and requests do not follow each other without
// a pause.
type transport struct {
	base  *http.Transport
	host  string
	token string

	mu      sync.Mutex
	last    time.Time
	archive []byte
}

func newTransport(cfg Config, host string) *transport {
	return &transport{host: host, token: cfg.Token, base: &http.Transport{
		// No proxy of the environment, as for every other server: what the operator
		// names is what is dialled, and the token goes nowhere else.
		Proxy:               nil,
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSClientConfig:     &tls.Config{RootCAs: cfg.Roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: 10 * time.Second,
		ForceAttemptHTTP2:   true,
		IdleConnTimeout:     2 * time.Minute,
		// A bundle is compressed already; what is not must not be unpacked twice.
		DisableCompression:     true,
		MaxResponseHeaderBytes: 64 << 10,
	}}
}

func (t *transport) close() { t.base.CloseIdleConnections() }

// take returns the archive of the last request, once.
func (t *transport) take() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	archive := t.archive
	t.archive = nil
	return archive
}

// checkRedirect follows https alone. Whether the token goes along is decided
// per request.
func checkRedirect(next *http.Request, via []*http.Request) error {
	switch {
	case next.URL.Scheme != "https":
		return errors.New("the server redirects away from https")
	case len(via) > maxRedirects:
		return errors.New("the server redirects more than 5 times")
	}
	next.Header.Del("Referer") // it holds the query of the URL before
	return nil
}

// RoundTrip implements [http.RoundTripper].
func (t *transport) RoundTrip(original *http.Request) (*http.Response, error) {
	if original.Response == nil {
		if err := t.pause(original.Context()); err != nil {
			return nil, err
		}
	}
	request := original.Clone(original.Context())
	request.Header.Set("Prefer", withoutDelta(request.Header.Get("Prefer")))
	request.Header.Del("Authorization")
	if t.token != "" && t.staysHome(original) {
		request.Header.Set("Authorization", "Bearer "+t.token)
	}
	response, err := t.base.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	body := response.Body
	defer func() { _ = body.Close() }()
	switch {
	case response.StatusCode >= 301 && response.StatusCode <= 308 && response.StatusCode != http.StatusNotModified:
		response.Body = http.NoBody
		return response, nil
	case response.StatusCode == http.StatusNotModified && request.Header.Get("If-None-Match") == "":
		return nil, errors.New("the server answered 304 although it was not told what is here")
	case response.StatusCode == http.StatusNotModified:
		response.Body = http.NoBody
		return response, nil
	case response.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("the server answered %d", response.StatusCode)
	}
	archive, err := t.read(response)
	if err != nil {
		return nil, err
	}
	response.Body = io.NopCloser(bytes.NewReader(archive))
	return response, nil
}

// pause keeps requests apart.
func (t *transport) pause(ctx context.Context) error {
	t.mu.Lock()
	wait := time.Until(t.last.Add(leastPause))
	t.archive = nil
	t.mu.Unlock()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(wait):
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = time.Now()
	return nil
}

// staysHome reports whether the request and all that were redirected to it are
// to the one host that the token is for.
func (t *transport) staysHome(request *http.Request) bool {
	for at := request; at != nil; {
		if at.URL.Scheme != "https" || at.URL.Host != t.host {
			return false
		}
		if at.Response == nil {
			return true
		}
		at = at.Response.Request
	}
	return false
}

// read reads the whole answer, and refuses what would be dangerous to unpack.
func (t *transport) read(response *http.Response) ([]byte, error) {
	if response.ContentLength > bundle.MaxArchive {
		return nil, fmt.Errorf("the server's bundle has %d bytes; at most %d MiB are read", response.ContentLength, bundle.MaxArchive>>20)
	}
	archive, err := bundle.ReadLimited(response.Body)
	if err != nil {
		return nil, fmt.Errorf("reading the server's answer: %w", err)
	}
	if err := bundle.Inspect(archive); err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.archive = archive
	return archive, nil
}

// withoutDelta asks for whole bundles alone: a delta cannot carry a signature.
func withoutDelta(prefer string) string {
	for _, modes := range []string{"modes=snapshot,delta", "modes=delta,snapshot"} {
		if len(prefer) >= len(modes) && prefer[:len(modes)] == modes {
			return "modes=snapshot" + prefer[len(modes):]
		}
	}
	return prefer
}

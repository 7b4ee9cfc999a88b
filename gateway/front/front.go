// Package front is the side that listens: it bounds connections, headers and the
// pace of bodies, and ends it all without failing requests. It trusts no client,
// and not the router to be patient: slow and idle connections cost their own
// time only, and too many of them keep out requests to apps but never what
// operators need: the broker, health and metrics.
package front

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// Config configures [Serve]. All of it is required, unless it says otherwise.
type Config struct {
	Handler http.Handler
	// Streams reports whether the body of a request may take as long as it
	// likes, if it keeps MinBodyRate; other bodies have BodyTimeout.
	Streams     func(*http.Request) bool
	BodyTimeout time.Duration
	// MinBodyRate is in bytes per second, measured over BodyTimeout; 0: none.
	MinBodyRate int
	// HeaderTimeout is for the head of a request, IdleTimeout for the time
	// between two on one connection. MaxHeaderBytes bounds the head.
	HeaderTimeout, IdleTimeout time.Duration
	MaxHeaderBytes             int
	// MaxURIBytes bounds the target in the request line; a longer one is
	// answered 414 before anything looks at it.
	MaxURIBytes int
	// MaxConnections is how many are served fully; see [Surplus].
	MaxConnections int
	// Drain is how long requests in flight may take at the end.
	Drain time.Duration
	// Farewell is called when only what never ends by itself is left. It may
	// take up to its context.
	Farewell func(context.Context)
	Log      *slog.Logger
}

// quiet is for how long no request must have come before the end.
const quiet = time.Second

// front is a server and what is known of its connections and requests.
type front struct {
	Config
	connections atomic.Int64
	inFlight    atomic.Int64
	// last is when the last request came, in Unix nanoseconds.
	last    atomic.Int64
	leaving atomic.Bool
}

// Serve serves until ctx ends. Then it goes on for a while, since the router
// sends requests until it has heard that this instance leaves; it stops
// listening after a quiet second, or when the time left of Drain is needed for
// the requests in flight.
func Serve(ctx context.Context, listener net.Listener, cfg Config) error {
	f := &front{Config: cfg}
	server := &http.Server{
		Handler: f, ReadHeaderTimeout: cfg.HeaderTimeout, IdleTimeout: cfg.IdleTimeout, MaxHeaderBytes: cfg.MaxHeaderBytes,
		ConnContext: f.number, ConnState: f.count, ErrorLog: slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	return f.leave(context.WithoutCancel(ctx), server)
}

// leave ends the server.
func (f *front) leave(ctx context.Context, server *http.Server) error {
	f.Log.Info("draining", slog.Duration("timeout", f.Drain))
	ctx, cancel := context.WithTimeout(ctx, f.Drain)
	defer cancel()
	f.leaving.Store(true)
	f.awaitQuiet(ctx)
	ended := make(chan struct{})
	go func() { defer close(ended); f.Farewell(ctx) }()
	err := server.Shutdown(ctx)
	<-ended
	if errors.Is(err, context.DeadlineExceeded) {
		f.Log.Warn("requests were cut at the end of DRAIN_TIMEOUT", slog.Int64("requests", f.inFlight.Load()))
		return server.Close()
	}
	return err
}

// awaitQuiet waits until no request has come for a second, for three quarters of
// the time at most.
func (f *front) awaitQuiet(ctx context.Context) {
	end := time.Now().Add(f.Drain * 3 / 4)
	for ctx.Err() == nil && time.Now().Before(end) {
		since := time.Since(time.Unix(0, f.last.Load()))
		if since >= quiet {
			return
		}
		time.Sleep(min(quiet-since, time.Until(end)))
	}
}

// ServeHTTP implements http.Handler.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.last.Store(time.Now().UnixNano())
	f.inFlight.Add(1)
	defer f.inFlight.Add(-1)
	if f.leaving.Load() || Surplus(r.Context()) {
		w.Header().Set("Connection", "close") // an idle connection that is closed can fail a request that is on its way
	}
	if len(r.RequestURI) > f.MaxURIBytes {
		w.Header().Set("Connection", "close")
		_ = http.NewResponseController(w).SetReadDeadline(time.Now()) // nobody waits for its body; it fails only where there is no connection
		http.Error(w, fmt.Sprintf("The target of the request is longer than %d bytes.", f.MaxURIBytes), http.StatusRequestURITooLong)
		return
	}
	f.pace(w, r)
	f.Handler.ServeHTTP(w, r)
}

// surplusKey marks the context of a connection beyond the bound.
type surplusKey struct{}

// Surplus reports whether a request came on a connection beyond MaxConnections.
// Such a connection serves one request, and none to an app.
func Surplus(ctx context.Context) bool { return ctx.Value(surplusKey{}) != nil }

func (f *front) number(ctx context.Context, _ net.Conn) context.Context {
	if f.connections.Add(1) > int64(f.MaxConnections) {
		return context.WithValue(ctx, surplusKey{}, true)
	}
	return ctx
}

func (f *front) count(_ net.Conn, state http.ConnState) {
	if state == http.StateClosed || state == http.StateHijacked {
		f.connections.Add(-1)
	}
}

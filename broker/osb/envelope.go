package osb

import (
	"context"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

const (
	headerVersion         = "X-Broker-Api-Version"
	headerRequestIdentity = "X-Broker-Api-Request-Identity"
	headerOriginator      = "X-Broker-Api-Originating-Identity"
	headerRequestID       = "X-Vcap-Request-Id"
)

const (
	defaultInFlight = 32
	defaultWait     = 10 * time.Second // of the 60 s that Cloud Controller waits
)

// Config configures [Envelope]. Every field without a default is required.
type Config struct {
	// Credentials are who may call.
	Credentials Credentials
	// Log gets a line for each change, each refused password and each failure.
	Log *slog.Logger
	// Now is the clock.
	Now func() time.Time
	// MaxInFlight bounds the requests that are worked on at once; each may
	// hold a body of 1 MiB. Default: 32.
	MaxInFlight int
	// MaxWait is how long a request waits for its turn before it is refused.
	// Default: 10 s.
	MaxWait time.Duration
}

type envelope struct {
	Config
	turns chan struct{}
	next  http.Handler
}

// Envelope wraps the handler of /v2.
func Envelope(cfg Config, next http.Handler) http.Handler {
	if cfg.MaxInFlight == 0 {
		cfg.MaxInFlight = defaultInFlight
	}
	if cfg.MaxWait == 0 {
		cfg.MaxWait = defaultWait
	}
	return &envelope{cfg, make(chan struct{}, cfg.MaxInFlight), next}
}

// ServeHTTP implements http.Handler.
func (e *envelope) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := &answer{ResponseWriter: w}
	if id := r.Header.Get(headerRequestIdentity); id != "" {
		a.Header().Set(headerRequestIdentity, id)
	}
	defer e.finish(a, r, e.Now())
	if !e.Credentials.Accept(r) {
		a.Header().Set("WWW-Authenticate", `Basic realm="mtls-authz"`)
		a.describe(http.StatusUnauthorized, "wrong or missing credentials")
		return
	}
	if !supportedVersion(r.Header.Get(headerVersion)) {
		a.describe(http.StatusPreconditionFailed, "the header X-Broker-API-Version is missing or not 2.x; this broker speaks 2.17")
		return
	}
	// Only now, so that nobody without the password can take all turns.
	if !e.takeTurn(r.Context()) {
		// Not a 5xx, after which Cloud Controller would delete.
		a.Header().Set("Retry-After", "10")
		a.describe(http.StatusTooManyRequests, "the broker has too many requests at once; try again later")
		return
	}
	defer func() { <-e.turns }()
	if err := checkBody(r); err != nil {
		a.describe(http.StatusBadRequest, err.Error())
		return
	}
	e.next.ServeHTTP(a, r.WithContext(withRequest(r)))
}

func (e *envelope) takeTurn(ctx context.Context) bool {
	timeout := time.NewTimer(e.MaxWait)
	defer timeout.Stop()
	select {
	case e.turns <- struct{}{}:
		return true
	case <-timeout.C:
	case <-ctx.Done():
	}
	return false
}

// finish is deferred: it recovers from a panic, and logs.
func (e *envelope) finish(a *answer, r *http.Request, started time.Time) {
	if v := recover(); v != nil {
		e.Log.Error("broker panic", slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
		if a.status != 0 {
			// Half an answer must not look like a whole one.
			defer panic(http.ErrAbortHandler)
		} else {
			a.describe(http.StatusInternalServerError, "internal error of the gateway")
		}
	}
	read := r.Method == http.MethodGet || r.Method == http.MethodHead
	if read && a.status != http.StatusUnauthorized && a.status < http.StatusInternalServerError {
		return
	}
	by := ""
	if a.status != http.StatusUnauthorized { // else anybody could be named
		by = originator(r)
	}
	e.Log.Info("broker",
		slog.String("method", r.Method), slog.String("path", clip(r.URL.Path)), slog.Int("status", a.status),
		slog.String("by", by), slog.String("request_id", clip(r.Header.Get(headerRequestID))),
		slog.Int64("duration_us", e.Now().Sub(started).Microseconds()))
}

// supportedVersion accepts every 2.x: minor versions only add.
func supportedVersion(version string) bool {
	minor, ok := strings.CutPrefix(version, "2.")
	if !ok {
		return false
	}
	_, err := strconv.ParseUint(minor, 10, 16)
	return err == nil
}

package api

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"path"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/semaphore"
)

// writeTimeout bounds an answer: who reads slowly holds a turn.
const writeTimeout = time.Minute

// An action answers a request, or returns the refusal instead.
type action func(http.ResponseWriter, *http.Request) error

// methods are the actions of one path. HEAD is GET without the body.
type methods map[string]action

func (a *api) handle(pattern string, m methods) {
	a.endpoints.Handle(pattern, a.answering(func(w http.ResponseWriter, r *http.Request) error {
		method := r.Method
		if method == http.MethodHead {
			method = http.MethodGet
		}
		if do := m[method]; do != nil {
			return do(w, r)
		}
		allowed := append(slices.Sorted(maps.Keys(m)), http.MethodHead)
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		return refuse(http.StatusMethodNotAllowed, "expected %s", strings.Join(allowed, ", "))
	}))
}

func (a *api) answering(do action) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := do(w, r); err != nil {
			a.answerError(w, r, err)
		}
	})
}

// ServeHTTP implements http.Handler.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	out := &answer{ResponseWriter: w}
	started := a.Now()
	defer func() { a.finish(out, r, started, recover()) }()
	h := out.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	a.answering(a.admit).ServeHTTP(out, r)
}

// admit refuses, cheap first, what does not come to an endpoint.
func (a *api) admit(w http.ResponseWriter, r *http.Request) error {
	if !a.MayRead(r) {
		w.Header().Set("WWW-Authenticate", `Basic realm="mtls-authz"`)
		return refuse(http.StatusUnauthorized, "wrong or missing credentials")
	}
	turns := a.reads
	if changes(r) {
		turns = a.changes
		if !a.MayChange(r) {
			return refuse(http.StatusForbidden, "these credentials may read and not change; the broker's may")
		}
		if fromBrowser(r) {
			return refuse(http.StatusForbidden, "a request with the headers of a browser changes nothing here: another site may have sent it")
		}
	}
	// Only now, so that nobody without the password can take all turns.
	if !takeTurn(r.Context(), turns, a.MaxWait) {
		w.Header().Set("Retry-After", "10")
		return refuse(http.StatusTooManyRequests, "too many requests at once; try again later")
	}
	defer turns.Release(1)
	if path.Clean(r.URL.Path) != r.URL.Path {
		return refuse(http.StatusNotFound, "there is no %q in this API", clip(r.URL.Path)) // ServeMux would redirect
	}
	connection := http.NewResponseController(w)
	_ = connection.SetWriteDeadline(time.Now().Add(writeTimeout)) // a test's recorder has none
	// The connection may carry a long stream of /r/ next.
	defer func() { _ = connection.SetWriteDeadline(time.Time{}) }()
	a.endpoints.ServeHTTP(w, r)
	return nil
}

func changes(r *http.Request) bool {
	return r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodOptions
}

// fromBrowser tells what a page of any site makes a browser send, with the
// password that it remembers. This API has no pages of its own.
func fromBrowser(r *http.Request) bool {
	return len(r.Header.Values("Origin")) > 0 || len(r.Header.Values("Sec-Fetch-Site")) > 0
}

func takeTurn(ctx context.Context, turns *semaphore.Weighted, most time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	return turns.Acquire(ctx, 1) == nil
}

// finish ends a request that may have panicked, and logs.
func (a *api) finish(out *answer, r *http.Request, started time.Time, panicked any) {
	if panicked != nil {
		if err, ok := panicked.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			panic(panicked)
		}
		a.Log.Error("api panic", slog.Any("panic", panicked), slog.String("stack", string(debug.Stack())))
		if out.status != 0 {
			// Half an answer must not look like a whole one.
			defer panic(http.ErrAbortHandler)
		} else {
			a.answerError(out, r, refuse(http.StatusInternalServerError, "internal error of the gateway"))
		}
	}
	if !changes(r) && out.status != http.StatusUnauthorized && out.status < http.StatusInternalServerError {
		return
	}
	by := ""
	if out.status != http.StatusUnauthorized { // else anybody could be named
		by = username(r)
	}
	a.Log.Info("api",
		slog.String("method", clip(r.Method)), slog.String("path", clip(r.URL.Path)), slog.Int("status", out.status),
		slog.String("by", by), slog.String("request_id", requestID(r)),
		slog.Int64("duration_us", a.Now().Sub(started).Microseconds()))
}

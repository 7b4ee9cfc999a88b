package envelope

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

	"github.com/mtls-authz/mtls-authz/api/viewer"
)

// writeTimeout bounds an answer: who reads slowly holds a turn.
const writeTimeout = time.Minute

// Config configures [New]. Every field without a default is required.
type Config struct {
	// MayRead and MayChange judge the credentials of a request, in constant
	// time.
	MayRead, MayChange func(*http.Request) bool
	// Permits tells what the user of a request's token may do with a service instance,
	// as [viewer.Viewers.Permits] does; nil: tokens open nothing.
	Permits func(ctx context.Context, r *http.Request, instanceID string) (viewer.May, error)
	// Log gets a line for each change, each refused password and each failure.
	Log *slog.Logger
	// Now is the clock.
	Now func() time.Time
	// MaxInFlight bounds the requests that are worked on at once: so many that
	// read, and so many that change.
	MaxInFlight int64
	// MaxWait is how long a request waits for its turn before it is refused.
	MaxWait time.Duration
}

// Envelope is a handler of endpoints; see [Envelope.Handle].
type Envelope struct {
	Config
	endpoints *http.ServeMux
	// questions has the patterns that are asked by POST.
	questions *http.ServeMux
	// reads and changes are apart: who reads slowly must not keep an operator
	// from revoking.
	reads, changes *semaphore.Weighted
	// users are the endpoints that tokens open, and their turns: users take none of an
	// operator's.
	users     *http.ServeMux
	userTurns *semaphore.Weighted
	fair      fair
}

// New returns an envelope of nothing.
func New(cfg Config) *Envelope {
	a := &Envelope{
		Config: cfg, endpoints: http.NewServeMux(), questions: http.NewServeMux(),
		reads: semaphore.NewWeighted(cfg.MaxInFlight), changes: semaphore.NewWeighted(cfg.MaxInFlight),
		users: http.NewServeMux(), userTurns: semaphore.NewWeighted(cfg.MaxInFlight),
	}
	a.endpoints.Handle("/", a.answering(func(_ http.ResponseWriter, r *http.Request) error {
		return Refuse(http.StatusNotFound, "there is no %q in this API", Clip(r.URL.Path))
	}))
	a.users.Handle("/", a.answering(func(http.ResponseWriter, *http.Request) error { return errClosed }))
	return a
}

// An Action answers a request, or returns the refusal instead.
type Action func(http.ResponseWriter, *http.Request) error

// Methods are the actions of one path. HEAD is GET without the body.
type Methods map[string]Action

// Ask adds a pattern whose POST is a question: readers may ask it, and it must
// change nothing.
func (a *Envelope) Ask(pattern string, ask Action) {
	a.questions.Handle(pattern, http.NotFoundHandler())
	a.Handle(pattern, Methods{http.MethodPost: ask})
}

// Handle adds the endpoints of a pattern of [http.ServeMux].
func (a *Envelope) Handle(pattern string, m Methods) {
	a.endpoints.Handle(pattern, a.answering(m.do))
}

// do is the action of a request's method.
func (m Methods) do(w http.ResponseWriter, r *http.Request) error {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	if do := m[method]; do != nil {
		return do(w, r)
	}
	allowed := slices.Sorted(maps.Keys(m))
	if m[http.MethodGet] != nil {
		allowed = append(allowed, http.MethodHead)
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	return Refuse(http.StatusMethodNotAllowed, "expected %s", strings.Join(allowed, ", "))
}

func (a *Envelope) answering(do Action) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := do(w, r); err != nil {
			a.answerError(w, r, err)
		}
	})
}

// ServeHTTP implements http.Handler.
func (a *Envelope) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	out := &answer{ResponseWriter: w}
	started := a.Now()
	defer func() { a.finish(out, r, started, recover()) }()
	h := out.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	a.answering(a.admit).ServeHTTP(out, r)
}

// admit refuses, cheap first, what does not come to an endpoint.
func (a *Envelope) admit(w http.ResponseWriter, r *http.Request) error {
	if a.Permits != nil && hasToken(r) {
		return a.admitUser(w, r)
	}
	if !a.MayRead(r) {
		w.Header().Set("WWW-Authenticate", `Basic realm="mtls-authz"`)
		if hasToken(r) {
			return Refuse(http.StatusUnauthorized, "wrong credentials: tokens are not accepted here, because the operator has not set CF_API_URL")
		}
		return Refuse(http.StatusUnauthorized, "wrong or missing credentials")
	}
	turns := a.reads
	if a.isChange(r) {
		turns = a.changes
		if !a.MayChange(r) {
			return Refuse(http.StatusForbidden, "these credentials may read and not change; the broker's may")
		}
	}
	if !isSafe(r) && fromBrowser(r) {
		return errBrowser
	}
	// Only now, so that nobody without the password can take all turns.
	if !takeTurn(r.Context(), turns, a.MaxWait) {
		return tooMany(w)
	}
	defer turns.Release(1)
	if path.Clean(r.URL.Path) != strings.TrimSuffix(r.URL.Path, "/") {
		return Refuse(http.StatusNotFound, "there is no %q in this API", Clip(r.URL.Path)) // ServeMux would redirect
	}
	connection := http.NewResponseController(w)
	_ = connection.SetWriteDeadline(time.Now().Add(writeTimeout)) // a test's recorder has none
	// The connection may carry a long stream of /r/ next.
	defer func() { _ = connection.SetWriteDeadline(time.Time{}) }()
	a.endpoints.ServeHTTP(w, r)
	return nil
}

// isSafe reports whether the method says that nothing is changed.
func isSafe(r *http.Request) bool {
	return r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions
}

// isChange goes by the method, but for the questions.
func (a *Envelope) isChange(r *http.Request) bool {
	return !isSafe(r) && !a.isQuestion(r)
}

func (a *Envelope) isQuestion(r *http.Request) bool {
	_, pattern := a.questions.Handler(r)
	return r.Method == http.MethodPost && pattern != "" && path.Clean(r.URL.Path) == r.URL.Path
}

// fromBrowser tells what a page of any site makes a browser send, with the
// password that it remembers. This API has no pages of its own.
func fromBrowser(r *http.Request) bool {
	return len(r.Header.Values("Origin")) > 0 || len(r.Header.Values("Sec-Fetch-Site")) > 0
}

func tooMany(w http.ResponseWriter) error {
	w.Header().Set("Retry-After", "10")
	return Refuse(http.StatusTooManyRequests, "too many requests at once; try again later")
}

func takeTurn(ctx context.Context, turns *semaphore.Weighted, most time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	return turns.Acquire(ctx, 1) == nil
}

// finish ends a request that may have panicked, and logs.
func (a *Envelope) finish(out *answer, r *http.Request, started time.Time, panicked any) {
	if panicked != nil {
		if err, ok := panicked.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			panic(panicked)
		}
		a.Log.Error("api panic", slog.Any("panic", panicked), slog.String("stack", string(debug.Stack())))
		if out.status != 0 {
			// Half an answer must not look like a whole one.
			defer panic(http.ErrAbortHandler)
		} else {
			a.answerError(out, r, Refuse(http.StatusInternalServerError, "internal error of the gateway"))
		}
	}
	if !a.isChange(r) && out.status != http.StatusUnauthorized && out.status < http.StatusInternalServerError {
		return
	}
	by := out.by
	if by == "" && out.status != http.StatusUnauthorized { // else anybody could be named
		by = username(r)
	}
	a.Log.Info("api",
		slog.String("method", Clip(r.Method)), slog.String("path", Clip(r.URL.Path)), slog.Int("status", out.status),
		slog.String("by", by), slog.String("request_id", requestID(r)),
		slog.Int64("duration_us", a.Now().Sub(started).Microseconds()))
}

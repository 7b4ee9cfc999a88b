package envelope

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"unicode"

	"github.com/mtls-authz/mtls-authz/store"
)

// answer remembers the status.
type answer struct {
	http.ResponseWriter
	status int
	by     string // the user of a token
}

// Unwrap lets http.ResponseController reach the connection.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (a *answer) Write(p []byte) (int, error) {
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	return a.ResponseWriter.Write(p)
}

// refusal is an error with its status; its text is for the client.
type refusal struct {
	error
	status int
}

// Refuse is an error with its status; its text is for the client.
func Refuse(status int, format string, args ...any) error {
	return &refusal{fmt.Errorf(format, args...), status}
}

// ErrHalf: the answer had begun when it failed.
var ErrHalf = errors.New("the answer could not be finished")

// problem is the body of a refusal (RFC 9457).
type problem struct {
	Status int    `json:"status"`
	Title  string `json:"title"`
	Detail string `json:"detail"`
}

// answerError gives every error its status. What is no fault of the request is
// logged: the client is not told what it was.
func (a *Envelope) answerError(w http.ResponseWriter, r *http.Request, err error) {
	var known *refusal
	if errors.Is(err, ErrHalf) {
		a.Log.Debug("api", slog.String("path", Clip(r.URL.Path)), slog.String("error", err.Error()))
		panic(http.ErrAbortHandler) // half an answer must not look like a whole one
	}
	if errors.Is(err, store.ErrTooLarge) {
		err = Refuse(http.StatusBadRequest, "%w; ask for fewer with per_page", err)
	}
	if !errors.As(err, &known) {
		a.Log.Error("api", slog.String("path", Clip(r.URL.Path)), slog.String("error", err.Error()))
		known = &refusal{errors.New("internal error of the gateway"), http.StatusInternalServerError}
		if errors.Is(err, store.ErrUnavailable) {
			known = &refusal{errors.New("the state store is not available; try again later"), http.StatusServiceUnavailable}
			w.Header().Set("Retry-After", "5")
		}
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(known.status)
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(problem{known.status, http.StatusText(known.status), known.Error()}) // the client may be gone
}

// Show answers with one resource.
func Show(w http.ResponseWriter, resource any) error {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false) // of the links, which people copy
	if err := encoder.Encode(resource); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body.Bytes()) // the client may be gone
	return nil
}

// WantsText reports whether a client asks for text rather than JSON.
func WantsText(r *http.Request) bool {
	for part := range strings.SplitSeq(strings.Join(r.Header.Values("Accept"), ","), ",") {
		switch kind, _, _ := strings.Cut(strings.TrimSpace(part), ";"); strings.ToLower(kind) {
		case "text/plain":
			return true
		case "application/json", "application/*", "*/*":
			return false
		}
	}
	return false
}

func username(r *http.Request) string {
	name, _, _ := r.BasicAuth()
	return Clip(name)
}

func requestID(r *http.Request) string { return Clip(r.Header.Get("X-Vcap-Request-Id")) }

// CauseOf is what the store notes beside a change.
func CauseOf(r *http.Request) store.Cause {
	if user, ok := UserOf(r); ok {
		return store.Cause{By: by(user), RequestID: requestID(r)}
	}
	return store.Cause{By: "operator:" + username(r), RequestID: requestID(r)}
}

// Clip makes outside text fit for a log, a database and an answer: bounded,
// printable, UTF-8.
func Clip(s string) string {
	const most = 512
	return strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) || r == unicode.ReplacementChar {
			return -1
		}
		return r
	}, s[:min(len(s), most)])
}

// OrNull keeps "nobody was named" apart from a name.
func OrNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

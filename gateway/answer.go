package gateway

import (
	"net/http"
	"strings"
)

// answerWriter is the response on its way to the client: it puts the decision
// id on it, takes off it what only the gateway may say, and has the decision
// line written when the outcome is known.
type answerWriter struct {
	http.ResponseWriter
	x *exchange
	// What the request holds of the load.
	entered      bool
	enteredRoute string
}

// Unwrap lets http.ResponseController reach Flush and Hijack.
func (w *answerWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements http.ResponseWriter, interim answers included.
func (w *answerWriter) WriteHeader(status int) {
	w.x.clean(w.Header())
	if status >= 200 {
		w.x.record(status)
	}
	w.ResponseWriter.WriteHeader(status)
}

// clean makes the headers of an answer the gateway's own where they must be.
func (x *exchange) clean(h http.Header) {
	deleteForged(h)
	deleteSecrets(h)
	if announced := h["Trailer"]; len(announced) > 0 {
		h["Trailer"] = allowedNames(announced)
	}
	h[headerDecision] = []string{x.id}
}

// allowedNames filters a list of header names, such as Trailer's.
func allowedNames(lists []string) []string {
	var allowed []string
	for _, list := range lists {
		for name := range strings.SplitSeq(list, ",") {
			if name = strings.TrimSpace(name); !isForged(http.CanonicalHeaderKey(name)) {
				allowed = append(allowed, name)
			}
		}
	}
	return allowed
}

// deleteForgedTrailers runs after the body: the app's trailers are in the
// header map by now, announced or with net/http's prefix.
func deleteForgedTrailers(h http.Header) {
	for name := range h {
		if isForged(strings.TrimPrefix(name, http.TrailerPrefix)) {
			delete(h, name)
		}
	}
}

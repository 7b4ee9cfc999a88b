package osb

import (
	"encoding/json"
	"net/http"
)

// answer remembers the status, and puts into Cloud Controller's terms what the
// handlers below say in others.
type answer struct {
	http.ResponseWriter
	status int
	// replaced: what is written from now on is not for the client.
	replaced bool
}

// WriteHeader implements http.ResponseWriter. An error that is not JSON comes
// from net/http, not from us; a redirect, which Cloud Controller would not
// follow, is an error too.
func (a *answer) WriteHeader(status int) {
	if a.status == 0 && status >= http.StatusMultipleChoices && a.Header().Get("Content-Type") != "application/json" {
		if status < http.StatusBadRequest {
			a.Header().Del("Location")
			status = http.StatusNotFound
		}
		a.describe(status, "the Open Service Broker API has no such endpoint: "+http.StatusText(status)+
			"; the broker's URL must be registered without a slash at its end")
		a.replaced = true
		return
	}
	if status == http.StatusUnprocessableEntity {
		// brokerapi's answer to JSON of the wrong type. After a 422 without an
		// error code that it knows, Cloud Controller deletes. We send none of
		// those codes: they are for asynchronous brokers.
		status = http.StatusBadRequest
	}
	if a.status == 0 {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (a *answer) Write(p []byte) (int, error) {
	if a.replaced {
		return len(p), nil
	}
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	return a.ResponseWriter.Write(p)
}

// describe answers with the text that Cloud Controller shows to the developer.
func (a *answer) describe(status int, description string) {
	a.Header().Set("Content-Type", "application/json")
	a.WriteHeader(status)
	_ = json.NewEncoder(a).Encode(map[string]string{"description": description})
}

package callerassertion

import (
	"encoding/json"
	"errors"
	"net/http"
)

// The refusals. Every error of [Verifier.Verify] is one of these by errors.Is.
var (
	// ErrMissing: there is no assertion. The request did not come through the
	// gateway, or the route has no "assert": true.
	ErrMissing = errors.New("no caller assertion")
	// ErrMalformed: it is not one assertion of the documented form.
	ErrMalformed = errors.New("malformed caller assertion")
	// ErrUnknownKey: it names a key that the gateway does not publish.
	ErrUnknownKey = errors.New("caller assertion of an unknown key")
	// ErrSignature: it was not signed with the key that it names.
	ErrSignature = errors.New("caller assertion with a wrong signature")
	// ErrIssuer: it is another gateway's.
	ErrIssuer = errors.New("caller assertion of another gateway")
	// ErrTime: it has expired, is not valid yet, or is valid for too long.
	ErrTime = errors.New("caller assertion outside its time")
	// ErrAudience: it is for another host.
	ErrAudience = errors.New("caller assertion for another host")
	// ErrRequest: it is for another method, path or query.
	ErrRequest = errors.New("caller assertion for another request")
	// ErrNotAllowed: the gateway would have refused the request, but the route
	// is in report mode.
	ErrNotAllowed = errors.New("the gateway did not allow the request")
	// ErrReplay: this assertion has been here before.
	ErrReplay = errors.New("caller assertion used before")
	// ErrUnavailable: it cannot be verified now, because the gateway's keys
	// cannot be fetched or too many assertions are remembered.
	ErrUnavailable = errors.New("caller assertions cannot be verified now")
)

// answers is the one table from sentinel to reason id. The status is 403, but
// where the client is not to blame.
var answers = []struct {
	when   error
	status int
	reason string
}{
	{ErrMissing, http.StatusForbidden, "assertion_missing"},
	{ErrMalformed, http.StatusForbidden, "assertion_malformed"},
	{ErrUnknownKey, http.StatusForbidden, "assertion_key"},
	{ErrSignature, http.StatusForbidden, "assertion_signature"},
	{ErrIssuer, http.StatusForbidden, "assertion_issuer"},
	{ErrTime, http.StatusForbidden, "assertion_time"},
	{ErrAudience, http.StatusForbidden, "assertion_audience"},
	{ErrRequest, http.StatusForbidden, "assertion_request"},
	{ErrNotAllowed, http.StatusForbidden, "assertion_not_allowed"},
	{ErrReplay, http.StatusForbidden, "assertion_replay"},
	{ErrUnavailable, http.StatusServiceUnavailable, "assertion_unavailable"},
}

// problem is the body of a refusal (RFC 9457).
type problem struct {
	Status int    `json:"status"`
	Title  string `json:"title"`
	Reason string `json:"reason"`
}

func refuse(w http.ResponseWriter, err error) {
	p := problem{Status: http.StatusForbidden, Title: "The request is not proven to come through the gateway."}
	for _, a := range answers {
		if errors.Is(err, a.when) {
			p.Status, p.Reason = a.status, a.reason
			break
		}
	}
	h := w.Header()
	if p.Status == http.StatusServiceUnavailable {
		h.Set("Retry-After", "5")
	}
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p)
}

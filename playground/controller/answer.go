package controller

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"
)

// Answer is what the broker answered, not yet judged.
type Answer struct {
	// Status is the HTTP status.
	Status int
	// Header of the answer.
	Header http.Header
	// Body as received.
	Body []byte
	// RequestID is the X-Broker-API-Request-Identity that was sent.
	RequestID string

	operation operation
}

// Unanswered is the error of a call that got no whole answer. Whether the
// broker has acted is not known.
type Unanswered struct {
	// RequestID is the X-Broker-API-Request-Identity that was sent.
	RequestID string
	// Timeout tells a call that took too long from one that broke.
	Timeout bool
	// Err is the transport's error.
	Err error

	operation operation
}

// Error names the operation and the transport's error.
func (u *Unanswered) Error() string {
	return fmt.Sprintf("controller: %s got no answer: %v", u.operation, u.Err)
}

// Unwrap is the transport's error.
func (u *Unanswered) Unwrap() error { return u.Err }

// Outcome is Orphaned for a create that timed out, InProgress for a poll, which
// is repeated, and Failed for all else: a broken connection starts no orphan
// mitigation.
func (u *Unanswered) Outcome() Outcome {
	if u.operation.polls() {
		return InProgress
	}
	if u.Timeout && u.operation.creates() {
		return Orphaned
	}
	return Failed
}

// JSON decodes the body.
func (a *Answer) JSON(into any) error {
	if err := json.Unmarshal(a.Body, into); err != nil {
		return fmt.Errorf("controller: answer of %s (status %d): %w", a.operation, a.Status, err)
	}
	return nil
}

// Description is the text that the user would see after "Service broker
// error: "; empty when the broker gave none.
func (a *Answer) Description() string {
	text, _ := a.text("description")
	return text
}

// text is a member of the body that is a string.
func (a *Answer) text(name string) (string, bool) {
	var value string
	return value, json.Unmarshal(a.members()[name], &value) == nil
}

// members is the body's JSON object, nil if the body is none.
func (a *Answer) members() map[string]json.RawMessage {
	var members map[string]json.RawMessage
	if json.Unmarshal(a.Body, &members) != nil {
		return nil
	}
	return members
}

// wellFormed tells whether Cloud Controller can read the body of a success.
func (a *Answer) wellFormed() bool {
	members := a.members()
	if members == nil {
		return false
	}
	if a.Status == http.StatusAccepted {
		return a.absentOr("operation", isOperation)
	}
	switch a.operation {
	case provision, update:
		return a.absentOr("dashboard_url", isStringOrNull)
	case bind:
		return a.absentOr("credentials", isObjectOrNull)
	case fetch:
		return a.absentOr("parameters", isObject) && a.absentOr("route_service_url", isString) &&
			a.absentOr("service_id", isString) && a.absentOr("plan_id", isString) && a.absentOr("dashboard_url", isString)
	default: // catalog, unbind and deprovision: any object will do
		return true
	}
}

// usable tells whether Cloud Controller takes what a well-formed bind answer
// gives: an https URL, and nothing that the offering does not require. No URL
// at all is taken, and leaves the route open.
func (a *Answer) usable() bool {
	if !a.absentOr("syslog_drain_url", isNull) || !a.absentOr("volume_mounts", isNull) {
		return false
	}
	if a.absentOr("route_service_url", isNull) {
		return true
	}
	text, ok := a.text("route_service_url")
	target, err := url.Parse(text)
	return ok && err == nil && target.Scheme == "https" && target.Hostname() != "" && !strings.HasPrefix(target.Hostname(), ".")
}

func (a *Answer) absentOr(name string, valid func(json.RawMessage) bool) bool {
	raw, present := a.members()[name]
	return !present || valid(raw)
}

func isNull(raw json.RawMessage) bool { return string(raw) == "null" }

func isString(raw json.RawMessage) bool { return raw[0] == '"' }

func isObject(raw json.RawMessage) bool { return raw[0] == '{' }

func isStringOrNull(raw json.RawMessage) bool { return isString(raw) || isNull(raw) }

func isObjectOrNull(raw json.RawMessage) bool { return isObject(raw) || isNull(raw) }

// isOperation is a text of at most 10,000 characters, the width of a column.
func isOperation(raw json.RawMessage) bool {
	var text string
	return isString(raw) && json.Unmarshal(raw, &text) == nil && utf8.RuneCountInString(text) <= 10000
}

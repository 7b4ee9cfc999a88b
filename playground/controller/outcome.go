package controller

import (
	"net/http"
	"slices"
)

// Outcome is what Cloud Controller makes of an answer, or of none.
type Outcome string

const (
	// Succeeded: the operation is done.
	Succeeded Outcome = "succeeded"
	// InProgress: the broker works on; Cloud Controller would poll.
	InProgress Outcome = "in progress"
	// Rejected: the user sees the description; nothing was created.
	Rejected Outcome = "rejected"
	// Unauthenticated: the broker refused the credentials.
	Unauthenticated Outcome = "unauthenticated"
	// Conflict: the id exists with other attributes.
	Conflict Outcome = "conflict"
	// Typed: a 422 with an error code that Cloud Controller knows: it shows a
	// text of its own.
	Typed Outcome = "typed error"
	// Failed: an error without consequences for the broker.
	Failed Outcome = "failed"
	// Orphaned: an error after which Cloud Controller deletes what may have
	// been created, without originating identity.
	Orphaned Outcome = "failed, orphan mitigation"
)

// operation is the kind of call: the same status means different things.
type operation string

const (
	catalog     operation = "catalog"
	provision   operation = "provision"
	bind        operation = "bind"
	update      operation = "update"
	unbind      operation = "unbind"
	deprovision operation = "deprovision"
	fetch       operation = "fetch"
	poll        operation = "last_operation"
	pollDelete  operation = "last_operation of a deletion"
)

func (o operation) creates() bool { return o == provision || o == bind }

func (o operation) deletes() bool { return o == unbind || o == deprovision }

func (o operation) reads() bool { return o == catalog || o == fetch }

func (o operation) polls() bool { return o == poll || o == pollDelete }

// broken is the outcome of what Cloud Controller cannot make sense of.
func (o operation) broken() Outcome {
	if o.creates() {
		return Orphaned
	}
	return Failed
}

// typedErrors are the error codes that each operation knows.
var typedErrors = map[operation][]string{
	provision:   {"AsyncRequired", "ConcurrencyError", "MaintenanceInfoConflict"},
	bind:        {"AsyncRequired", "ConcurrencyError", "RequiresApp"},
	update:      {"AsyncRequired", "MaintenanceInfoConflict"},
	unbind:      {"AsyncRequired", "ConcurrencyError"},
	deprovision: {"AsyncRequired", "ConcurrencyError"},
}

// Outcome judges the answer.
func (a *Answer) Outcome() Outcome {
	switch {
	case a.operation.polls():
		return a.polled()
	case a.Status < http.StatusBadRequest:
		return a.accepted()
	case a.Status >= http.StatusInternalServerError:
		return a.operation.broken()
	}
	switch a.Status {
	case http.StatusUnauthorized:
		return Unauthenticated
	case http.StatusRequestTimeout:
		return Failed
	case http.StatusConflict:
		if a.operation.creates() {
			return Conflict
		}
		return Failed
	case http.StatusGone:
		if a.operation.deletes() {
			return Succeeded // whatever the body
		}
		return a.operation.broken()
	case http.StatusUnprocessableEntity:
		return a.unprocessable()
	}
	return Rejected
}

// accepted judges 2xx and 3xx.
func (a *Answer) accepted() Outcome {
	op, wellFormed := a.operation, a.wellFormed()
	switch {
	case a.Status == http.StatusOK && !wellFormed:
		return Failed // 200 says that this request created nothing
	case a.Status == http.StatusOK, a.Status == http.StatusCreated && op.creates() && wellFormed:
		if op == bind && !a.usable() {
			return Orphaned
		}
		return Succeeded
	case a.Status == http.StatusAccepted && !op.reads() && wellFormed:
		return InProgress
	}
	return op.broken()
}

// unprocessable judges 422.
func (a *Answer) unprocessable() Outcome {
	code, _ := a.text("error")
	switch {
	case slices.Contains(typedErrors[a.operation], code):
		return Typed
	case a.operation == update:
		return Rejected
	}
	return a.operation.broken()
}

// polled judges an answer of last_operation: what says neither yes nor no is
// asked again.
func (a *Answer) polled() Outcome {
	state, _ := a.text("state")
	switch {
	case a.Status == http.StatusOK && state == "succeeded", a.Status == http.StatusGone && a.operation == pollDelete:
		return Succeeded
	case a.Status == http.StatusOK && state == "failed", a.Status == http.StatusBadRequest:
		return Failed
	}
	return InProgress
}

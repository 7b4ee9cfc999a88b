package record

import (
	"database/sql"
	"encoding/json"
	"time"

	"github.com/mtls-authz/mtls-authz/store/database"
)

// Cause is why something changes: who asked for it, in which request.
type Cause struct {
	// By is the originating identity as the platform named it; "": nobody.
	By string
	// RequestID is that of the router, RequestIdentity that of the platform.
	RequestID, RequestIdentity string
}

// The kinds of an [Entry].
const (
	KindInstance = "instance"
	KindBinding  = "binding"
)

// Entry is one line of the audit: what happened to an instance or a binding.
// It holds no secret.
type Entry struct {
	Revision int64
	At       time.Time
	// Action is create, update or delete, Kind instance or binding.
	Action, Kind   string
	ID, InstanceID string
	Cause
	// Before and After are plan, owner, route and parameters, nil where there
	// was nothing: both are nil if an unknown id was deleted.
	Before, After json.RawMessage
}

// EntryColumns are those that [ScanEntry] takes.
const EntryColumns = `revision, made_at, action, kind, id, instance_id, made_by, request_id, request_identity, content_before, content_after`

// ScanEntry is a [database.Scanner].
func ScanEntry(row *sql.Rows) func() (Entry, error) {
	var e Entry
	var at int64
	var before, after string
	err := row.Scan(&e.Revision, &at, &e.Action, &e.Kind, &e.ID, &e.InstanceID, &e.By, &e.RequestID, &e.RequestIdentity, &before, &after)
	e.At, e.Before, e.After = time.UnixMilli(at).UTC(), rawOrNil(before), rawOrNil(after)
	return func() (Entry, error) {
		if err != nil {
			return Entry{}, database.Damage("audit entry of", e.ID, err)
		}
		return e, nil
	}
}

func rawOrNil(text string) json.RawMessage {
	if text == "" {
		return nil
	}
	return json.RawMessage(text)
}

// content is what the audit shows of an instance or a binding.
type content struct {
	PlanID     string          `json:"plan_id,omitempty"`
	Plan       string          `json:"plan,omitempty"`
	Org        string          `json:"org,omitempty"`
	Space      string          `json:"space,omitempty"`
	Route      string          `json:"route,omitempty"`
	Parameters json.RawMessage `json:"parameters"`
}

func (c content) json() json.RawMessage {
	if !json.Valid(c.Parameters) { // damaged
		c.Parameters, _ = json.Marshal(string(c.Parameters)) // strings cannot fail
	}
	raw, _ := json.Marshal(c) // neither can what is valid
	return raw
}

// Content is what the audit shows of the instance.
func (i Instance) Content() json.RawMessage {
	return content{
		PlanID: i.PlanID, Plan: i.Plan.String(), Org: i.Owner.Org.String(), Space: i.Owner.Space.String(),
		Parameters: i.Parameters.JSON(),
	}.json()
}

// Content is what the audit shows of the binding; not its url.
func (b Binding) Content() json.RawMessage {
	return content{Route: b.Route.String(), Parameters: b.Parameters.JSON()}.json()
}

// DeletedInstanceColumns are those that [ScanDeletedInstance] takes.
const DeletedInstanceColumns = `id, plan_id, plan_scope, org, space, parameters`

// ScanDeletedInstance is a [database.Scanner] of what the audit shows of a
// deleted instance. It does not parse it: damaged rows can be deleted.
func ScanDeletedInstance(row *sql.Rows) func() (Entry, error) {
	var c content
	var raw, id string
	err := row.Scan(&id, &c.PlanID, &c.Plan, &c.Org, &c.Space, &raw)
	c.Parameters = json.RawMessage(raw)
	return func() (Entry, error) { return Entry{Kind: KindInstance, ID: id, Before: c.json()}, err }
}

// DeletedBindingColumns are those that [ScanDeletedBinding] takes.
const DeletedBindingColumns = `id, instance_id, route, parameters`

// ScanDeletedBinding does for bindings what [ScanDeletedInstance] does for
// instances.
func ScanDeletedBinding(row *sql.Rows) func() (Entry, error) {
	var c content
	var raw, id, instanceID string
	err := row.Scan(&id, &instanceID, &c.Route, &raw)
	c.Parameters = json.RawMessage(raw)
	return func() (Entry, error) {
		return Entry{Kind: KindBinding, ID: id, InstanceID: instanceID, Before: c.json()}, err
	}
}

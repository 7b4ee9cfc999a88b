package api

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/mtls-authz/mtls-authz/api/envelope"
	"github.com/mtls-authz/mtls-authz/api/list"
	"github.com/mtls-authz/mtls-authz/store"
)

// entry is one line of the audit.
type entry struct {
	// Revision orders all changes; a deleted instance and its bindings share
	// one.
	Revision int64     `json:"revision"`
	At       time.Time `json:"at"`
	Action   string    `json:"action"`
	Kind     string    `json:"kind"`
	GUID     string    `json:"guid"`
	// Instance is null where a binding was deleted that nobody knew.
	Instance *string `json:"service_instance_guid"`
	// By is an originating identity as the platform named it, or
	// operator:<username>; null: the platform named nobody.
	By              *string `json:"by"`
	RequestID       *string `json:"request_id"`
	RequestIdentity *string `json:"request_identity"`
	// Before and After are null where there was nothing.
	Before json.RawMessage `json:"before"`
	After  json.RawMessage `json:"after"`
}

func (a *api) entry(e store.Entry) entry {
	return entry{
		Revision: e.Revision, At: e.At, Action: e.Action, Kind: e.Kind, GUID: e.ID, Instance: envelope.OrNull(e.InstanceID),
		By: envelope.OrNull(e.By), RequestID: envelope.OrNull(e.RequestID), RequestIdentity: envelope.OrNull(e.RequestIdentity),
		Before: content(e.Before), After: content(e.After),
	}
}

// content shows damaged JSON as the text that it is.
func content(raw json.RawMessage) json.RawMessage {
	if len(raw) > 0 && !json.Valid(raw) {
		raw, _ = json.Marshal(string(raw)) // a string cannot fail
	}
	return raw
}

func (a *api) listAudit(w http.ResponseWriter, r *http.Request) error {
	var filter store.AuditFilter
	query, err := list.Parse(r.URL.RawQuery, map[string]list.Param{
		"guids":                  list.Strings(&filter.IDs, list.GUID),
		"service_instance_guids": list.Strings(&filter.InstanceIDs, list.GUID),
		"kinds":                  list.Strings(&filter.Kinds, list.OneOf("instance", "binding")),
		"actions":                list.Strings(&filter.Actions, list.OneOf("create", "update", "delete")),
		"users":                  list.Strings(&filter.By, list.Text),
		"created_ats[gte]":       list.Time(&filter.From),
		"created_ats[lt]":        list.Time(&filter.To),
	}, true)
	if err != nil {
		return envelope.Refuse(http.StatusBadRequest, "%w", err)
	}
	found, total, err := a.Reader.Audit(r.Context(), filter, envelope.PageOf(query))
	return envelope.AnswerList(w, r, envelope.Page[store.Entry]{BaseURL: a.BaseURL, Query: query, Found: found, Total: total, Err: err}, a.entry)
}

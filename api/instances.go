package api

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/mtls-authz/mtls-authz/api/envelope"
	"github.com/mtls-authz/mtls-authz/api/list"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/store"
)

// instance is a service instance.
type instance struct {
	GUID         string `json:"guid"`
	Plan         string `json:"plan"`
	Organization string `json:"organization_guid"`
	Space        string `json:"space_guid"`
	// Owner is the name of the space, org/space; "": not known.
	Owner string `json:"owner_name,omitempty"`
	// Scope is the narrower of plan and parameters; Mode has the operator's
	// REPORT_MODE in it.
	Scope string `json:"scope"`
	Mode  string `json:"mode"`
	// Parameters are the developer's, in canonical form.
	Parameters json.RawMessage `json:"parameters"`
	CreatedAt  time.Time       `json:"created_at"`
	// CreatedBy and UpdatedBy are originating identities as the platform named
	// them; null: it named nobody.
	CreatedBy *string              `json:"created_by"`
	UpdatedAt time.Time            `json:"updated_at"`
	UpdatedBy *string              `json:"updated_by"`
	Links     map[string]list.Link `json:"links"`
}

func (a *api) instance(i store.Instance) instance {
	mode := i.Parameters.Mode
	if !a.ReportAllowed {
		mode = grants.Enforce
	}
	return instance{
		GUID: i.ID, Plan: i.Plan.String(), Organization: i.Owner.Org.String(), Space: i.Owner.Space.String(),
		Owner: a.Labels.Name(grants.Space, i.Owner.Space),
		Scope: grants.Narrowest(i.Plan, i.Parameters.Scope).String(), Mode: mode.String(), Parameters: i.Parameters.JSON(),
		CreatedAt: i.CreatedAt, CreatedBy: envelope.OrNull(i.CreatedBy), UpdatedAt: i.UpdatedAt, UpdatedBy: envelope.OrNull(i.UpdatedBy),
		Links: map[string]list.Link{
			"self":     a.link("/v1/instances/" + i.ID),
			"bindings": a.link("/v1/bindings?service_instance_guids=" + i.ID),
			"audit":    a.link("/v1/audit?service_instance_guids=" + i.ID),
		},
	}
}

// link leads to a path of this API; ids need no escaping.
func (a *api) link(path string) list.Link { return list.Link{Href: a.BaseURL + path} }

func (a *api) listInstances(w http.ResponseWriter, r *http.Request) error {
	var filter store.InstanceFilter
	query, err := list.Parse(r.URL.RawQuery, map[string]list.Param{
		"guids":              list.Strings(&filter.IDs, list.GUID),
		"organization_guids": list.Strings(&filter.Organizations, list.GUID),
		"space_guids":        list.Strings(&filter.Spaces, list.GUID),
		"plans":              list.Strings(&filter.Plans, list.OneOf("space", "org", "any")),
	}, false)
	if err != nil {
		return envelope.Refuse(http.StatusBadRequest, "%w", err)
	}
	found, total, err := a.Reader.Instances(r.Context(), filter, envelope.PageOf(query))
	return envelope.AnswerList(w, r, envelope.Page[store.Instance]{BaseURL: a.BaseURL, Query: query, Found: found, Total: total, Err: err}, a.instance)
}

func (a *api) showInstance(w http.ResponseWriter, r *http.Request) error {
	id, err := pathGUID(r, "service instance")
	if err != nil {
		return err
	}
	one, err := a.theInstance(r, id)
	if err != nil {
		return err
	}
	if _, ok := envelope.UserOf(r); ok {
		return envelope.Show(w, a.instanceForUser(one))
	}
	return envelope.Show(w, a.instance(one))
}

func (a *api) theInstance(r *http.Request, id string) (store.Instance, error) {
	found, _, err := a.Reader.Instances(r.Context(), store.InstanceFilter{IDs: []string{id}}, store.Page{Number: 1, Size: 1})
	return only("service instance", id, found, err)
}

func (a *api) deleteInstance(w http.ResponseWriter, r *http.Request) error {
	id, err := pathGUID(r, "service instance")
	if err != nil {
		return err
	}
	return deleted(w, "service instance", id, a.Deleter.DeleteInstance(r.Context(), envelope.CauseOf(r), id))
}

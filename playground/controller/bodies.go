package controller

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
)

// The bodies, field by field in Cloud Controller's order. Our offering has no
// maintenance_info: it is null where Cloud Controller sends null, and left out
// elsewhere.

type provisionBody struct {
	ServiceID    string          `json:"service_id"`
	PlanID       string          `json:"plan_id"`
	Organization string          `json:"organization_guid"`
	Space        string          `json:"space_guid"`
	Context      cfContext       `json:"context"`
	Parameters   json.RawMessage `json:"parameters,omitempty"`
}

type updateBody struct {
	ServiceID  string          `json:"service_id"`
	PlanID     string          `json:"plan_id"`
	Previous   previousValues  `json:"previous_values"`
	Context    cfContext       `json:"context"`
	Parameters json.RawMessage `json:"parameters"`
}

type previousValues struct {
	PlanID          string    `json:"plan_id"`
	ServiceID       string    `json:"service_id"`
	Organization    string    `json:"organization_id"`
	Space           string    `json:"space_id"`
	MaintenanceInfo *struct{} `json:"maintenance_info"`
}

type bindBody struct {
	ServiceID  string          `json:"service_id"`
	PlanID     string          `json:"plan_id"`
	App        string          `json:"app_guid,omitempty"`
	Resource   bindResource    `json:"bind_resource"`
	Context    cfContext       `json:"context"`
	Parameters json.RawMessage `json:"parameters,omitempty"`
}

// bindResource is empty for a service key.
type bindResource struct {
	Route          string       `json:"route,omitempty"`
	App            string       `json:"app_guid,omitempty"`
	Space          string       `json:"space_guid,omitempty"`
	AppAnnotations *annotations `json:"app_annotations,omitempty"`
}

// cfContext is the OSB context object of Cloud Foundry.
type cfContext struct {
	Platform            string       `json:"platform"`
	Organization        string       `json:"organization_guid"`
	Space               string       `json:"space_guid"`
	OrganizationName    string       `json:"organization_name"`
	SpaceName           string       `json:"space_name"`
	OrgAnnotations      annotations  `json:"organization_annotations"`
	SpaceAnnotations    annotations  `json:"space_annotations"`
	InstanceName        string       `json:"instance_name,omitempty"`
	InstanceAnnotations *annotations `json:"instance_annotations,omitempty"`
}

// annotations are always empty here: Cloud Controller sends prefixed ones only.
type annotations struct{}

// context is what every call carries; binds carry no more than this.
func (s Space) context() cfContext {
	return cfContext{
		Platform: "cloudfoundry", Organization: s.OrgGUID, Space: s.GUID,
		OrganizationName: s.OrgName, SpaceName: s.Name,
	}
}

func (c cfContext) named(instance string) cfContext {
	c.InstanceName = instance
	return c
}

func (c cfContext) annotated() cfContext {
	c.InstanceAnnotations = new(annotations)
	return c
}

func (s Service) path() string {
	return "/v2/service_instances/" + url.PathEscape(s.GUID)
}

func (b Binding) path() string {
	return b.Service.path() + "/service_bindings/" + url.PathEscape(b.GUID)
}

// ids adds the catalog's ids, which every DELETE carries.
func (s Service) ids(query url.Values) url.Values {
	query.Set("plan_id", s.PlanID)
	query.Set("service_id", s.OfferingID)
	return query
}

func incomplete() url.Values { return url.Values{"accepts_incomplete": {"true"}} }

// object checks parameters as Cloud Controller does before it calls a broker.
// No parameters and {} are the same: empty.
func object(parameters, empty json.RawMessage) (json.RawMessage, error) {
	if len(bytes.TrimSpace(parameters)) == 0 {
		return empty, nil
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(parameters, &members); err != nil || members == nil {
		return nil, fmt.Errorf("controller: parameters %q: expected a JSON object", parameters)
	}
	if len(members) == 0 {
		return empty, nil
	}
	return parameters, nil
}

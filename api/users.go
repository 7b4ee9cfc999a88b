package api

import (
	"net/http"

	"github.com/mtls-authz/mtls-authz/api/envelope"
	"github.com/mtls-authz/mtls-authz/api/list"
	"github.com/mtls-authz/mtls-authz/store"
)

// addInstance adds the endpoints of one service instance, which users' tokens open,
// too; only operators delete.
func (a *api) addInstance(e *envelope.Envelope) {
	show := envelope.Methods{http.MethodGet: a.showInstance}
	e.Handle("/v1/instances/{guid}", envelope.Methods{http.MethodGet: a.showInstance, http.MethodDelete: a.deleteInstance})
	e.Open("/v1/instances/{guid}", show)
	for path, m := range map[string]envelope.Methods{
		"bindings": {http.MethodGet: a.listOwnBindings},
		"grants":   {http.MethodPost: a.changeGrants},
	} {
		e.Handle("/v1/instances/{guid}/"+path, m)
		e.Open("/v1/instances/{guid}/"+path, m)
	}
}

// listOwnBindings lists the bindings of one service instance.
func (a *api) listOwnBindings(w http.ResponseWriter, r *http.Request) error {
	id, err := pathGUID(r, "service instance")
	if err != nil {
		return err
	}
	query, err := list.Parse(r.URL.RawQuery, nil, false)
	if err != nil {
		return envelope.Refuse(http.StatusBadRequest, "%w", err)
	}
	found, total, err := a.Reader.AllBindings(r.Context(), store.BindingFilter{InstanceIDs: []string{id}}, envelope.PageOf(query))
	if err == nil && total == 0 { // of a deleted or unknown instance there is no empty list
		if _, err := a.theInstance(r, id); err != nil {
			return err
		}
	}
	represent := a.bindingForAll
	if _, ok := envelope.UserOf(r); ok {
		represent = a.bindingForUser
	}
	return answerBindings(w, r, envelope.Page[store.BoundRoute]{BaseURL: a.BaseURL, Query: query, Found: found, Total: total, Err: err}, represent)
}

// bindingForUser has nothing of other instances, names of the own org only, and no
// link that a token does not open.
func (a *api) bindingForUser(b store.BoundRoute) binding {
	shown := a.binding(b.ForOwner(), a.Labels.Within(b.Instance.Owner.Org))
	shown.Links = map[string]list.Link{"service_instance": a.link("/v1/instances/" + b.InstanceID)}
	return shown
}

// instanceForUser has the links that a token opens.
func (a *api) instanceForUser(i store.Instance) instance {
	shown := a.instance(i)
	self := "/v1/instances/" + i.ID
	shown.Links = map[string]list.Link{
		"self": a.link(self), "bindings": a.link(self + "/bindings"), "routes": a.link(self + "/routes"),
		"denials": a.link(self + "/denials"), "grants": a.link(self + "/grants"),
	}
	return shown
}

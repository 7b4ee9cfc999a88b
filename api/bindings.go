package api

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/mtls-authz/mtls-authz/api/envelope"
	"github.com/mtls-authz/mtls-authz/api/list"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/display"
	"github.com/mtls-authz/mtls-authz/grants/effective"
	"github.com/mtls-authz/mtls-authz/store"
)

// binding is a bound route, and what is in force for it on this gateway.
type binding struct {
	GUID  string `json:"guid"`
	Route string `json:"route"`
	Plan  string `json:"plan"`
	// Scope is the narrowest of plan, instance and binding; "" admits nobody.
	Scope string `json:"scope"`
	Mode  string `json:"mode"`
	// Labels of instance and binding.
	Labels map[string]string `json:"labels"`
	// Grants are those in force, ordered by source, then those that have
	// expired.
	Grants []effective.Entry `json:"grants"`
	// Parameters are those of the bind, in canonical form.
	Parameters   json.RawMessage `json:"parameters"`
	Instance     string          `json:"service_instance_guid"`
	Organization string          `json:"organization_guid"`
	Space        string          `json:"space_guid"`
	// Owner is the name of the space, org/space; "": not known.
	Owner     string    `json:"owner_name,omitempty"`
	CreatedAt time.Time `json:"created_at"`
	// CreatedBy is an originating identity as the platform named it; null: it
	// named nobody.
	CreatedBy *string `json:"created_by"`
	// LastUsed is when a request last went on to the route; null: never.
	LastUsed *time.Time           `json:"last_used_at"`
	Warnings []string             `json:"warnings"`
	Links    map[string]list.Link `json:"links"`
}

// bindingForAll is for readers, who may read everything.
func (a *api) bindingForAll(b store.BoundRoute) binding { return a.binding(b, a.Labels) }

func (a *api) binding(b store.BoundRoute, labels display.Labels) binding {
	shown := binding{
		GUID: b.ID, Route: b.Route.String(), Plan: b.Instance.Plan.String(), Mode: grants.Enforce.String(),
		Labels: map[string]string{}, Grants: []effective.Entry{}, Parameters: b.Parameters.JSON(),
		Instance: b.InstanceID, Organization: b.Instance.Owner.Org.String(), Space: b.Instance.Owner.Space.String(),
		Owner:     labels.Name(grants.Space, b.Instance.Owner.Space),
		CreatedAt: b.CreatedAt, CreatedBy: envelope.OrNull(b.CreatedBy), Warnings: []string{},
		Links: map[string]list.Link{
			"self":             a.link("/v1/bindings/" + b.ID),
			"service_instance": a.link("/v1/instances/" + b.InstanceID),
			"audit":            a.link("/v1/audit?guids=" + b.ID),
		},
	}
	if !b.LastUsed.IsZero() {
		shown.LastUsed = &b.LastUsed
	}
	a.addInForce(&shown, labels, b.OwnersView)
	for _, text := range effective.SameRoute(b.Others, b.Foreign) {
		shown.warn(text)
	}
	return shown
}

// addInForce shows what this gateway decides by, and what it did until it
// expired.
func (a *api) addInForce(shown *binding, labels display.Labels, forOwner bool) {
	now, site := a.Now(), a.Site()
	access := a.Access(shown.GUID)
	if access == nil {
		shown.warn("this gateway has nothing in force for the binding and refuses every request to it: it was made or deleted a moment ago, or it or its instance is damaged in the database")
		return
	}
	// Exactly as the gateway asks: what it remembers stays.
	live := access.Live(now, site)
	shown.Scope, shown.Mode = live.Scope.String(), live.Mode.String()
	if live.Labels != nil {
		shown.Labels = live.Labels
	}
	for _, rule := range live.Rules {
		if forOwner {
			rule = display.ForOwner(rule, access.Route)
		}
		shown.Grants = append(shown.Grants, effective.EntryOf(rule, labels, false))
		if gone := labels.Gone(rule); gone != "" {
			shown.warn(gone)
		}
	}
	for _, rule := range access.Idle(now, site).Ended {
		if forOwner {
			rule = display.ForOwner(rule, access.Route)
		}
		shown.Grants = append(shown.Grants, effective.EntryOf(rule, labels, true))
	}
}

func (b *binding) warn(text string) { b.Warnings = append(b.Warnings, text) }

func (a *api) listBindings(w http.ResponseWriter, r *http.Request) error {
	var filter store.BindingFilter
	params := envelope.BindingParams(&filter)
	params["guids"] = list.Strings(&filter.IDs, list.GUID)
	query, err := list.Parse(r.URL.RawQuery, params, false)
	if err != nil {
		return envelope.Refuse(http.StatusBadRequest, "%w", err)
	}
	found, total, err := a.Reader.AllBindings(r.Context(), filter, envelope.PageOf(query))
	return answerBindings(w, r, envelope.Page[store.BoundRoute]{BaseURL: a.BaseURL, Query: query, Found: found, Total: total, Err: err}, a.bindingForAll)
}

func answerBindings(w http.ResponseWriter, r *http.Request, page envelope.Page[store.BoundRoute], represent func(store.BoundRoute) binding) error {
	if !envelope.WantsText(r) {
		return envelope.AnswerList(w, r, page, represent)
	}
	return envelope.AnswerText(w, r, page, "bindings", func(w io.Writer) error {
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "ROUTE\tBINDING\tSCOPE\tMODE\tGRANTS\tWARNINGS")
		for _, b := range page.Found {
			one := represent(b)
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%d\n", one.Route, one.GUID, cmp.Or(one.Scope, "-"), one.Mode, len(one.Grants), len(one.Warnings))
		}
		return t.Flush()
	})
}

func (a *api) showBinding(w http.ResponseWriter, r *http.Request) error {
	id, err := pathGUID(r, "binding")
	if err != nil {
		return err
	}
	found, _, err := a.Reader.AllBindings(r.Context(), store.BindingFilter{IDs: []string{id}}, store.Page{Number: 1, Size: 1})
	one, err := only("binding", id, found, err)
	if err != nil {
		return err
	}
	return envelope.Show(w, a.bindingForAll(one))
}

func (a *api) deleteBinding(w http.ResponseWriter, r *http.Request) error {
	id, err := pathGUID(r, "binding")
	if err != nil {
		return err
	}
	return deleted(w, "binding", id, a.Deleter.DeleteBinding(r.Context(), envelope.CauseOf(r), "", id))
}

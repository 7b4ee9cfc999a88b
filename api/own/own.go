// Package own shows of one service instance who can reach its routes and who was
// refused: to operators, and to users whose tokens permit to read it.
//
// It trusts api/envelope for who may read the instance. To a user it shows nothing
// of other instances, and no name from outside the instance's org.
package own

import (
	"bytes"
	"net/http"

	"github.com/mtls-authz/mtls-authz/api/access"
	"github.com/mtls-authz/mtls-authz/api/envelope"
	"github.com/mtls-authz/mtls-authz/api/list"
	"github.com/mtls-authz/mtls-authz/grants/display"
	"github.com/mtls-authz/mtls-authz/grants/effective"
	"github.com/mtls-authz/mtls-authz/store"
)

// Config configures [New]. Every field without a default is required.
type Config struct {
	Store *store.Store
	// Access reports of routes.
	Access *access.Access
	// Labels are names; a user sees those of the own org. Nil: none.
	Labels display.Labels
	// BaseURL is the prefix of links: https, a host that serves /v1, no path, no
	// slash at its end.
	BaseURL string
}

// Own answers.
type Own struct{ Config }

// New returns it; see [Own.Add].
func New(cfg Config) *Own { return &Own{cfg} }

// Add adds its endpoints, which users' tokens open, too.
func (a *Own) Add(e *envelope.Envelope) {
	for path, action := range map[string]envelope.Action{"routes": a.listOwnRoutes, "denials": a.listOwnDenials} {
		m := envelope.Methods{http.MethodGet: action}
		e.Handle("/v1/instances/{guid}/"+path, m)
		e.Open("/v1/instances/{guid}/"+path, m)
	}
}

const (
	// maxOwnRoutes bounds a page: each route is shown with all that is known of it.
	maxOwnRoutes = 20
	// maxOwnDenials bounds the refusals of an instance, maxDenialRoutes the routes
	// that are looked at.
	maxOwnDenials   = 100
	maxDenialRoutes = 1000
)

// ownBindings is a page of the bindings of one service instance. To a user they
// come without what is known of other instances.
func (a *Own) ownBindings(r *http.Request, page store.Page) (found []store.BoundRoute, total int, err error) {
	id, err := list.GUID(r.PathValue("guid"))
	if err != nil {
		return nil, 0, envelope.Missing("service instance", r.PathValue("guid"))
	}
	found, total, err = a.Store.AllBindings(r.Context(), store.BindingFilter{InstanceIDs: []string{id}}, page)
	if _, ok := envelope.UserOf(r); ok {
		for i := range found {
			found[i].Others = nil
		}
	}
	return found, total, err
}

// labelsFor are the names that whoever asks may see.
func (a *Own) labelsFor(r *http.Request, b store.BoundRoute) display.Labels {
	if _, ok := envelope.UserOf(r); ok {
		return a.Labels.Within(b.Instance.Owner.Org)
	}
	return a.Labels
}

// listOwnRoutes shows who can reach the routes of one service instance.
func (a *Own) listOwnRoutes(w http.ResponseWriter, r *http.Request) error {
	query, err := list.Parse(r.URL.RawQuery, nil, false)
	if err != nil {
		return envelope.Refuse(http.StatusBadRequest, "%w", err)
	}
	query.Size = min(query.Size, maxOwnRoutes)
	found, total, damage := a.ownBindings(r, envelope.PageOf(query))
	if _, other := envelope.Damages(damage); other != nil {
		return other
	}
	routes := make([]effective.Access, len(found))
	for i, b := range found {
		if routes[i], err = a.Access.Report(r.Context(), b, a.labelsFor(r, b)); err != nil {
			return err
		}
	}
	if !access.WantsText(r) {
		page := envelope.Page[effective.Access]{BaseURL: a.BaseURL, Query: query, Found: routes, Total: total, Err: damage}
		return envelope.AnswerList(w, r, page, func(one effective.Access) effective.Access { return one })
	}
	var text bytes.Buffer
	for i, one := range routes {
		if i > 0 {
			text.WriteString("\n\n")
		}
		if err := one.Text(&text); err != nil {
			return err
		}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = text.WriteTo(w) // the client may be gone
	return nil
}

// denial are requests to a route that were refused alike.
type denial struct {
	Route   string `json:"route"`
	Binding string `json:"binding_guid"`
	effective.Caller
}

// listOwnDenials shows the last refusals that differ of one service instance, the
// newest first. What a certificate that nobody trusts says is not among it.
func (a *Own) listOwnDenials(w http.ResponseWriter, r *http.Request) error {
	if _, err := list.ParseParams(r.URL.RawQuery, nil); err != nil {
		return envelope.Refuse(http.StatusBadRequest, "%w", err)
	}
	found, _, err := a.ownBindings(r, store.Page{Number: 1, Size: maxDenialRoutes})
	warnings, err := envelope.Damages(err)
	if err != nil {
		return err
	}
	answer := struct {
		Denials  []denial `json:"denials"`
		Warnings []string `json:"warnings"`
	}{[]denial{}, append([]string{}, warnings...)}
	if len(found) == 0 {
		return envelope.Show(w, answer)
	}
	of, ids := map[string]store.BoundRoute{}, make([]string, len(found))
	for i, b := range found {
		of[b.ID], ids[i] = b, b.ID
	}
	refusals, err := a.Store.Sightings().Fresh(r.Context()).Refusals(r.Context(), maxOwnDenials, ids...)
	if err != nil {
		return err
	}
	for i, caller := range access.CallersOf(refusals) {
		b := of[refusals[i].Binding]
		caller.Name = a.labelsFor(r, b).App(caller.App)
		answer.Denials = append(answer.Denials, denial{b.Route.String(), b.ID, caller})
	}
	return envelope.Show(w, answer)
}

// Package own shows of one service instance who can reach its routes and who was
// refused: to operators, and to users whose tokens permit to read it.
//
// It trusts api/envelope for who may read the instance. To a user it shows nothing
// of other instances, and no name from outside the instance's org.
package own

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/mtls-authz/mtls-authz/api/access"
	"github.com/mtls-authz/mtls-authz/api/envelope"
	"github.com/mtls-authz/mtls-authz/api/list"
	"github.com/mtls-authz/mtls-authz/grants/display"
	"github.com/mtls-authz/mtls-authz/grants/effective"
	"github.com/mtls-authz/mtls-authz/store"
	"github.com/mtls-authz/mtls-authz/store/report"
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
	decide := a.explained(a.Access.Decide)
	e.Ask("/v1/instances/{guid}/decide", decide)
	e.Open("/v1/instances/{guid}/decide", envelope.Methods{http.MethodPost: decide})
	why := envelope.Methods{http.MethodGet: a.explained(a.Access.Decision)}
	e.Handle("/v1/instances/{guid}/decisions/{id}", why)
	e.Open("/v1/instances/{guid}/decisions/{id}", why)
}

// explained answers about the routes of one service instance.
func (a *Own) explained(answer func(http.ResponseWriter, *http.Request, access.Viewer) error) envelope.Action {
	return func(w http.ResponseWriter, r *http.Request) error {
		instance, err := a.instance(r)
		if err != nil {
			return err
		}
		viewer := access.Viewer{Instance: instance.ID}
		if _, ok := envelope.UserOf(r); ok {
			if viewer.Org = instance.Owner.Org; viewer.Org.IsZero() { // damaged: nothing may be told
				return envelope.Missing("service instance", instance.ID)
			}
		}
		return answer(w, r, viewer)
	}
}

const (
	// maxOwnRoutes bounds a page: each route is shown with all that is known of it,
	// but for maxOwnGrants.
	maxOwnRoutes = 20
	maxOwnGrants = 200
	// maxOwnDenials bounds the refusals of an instance, maxDenialRoutes the routes
	// that are looked at.
	maxOwnDenials   = 100
	maxDenialRoutes = 1000
)

// instance is the one in the path. Of one that is damaged there is its guid: what is
// wrong is told with its routes.
func (a *Own) instance(r *http.Request) (store.Instance, error) {
	id, err := list.GUID(r.PathValue("guid"))
	if err != nil {
		return store.Instance{}, envelope.Missing("service instance", r.PathValue("guid"))
	}
	found, err := a.Store.Instance(r.Context(), id)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return found, envelope.Missing("service instance", id)
	case errors.Is(err, store.ErrDamaged):
		return store.Instance{ID: id}, nil
	}
	return found, err
}

// labelsFor are the names that whoever asks may see.
func (a *Own) labelsFor(r *http.Request, i store.Instance) display.Labels {
	if _, ok := envelope.UserOf(r); ok {
		return a.Labels.Within(i.Owner.Org)
	}
	return a.Labels
}

// listOwnRoutes shows who can reach the routes of one service instance. Each is made
// when it is written.
func (a *Own) listOwnRoutes(w http.ResponseWriter, r *http.Request) error {
	query, err := list.Parse(r.URL.RawQuery, nil, false)
	if err != nil {
		return envelope.Refuse(http.StatusBadRequest, "%w", err)
	}
	instance, err := a.instance(r)
	if err != nil {
		return err
	}
	query.Size = min(query.Size, maxOwnRoutes)
	found, total, damage := a.Store.AllBindings(r.Context(), store.BindingFilter{InstanceIDs: []string{instance.ID}}, envelope.PageOf(query))
	if _, other := envelope.Damages(damage); other != nil {
		return other
	}
	if _, ok := envelope.UserOf(r); ok {
		for i := range found {
			found[i] = found[i].ForOwner()
		}
	}
	known, err := a.Access.Report(r.Context(), found, maxOwnGrants)
	if err != nil {
		return err
	}
	labels := a.labelsFor(r, instance)
	one := func(b store.BoundRoute) effective.Access { return known.Of(b, labels) }
	page := envelope.Page[store.BoundRoute]{BaseURL: a.BaseURL, Query: query, Found: found, Total: total, Err: damage}
	if !envelope.WantsText(r) {
		return envelope.AnswerList(w, r, page, one)
	}
	return envelope.AnswerText(w, r, page, "routes", func(w io.Writer) error {
		for _, b := range found {
			if err := one(b).Text(w); err != nil {
				return err
			}
			if _, err := io.WriteString(w, "\n\n"); err != nil {
				return err
			}
		}
		return nil
	})
}

// denial are requests to a route that were refused alike.
type denial struct {
	Route   string `json:"route"`
	Binding string `json:"binding_guid"`
	effective.Caller
}

// denials are the last refusals that differ of one service instance, the newest
// first. What a certificate that nobody trusts says is not among it.
type denials struct {
	Denials  []denial `json:"denials"`
	Warnings []string `json:"warnings"`
}

func (a *Own) listOwnDenials(w http.ResponseWriter, r *http.Request) error {
	if _, err := list.ParseParams(r.URL.RawQuery, nil); err != nil {
		return envelope.Refuse(http.StatusBadRequest, "%w", err)
	}
	instance, err := a.instance(r)
	if err != nil {
		return err
	}
	found, total, err := a.Store.BindingIDs(r.Context(), store.BindingFilter{InstanceIDs: []string{instance.ID}}, store.Page{Number: 1, Size: maxDenialRoutes})
	if err != nil {
		return err
	}
	answer := denials{[]denial{}, []string{}}
	if total > len(found) {
		answer.Warnings = append(answer.Warnings, fmt.Sprintf("of %d routes, only the oldest %d are looked at", total, len(found)))
	}
	routes, ids := map[string]string{}, make([]string, len(found))
	for i, b := range found {
		routes[b.ID], ids[i] = b.Route, b.ID
	}
	refusals, err := a.Store.Sightings().Fresh(r.Context()).Refusals(r.Context(), maxOwnDenials, ids...)
	if err != nil {
		return err
	}
	labels := a.labelsFor(r, instance)
	for _, one := range refusals {
		caller := report.Caller(one)
		caller.Name = labels.App(caller.App)
		answer.Denials = append(answer.Denials, denial{routes[one.Binding], one.Binding, caller})
	}
	if envelope.WantsText(r) {
		return answer.text(w)
	}
	return envelope.Show(w, answer)
}

func (d denials) text(w http.ResponseWriter) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ROUTE\tWHO\tREQUEST\tOUTCOME\tREASON\tTIMES\tLAST\tDECISION")
	for _, one := range d.Denials {
		cells := []string{one.Route, one.Who(), one.Method + " " + one.Path, one.Outcome, one.Reason, strconv.FormatInt(one.Count, 10), one.Last.UTC().Format(time.RFC3339), one.DecisionID}
		for i := range cells {
			cells[i] = display.Printable(cmp.Or(cells[i], "-"))
		}
		fmt.Fprintln(t, strings.Join(cells, "\t"))
	}
	for _, warning := range d.Warnings {
		fmt.Fprintln(t, "- "+warning)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("%w: %w", envelope.ErrHalf, err)
	}
	return nil
}

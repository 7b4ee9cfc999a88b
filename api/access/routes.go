package access

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/mtls-authz/mtls-authz/api/envelope"
	"github.com/mtls-authz/mtls-authz/api/list"
	"github.com/mtls-authz/mtls-authz/gateway/target"
	"github.com/mtls-authz/mtls-authz/grants/effective"
	"github.com/mtls-authz/mtls-authz/grants/route"
	"github.com/mtls-authz/mtls-authz/store"
)

// summary is a bound route in a list.
type summary struct {
	Route    string          `json:"route"`
	Binding  string          `json:"binding_guid"`
	Instance string          `json:"service_instance_guid"`
	Space    string          `json:"space_guid"`
	Org      string          `json:"organization_guid"`
	Owner    string          `json:"owner_name,omitempty"`
	Scope    effective.Scope `json:"scope"`
	Mode     string          `json:"mode"`
	// Grants are the first of GrantsTotal.
	Grants      []effective.Grant `json:"grants"`
	GrantsTotal int               `json:"grants_total"`
	// Seen counts the requests of the last callers, by outcome.
	Seen     map[string]seen      `json:"callers"`
	LastUsed *time.Time           `json:"last_used_at"`
	Warnings []string             `json:"warnings"`
	Links    map[string]list.Link `json:"links"`
}

type seen struct {
	Count int64     `json:"count"`
	Last  time.Time `json:"last_at"`
}

const (
	// maxListed bounds the warnings of one route in a list, maxGrantsListed its
	// grants, maxNamed those of them in a table.
	maxListed       = 10
	maxGrantsListed = 20
	maxNamed        = 3
)

func (a *Access) summary(full effective.Access, counted map[string]seen) summary {
	s := summary{
		Route: full.Route, Binding: full.Binding, Instance: full.Instance, Space: full.Space, Org: full.Org, Owner: full.Owner, Scope: full.Scope, Mode: full.Mode,
		Grants: full.Grants, GrantsTotal: full.GrantsTotal,
		Seen: map[string]seen{}, LastUsed: full.LastUsed, Warnings: full.Warnings[:min(len(full.Warnings), maxListed)],
		Links: map[string]list.Link{
			"self":             {Href: a.BaseURL + "/v1/routes/" + full.Route},
			"binding":          {Href: a.BaseURL + "/v1/bindings/" + full.Binding},
			"service_instance": {Href: a.BaseURL + "/v1/instances/" + full.Instance},
		},
	}
	if counted != nil {
		s.Seen = counted
	}
	return s
}

// listRoutes has one resource for each binding: a route may have several. Each is
// made when it is written.
func (a *Access) listRoutes(w http.ResponseWriter, r *http.Request) error {
	var filter store.BindingFilter
	query, err := list.Parse(r.URL.RawQuery, envelope.BindingParams(&filter), false)
	if err != nil {
		return envelope.Refuse(http.StatusBadRequest, "%w", err)
	}
	found, total, err := a.Store.AllBindings(r.Context(), filter, envelope.PageOf(query))
	ids := make([]string, len(found))
	for i, b := range found {
		ids[i] = b.ID
	}
	counted, countErr := a.count(r, ids)
	if countErr != nil {
		return countErr
	}
	known := a.reports.Bare(maxGrantsListed)
	page := envelope.Page[store.BoundRoute]{BaseURL: a.BaseURL, Query: query, Found: found, Total: total, Err: err}
	one := func(b store.BoundRoute) summary { return a.summary(known.Of(b, a.Labels), counted[b.ID]) }
	if envelope.WantsText(r) {
		return envelope.AnswerText(w, r, page, "routes", func(w io.Writer) error { return table(w, found, one) })
	}
	return envelope.AnswerList(w, r, page, one)
}

func (a *Access) count(r *http.Request, ids []string) (map[string]map[string]seen, error) {
	totals, err := a.Store.Sightings().Fresh(r.Context()).Totals(r.Context(), ids...)
	counted := map[string]map[string]seen{}
	for _, one := range totals {
		if counted[one.Binding] == nil {
			counted[one.Binding] = map[string]seen{}
		}
		counted[one.Binding][one.Outcome] = seen{one.Times, one.Last}
	}
	return counted, err
}

// who are the first grants in force, in a few words.
func (s summary) who() string {
	var words []string
	for _, g := range s.Grants {
		if !g.Expired && g.Never == nil {
			words = append(words, g.Who())
		}
	}
	if len(words) == 0 {
		return "nobody"
	}
	more := s.GrantsTotal - min(len(words), maxNamed)
	text := envelope.Clip(strings.Join(words[:min(len(words), maxNamed)], ", "))
	if more > 0 {
		text += fmt.Sprintf(", and %d more", more)
	}
	return text
}

// table writes summaries.
func table(w io.Writer, found []store.BoundRoute, one func(store.BoundRoute) summary) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ROUTE\tSPACE\tSCOPE\tMODE\tWHO\tLAST USED\tWARNINGS")
	for _, b := range found {
		s, used := one(b), "-"
		if s.LastUsed != nil {
			used = s.LastUsed.UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%d\n", s.Route, envelope.Clip(cmp.Or(s.Owner, s.Space)), s.Scope.Scope, s.Mode, s.who(), used, len(s.Warnings))
	}
	return t.Flush()
}

// shown is a route with each of its bindings, the newest first.
type shown struct {
	Route    string             `json:"route"`
	Bindings []effective.Access `json:"bindings"`
	Warnings []string           `json:"warnings"`
}

// maxBindings bounds what is shown of one route: its newest.
const maxBindings = 20

func (a *Access) showRoute(w http.ResponseWriter, r *http.Request) error {
	if _, err := list.ParseParams(r.URL.RawQuery, nil); err != nil {
		return envelope.Refuse(http.StatusBadRequest, "%w", err)
	}
	named := strings.TrimSuffix(r.PathValue("route"), "/")
	wanted, err := route.Parse(named)
	if err != nil {
		return envelope.Refuse(http.StatusNotFound, "there is no route %q: %w", envelope.Clip(named), err)
	}
	filter := store.BindingFilter{Routes: []string{wanted.String()}}
	found, total, err := a.Store.AllBindings(r.Context(), filter, store.Page{Number: 1, Size: maxBindings, Descending: true})
	warnings, err := envelope.Damages(err)
	if err != nil {
		return err
	}
	if total == 0 {
		return envelope.Missing("bound route", wanted.String())
	}
	answer := shown{Route: wanted.String(), Bindings: []effective.Access{}, Warnings: append([]string{}, warnings...)}
	known, err := a.Report(r.Context(), found, 0)
	if err != nil {
		return err
	}
	for _, b := range found {
		answer.Bindings = append(answer.Bindings, known.Of(b, a.Labels))
	}
	if total > 1 {
		answer.Warnings = append(answer.Warnings, fmt.Sprintf("%d bindings have the route; the platform uses one of them, mostly the newest", total))
	}
	if !envelope.WantsText(r) {
		return envelope.Show(w, answer)
	}
	var text bytes.Buffer
	for i, one := range answer.Bindings {
		if i > 0 {
			text.WriteString("\n\n")
		}
		if err := one.Text(&text); err != nil {
			return err
		}
	}
	for _, warning := range answer.Warnings {
		text.WriteString("- " + envelope.Clip(warning) + "\n")
	}
	return write(w, &text)
}

func write(w http.ResponseWriter, text io.WriterTo) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = text.WriteTo(w) // the client may be gone
	return nil
}

// errNoRoute: no binding is for such a URL.
var errNoRoute = errors.New("no route that is bound here is for this URL")

// candidates are the routes to which the router may send a request, in its order:
// the host before wildcards above it, of each the longest path.
func candidates(host, path string) []route.Route {
	hosts := []string{host}
	for rest := host; ; {
		_, above, ok := strings.Cut(rest, ".")
		if !ok {
			break
		}
		hosts, rest = append(hosts, "*."+above), above
	}
	segments := route.Segments(strings.ToLower(path))
	var list []route.Route
	for _, one := range hosts {
		for n := min(len(segments), maxDepth); n >= 0; n-- {
			context := ""
			if n > 0 {
				context = "/" + strings.Join(segments[:n], "/")
			}
			list = append(list, route.Route{Host: one, Path: context})
		}
	}
	return list
}

// maxDepth bounds the segments of the context paths that are looked for: Cloud
// Controller's paths have 128 characters.
const maxDepth = 64

// bindingFor is the newest binding of the route that a URL leads to, of those that
// the viewer may ask about.
func (a *Access) bindingFor(r *http.Request, to target.Target, v Viewer) (store.BoundRoute, error) {
	wanted := candidates(to.Host, to.RawPath)
	for part := range slices.Chunk(wanted, 500) {
		var filter store.BindingFilter
		if v.Instance != "" {
			filter.InstanceIDs = []string{v.Instance}
		}
		for _, one := range part {
			filter.Routes = append(filter.Routes, one.String())
		}
		found, _, err := a.Store.BindingIDs(r.Context(), filter, store.Page{Number: 1, Size: 5000, Descending: true})
		if err != nil {
			return store.BoundRoute{}, err
		}
		for _, one := range part {
			for _, b := range found {
				if b.Route != one.String() {
					continue
				}
				full, err := a.binding(r, b.ID)
				if _, other := envelope.Damages(err); other != nil && !errors.Is(err, store.ErrNotFound) {
					return store.BoundRoute{}, other
				}
				if err == nil {
					return full, nil
				}
			}
		}
	}
	return store.BoundRoute{}, errNoRoute
}

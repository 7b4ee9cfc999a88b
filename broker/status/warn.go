package status

import (
	"fmt"
	"strings"

	"github.com/mtls-authz/mtls-authz/grants/effective"
	"github.com/mtls-authz/mtls-authz/grants/parameters"
	"github.com/mtls-authz/mtls-authz/grants/route"
	"github.com/mtls-authz/mtls-authz/store"
)

// maxNamed bounds the routes that a sentence names.
const maxNamed = 3

// warner says each sentence once, with the routes that it is about.
type warner struct {
	texts  []string
	routes map[string][]string
	looked int
}

// warn says something of a route; "": of the instance.
func (w *warner) warn(route, text string) {
	if w.routes == nil {
		w.routes = map[string][]string{}
	}
	about, known := w.routes[text]
	if !known {
		w.texts = append(w.texts, text)
	}
	if route != "" {
		about = append(about, route)
	}
	w.routes[text] = about
}

// about takes over what is wrong with a route.
func (w *warner) about(full effective.Access) {
	w.looked++
	for _, g := range full.Grants {
		if g.Expired && g.Expires != nil && g.Never == nil {
			w.warn(full.Route, fmt.Sprintf("%s (%s) expired at %s", g.Who(), g.Origin, g.Expires.Format("2006-01-02T15:04:05Z07:00")))
		}
	}
	for _, text := range full.Warnings {
		w.warn(full.Route, text)
	}
}

func (w *warner) aboutParameters(p parameters.Parameters, bound []store.BoundRoute) {
	if len(bound) == 0 {
		w.warn("", "no route is bound: use cf bind-route-service")
	}
	routes := map[route.Route]bool{}
	for _, one := range bound {
		routes[one.Route] = true
	}
	for _, one := range p.ReportRoutes {
		if !routes[one] {
			w.warn("", fmt.Sprintf("report_routes names the route %s, which is not bound", one))
		}
	}
	if len(bound) > 0 {
		return
	}
	for _, grant := range p.Allow { // with a route bound, its report tells
		if grant.Terms == nil {
			continue
		}
		for _, one := range grant.Terms.Routes {
			w.warn("", fmt.Sprintf("%s (instance) names the route %s, which is not bound", grant.Source, one))
		}
	}
}

// sentences name the routes where they are not about all of them.
func (w *warner) sentences() (list []string) {
	for i, text := range w.texts {
		if i == maxWarnings {
			return append(list, fmt.Sprintf("and %d more", len(w.texts)-maxWarnings))
		}
		about := w.routes[text]
		more := len(about) - maxNamed
		switch {
		case len(about) == 0, len(about) == w.looked:
		case more > 0:
			text += fmt.Sprintf(" (%s and %d more)", strings.Join(about[:maxNamed], ", "), more)
		default:
			text += " (" + strings.Join(about, ", ") + ")"
		}
		list = append(list, text)
	}
	return list
}

package grant

import (
	"slices"
	"strings"

	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/cf"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/route"
)

// narrowed is the grant limited to these routes; none: to no route in particular.
func narrowed(g grants.Grant, routes ...route.Route) grants.Grant {
	terms := grants.Terms{}
	if g.Terms != nil {
		terms = *g.Terms
	}
	terms.Routes = routes
	if len(routes) == 0 {
		terms.Routes = nil
	}
	g.Terms = &terms
	if !g.IsConditional() && terms.Reason == "" {
		g.Terms = nil
	}
	return g
}

// split is the grant limited to these routes, in as many grants as they take.
func split(g grants.Grant, routes []route.Route) (list []grants.Grant) {
	const most = 100 // routes of one grant
	for some := range slices.Chunk(routes, most) {
		list = append(list, narrowed(g, some...))
	}
	return list
}

// without is the routes less one, each once.
func without(routes []route.Route, gone route.Route) (rest []route.Route) {
	for _, one := range routes {
		if one != gone && !slices.Contains(rest, one) {
			rest = append(rest, one)
		}
	}
	return rest
}

// plain is the entry without its note, which is nothing that it is found by.
func plain(g grants.Grant) grants.Grant {
	if g.Terms == nil {
		return g
	}
	terms := *g.Terms
	terms.Reason = ""
	g.Terms = &terms
	return narrowed(g, terms.Routes...)
}

// conditions says for people what narrows a grant, and the note on it.
func conditions(g grants.Grant) string {
	if g.Terms == nil {
		return ""
	}
	parts := append([]string{}, g.Terms.Methods...)
	for _, path := range g.Terms.Paths {
		parts = append(parts, string(path))
	}
	for _, one := range g.Terms.Routes {
		parts = append(parts, "on "+one.String())
	}
	if !g.Terms.Expires.IsZero() {
		parts = append(parts, "until "+g.Terms.Expires.Format("2006-01-02T15:04:05Z07:00"))
	}
	if g.Terms.Reason != "" {
		parts = append(parts, "("+g.Terms.Reason+")")
	}
	return strings.Join(parts, " ")
}

// describe is a grant for people.
func describe(g grants.Grant) string {
	return strings.TrimSpace(cf.Written(g.Source) + " " + conditions(g))
}

// note is the reason of a grant.
func note(g grants.Grant) string {
	if g.Terms == nil {
		return ""
	}
	return g.Terms.Reason
}

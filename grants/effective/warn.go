package effective

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/route"
	"github.com/mtls-authz/mtls-authz/identity"
)

const (
	// soon is how long before its end a grant is told of.
	soon = 7 * 24 * time.Hour
	// unused is how long nobody may call before that is told.
	unused = 30 * 24 * time.Hour
	// maxWarnings bounds the sentences about one route.
	maxWarnings = 100
)

// warner looks for what is wrong.
type warner struct {
	route    Route
	facts    Facts
	scope    grants.Scope
	warnings []string
	unshown  int
}

func (w *warner) warn(format string, args ...any) {
	if len(w.warnings) < maxWarnings {
		w.warnings = append(w.warnings, fmt.Sprintf(format, args...))
		return
	}
	w.unshown++
	w.warnings = append(w.warnings[:maxWarnings-1], fmt.Sprintf("and %d more", w.unshown+1))
}

// grant describes a rule, and warns of what is wrong with it.
func (w *warner) grant(rule grants.Rule, expired bool) Grant {
	g := Grant{
		Source: rule.Source.String(), Name: w.facts.Labels.Source(rule.Source), Grant: rule.Written(), Origin: rule.Origin.String(),
		Expired: expired, LastAllowed: w.lastAllowed(rule.Source),
	}
	if rule.Terms != nil && !rule.Terms.Expires.IsZero() {
		g.Expires = &rule.Terms.Expires
	}
	if expired {
		return g
	}
	if gone := w.facts.Labels.Gone(rule); gone != "" {
		w.warn("%s", gone)
	}
	if never := w.never(rule); never != "" {
		g.Never = &never
		if rule.Origin == grants.FromOperator {
			return g // it is for many routes, and no fault of this one's owner
		}
		w.warn("%s (%s) can never match: %s", g.Source, g.Origin, never)
	} else if g.Expires != nil && g.Expires.Sub(w.facts.Now) <= soon {
		w.warn("%s (%s) expires soon: %s", g.Source, g.Origin, g.Expires.Format(time.RFC3339))
	}
	return g
}

// lastAllowed is when somebody was last allowed whom the source names.
func (w *warner) lastAllowed(source grants.Source) *time.Time {
	for _, c := range w.facts.Callers {
		id := map[grants.Kind]string{grants.App: c.App, grants.Space: c.Space, grants.Org: c.Org}[source.Kind]
		if c.Outcome == "allowed" && id == source.ID.String() {
			return &c.Last
		}
	}
	return nil
}

// Never is why a rule of a route can match no request; "": it can, as far as is
// known.
func Never(rule grants.Rule, live *grants.Live, homes map[string]Home) string {
	w := warner{scope: live.Scope, route: Route{Bound: live.Route, Owner: live.Owner}, facts: Facts{Homes: homes}}
	return w.never(rule)
}

func (w *warner) never(rule grants.Rule) string {
	if reason := w.outside(rule.Source); reason != "" {
		return reason
	}
	if rule.Terms != nil && len(rule.Terms.Paths) > 0 && w.route.Bound.Path != "" &&
		!slices.ContainsFunc(rule.Terms.Paths, func(p route.Pattern) bool { return reaches(p, w.route.Bound.Path) }) {
		return fmt.Sprintf("none of its paths begins with the route's, %s; paths are the whole path as the app sees it", w.route.Bound.Path)
	}
	return ""
}

// outside is why a source lies outside the scope.
func (w *warner) outside(source grants.Source) string {
	owner := w.route.Owner
	home, known := w.facts.Homes[source.ID.String()]
	caller := identity.Caller{App: source.ID}
	switch {
	case w.scope == 0:
		return "the scope of the route admits nobody"
	case w.scope == grants.ScopeAny || source.Kind == grants.Any:
		return ""
	case source.Kind == grants.Org:
		return unless(source.ID == owner.Org, "the scope is %s, and the route is of organization %s", w.scope, owner.Org)
	case source.Kind == grants.Space && w.scope == grants.ScopeSpace:
		return unless(source.ID == owner.Space, "the scope is %s, and the route is of space %s", w.scope, owner.Space)
	case !known || caller.Space.UnmarshalText([]byte(home.Space)) != nil || caller.Org.UnmarshalText([]byte(home.Org)) != nil:
		return "" // nobody knows where it is
	}
	// Where, it may have been seen calling routes of others: that is not told.
	return unless(w.scope.Admits(caller, owner), "the scope is %s, and the %s was last seen elsewhere", w.scope, source.Kind)
}

func unless(fine bool, format string, args ...any) string {
	if fine {
		return ""
	}
	return fmt.Sprintf(format, args...)
}

// reaches reports whether a pattern can match a path on the route's context path,
// which the router compares without regard to case.
func reaches(pattern route.Pattern, context string) bool {
	parts := route.Segments(string(pattern))
	for i, segment := range route.Segments(context) {
		switch {
		case i < len(parts) && parts[i] == "**":
			return true
		case i >= len(parts), parts[i] != "*" && !strings.EqualFold(parts[i], segment):
			return false
		}
	}
	return true
}

// aboutRoute warns of what is wrong with the route as a whole.
func (w *warner) aboutRoute(inForce int, mode string) {
	r := w.route
	switch {
	case r.Access == nil:
		w.warn("this gateway has nothing in force for the binding and refuses every request to it: it was made or deleted a moment ago, or it or its instance is damaged in the database")
	case inForce == 0:
		w.warn("nobody may call the route; add somebody with allow_add")
	}
	if mode == grants.Report.String() {
		w.warn("the route is in report mode: nothing is refused")
	}
	if len(r.Others) > 0 {
		w.warn("other bindings have the same route: %s", strings.Join(r.Others, ", "))
	}
	if r.NotBound != "" {
		w.warn("requests to the route do not come to the gateway: %s", r.NotBound)
	}
	since, what := r.LastUsed, "no request has gone on to the route since %s"
	if since.IsZero() {
		since, what = r.CreatedAt, "no request has ever gone on to the route, which was bound at %s"
	}
	if !since.IsZero() && w.facts.Now.Sub(since) >= unused {
		w.warn(what, since.Format(time.RFC3339))
	}
}

// aboutConditions warns of the instance's and the binding's grants that name routes
// which are not bound.
func (w *warner) aboutConditions() {
	if w.route.Siblings == nil {
		return
	}
	check := func(origin string, list []grants.Grant, bound []route.Route) {
		for _, grant := range list {
			if grant.Terms == nil || grant.Expired(w.facts.Now) {
				continue
			}
			for _, named := range grant.Terms.Routes {
				if !slices.Contains(bound, named) {
					w.warn("%s (%s) names the route %s, which is not bound", grant.Source, origin, named)
				}
			}
		}
	}
	check("instance", w.route.InstanceGrants, w.route.Siblings)
	check("binding", w.route.BindingGrants, []route.Route{w.route.Bound})
}

package effective

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/display"
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

// warn says everything once.
func (w *warner) warn(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if slices.Contains(w.warnings, text) {
		return
	}
	if len(w.warnings) < maxWarnings {
		w.warnings = append(w.warnings, text)
		return
	}
	w.unshown++
	w.warnings = append(w.warnings[:maxWarnings-1], fmt.Sprintf("and %d more", w.unshown+1))
}

// grant describes a rule, and warns of what is wrong with it.
func (w *warner) grant(rule grants.Rule, expired bool) Grant {
	if w.route.ForOwner {
		rule = display.ForOwner(rule, w.route.Bound)
	}
	g := Grant{Entry: EntryOf(rule, w.facts.Labels, expired), LastAllowed: w.lastAllowed(rule.Source)}
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
		w.warn("%s can never match: %s", g.who(), never)
	} else if ends := g.Grant.Terms; ends != nil && !ends.Expires.IsZero() && ends.Expires.Sub(w.facts.Now) <= soon {
		w.warn("%s expires soon: %s", g.who(), ends.Expires.Format(time.RFC3339)) // a name's former holder does not matter
	}
	return g
}

// nobody describes a grant by a name that stands for nobody, of which aboutNames
// warns.
func (w *warner) nobody(n grants.Naming) Grant {
	never := n.Warning(w.facts.Now)
	return Grant{Entry: EntryOf(grants.Rule{Grant: n.Written, Origin: n.Origin}, nil, n.Written.Expired(w.facts.Now)), Never: &never}
}

// aboutNames warns of names that stand for nobody, or for others than before.
func (w *warner) aboutNames() {
	for _, naming := range w.route.Access.Namings() {
		if text := naming.Warning(w.facts.Now); text != "" && !naming.Written.Expired(w.facts.Now) {
			w.warn("%s", text)
		}
	}
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

// never is why a rule can match no request; "": it can, as far as is known.
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
	for _, text := range SameRoute(r.Others, r.Foreign) {
		w.warn("%s", text)
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

// SameRoute says which other bindings a route has.
func SameRoute(others []string, foreign bool) (texts []string) {
	if len(others) > 0 {
		texts = append(texts, "other bindings have the same route: "+strings.Join(others, ", "))
	}
	if foreign {
		texts = append(texts, "another service instance has a binding of this route too")
	}
	return texts
}

// aboutConditions warns of the instance's and the binding's grants that name routes
// which are not bound.
func (w *warner) aboutConditions(lists ...[]grants.Rule) {
	for _, rules := range lists {
		for _, rule := range rules {
			terms := rule.Terms
			if terms == nil || terms.Routes == nil || rule.Origin == grants.FromOperator || rule.Expired(w.facts.Now) {
				continue
			}
			for _, named := range terms.Routes {
				if bound, known := w.isBound(rule.Origin, named); known && !bound {
					w.warn("%s (%s) names the route %s, which is not bound", rule.Written().Source, rule.Origin, named)
				}
			}
		}
	}
}

// isBound reports whether a grant can be for a route at all: a binding's only for
// its own.
func (w *warner) isBound(origin grants.Origin, named route.Route) (bound, known bool) {
	if origin == grants.FromBinding {
		return named == w.route.Bound, true
	}
	return w.route.Siblings[named], w.route.Siblings != nil
}

package grants

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/mtls-authz/mtls-authz/grants/route"

	"github.com/mtls-authz/mtls-authz/identity"
)

// An Origin tells where a grant of a route comes from.
type Origin uint8

// The origins of grants.
const (
	FromInstance Origin = iota + 1
	FromBinding
	FromOperator
)

// String returns "instance", "binding" or "operator".
func (o Origin) String() string {
	switch o {
	case FromInstance:
		return "instance"
	case FromBinding:
		return "binding"
	case FromOperator:
		return "operator"
	}
	return ""
}

// A Rule is a grant that applies to a route, with its origin.
type Rule struct {
	Grant
	Origin Origin
}

// Policy names the rule as the decision line does: route:<source> for what the
// route's owner gave, operator:<source> for what the operator gave.
func (r Rule) Policy() string {
	if r.Origin == FromOperator {
		return "operator:" + r.Source.String()
	}
	return "route:" + r.Source.String()
}

// Site are the operator's grants, which apply to every route that their
// routes cover. They come with the policy bundle. The nil Site has none.
type Site struct {
	Grants []Grant
}

func (s *Site) rules() []Rule {
	if s == nil {
		return nil
	}
	return sortedRules(s.Grants, FromOperator)
}

// Access is what applies to one bound route: its owner, its scope, its mode
// and the grants of its instance and binding. It is built once for each
// revision of the binding and never changed; the zero Access admits nobody.
type Access struct {
	// Binding is the binding's guid.
	Binding string
	Route   route.Route
	Owner   Owner
	// Scope is the narrowest of plan, instance and binding.
	Scope Scope
	// Mode is the route's own: report_routes and the operator's REPORT_MODE
	// are already in it.
	Mode Mode
	// Assert asks for the signed caller assertion.
	Assert bool
	// Labels of binding and instance; the binding's win.
	Labels map[string]string
	// Revision is the store's revision of the newer of instance and binding.
	Revision int64

	common *Common
	own    []Rule // of the binding
	live   atomic.Pointer[Live]
}

// NewAccess completes an access with the grants of its instance and its binding
// that apply to its route. The access is the caller's no more.
func NewAccess(a *Access, ofInstance, ofBinding []Grant) *Access {
	return NewCommon(ofInstance).Access(a, ofBinding)
}

// limited reports whether the rule is for some routes only.
func (r Rule) limited() bool { return r.Terms != nil && r.Terms.Routes != nil }

// applies reports whether the rule's routes leave the bound route in. Only the
// operator's routes are patterns.
func (r Rule) applies(bound route.Route) bool {
	return !r.limited() || slices.ContainsFunc(r.Terms.Routes, func(one route.Route) bool {
		return one == bound || r.Origin == FromOperator && one.Covers(bound)
	})
}

func sortedRules(list []Grant, origin Origin) []Rule {
	if len(list) == 0 {
		return nil
	}
	rules := make([]Rule, len(list))
	for i, grant := range list {
		rules[i] = Rule{grant, origin}
	}
	sortRules(rules)
	return rules
}

// sortRules orders by source, so that a caller's rules are found by binary
// search, and keeps the order within one source.
func sortRules(rules []Rule) {
	slices.SortStableFunc(rules, func(a, b Rule) int { return compareSources(a.Source, b.Source) })
}

func compareSources(a, b Source) int {
	if c := cmp.Compare(a.Kind, b.Kind); c != 0 {
		return c
	}
	return slices.Compare(a.ID[:], b.ID[:])
}

// Live are the grants of a route that have not expired, the operator's
// included, at one moment. It is immutable and shared between requests; its
// address identifies its content.
type Live struct {
	*Access
	// Rules are sorted by source.
	Rules []Rule
	// Until is when the next of them expires; zero: never.
	Until time.Time
	// HasMethods and HasPaths report whether a rule has that condition: then
	// method or path decide, and must be unambiguous.
	HasMethods, HasPaths bool

	site *Site
}

// Live returns the route's unexpired grants at now together with the
// operator's.
func (a *Access) Live(now time.Time, site *Site) *Live {
	if live := a.live.Load(); live.holds(now, site) {
		return live
	}
	live := a.makeLive(now, site)
	live.Access = a
	a.live.Store(live)
	return live
}

// holds reports whether these are still the grants.
func (l *Live) holds(now time.Time, site *Site) bool {
	return l != nil && l.site == site && (l.Until.IsZero() || now.Before(l.Until))
}

// makeLive takes what the route has in common with others, if it has nothing
// else.
func (a *Access) makeLive(now time.Time, site *Site) *Live {
	common, operators := a.common, site.rules()
	if common == nil {
		common = &Common{}
	}
	here := func(r Rule) bool { return r.limited() && r.applies(a.Route) }
	if len(a.own) == 0 && !slices.ContainsFunc(common.limited, here) && !slices.ContainsFunc(operators, here) {
		live := *common.at(now, site, operators)
		return &live
	}
	return newLive(now, site, func(r Rule) bool { return r.applies(a.Route) }, common.rules, a.own, operators)
}

// newLive makes the grants of some lists, each sorted, that apply and have not
// expired. It shares a list's memory where nothing is left out and nothing comes
// to it.
func newLive(now time.Time, site *Site, applies func(Rule) bool, lists ...[]Rule) *Live {
	live := &Live{site: site}
	gone := func(r Rule) bool { return !applies(r) || r.Expired(now) }
	var parts [][]Rule
	for _, list := range lists {
		if slices.ContainsFunc(list, gone) {
			list = slices.DeleteFunc(slices.Clone(list), gone)
		}
		if len(list) > 0 {
			parts = append(parts, slices.Clip(list))
		}
	}
	if len(parts) == 1 {
		live.Rules = parts[0]
	} else {
		live.Rules = slices.Concat(parts...)
		sortRules(live.Rules)
	}
	for _, rule := range live.Rules {
		live.note(rule.Terms)
	}
	return live
}

func (l *Live) note(terms *Terms) {
	if terms == nil {
		return
	}
	l.HasMethods = l.HasMethods || terms.Methods != nil
	l.HasPaths = l.HasPaths || terms.Paths != nil
	if !terms.Expires.IsZero() && (l.Until.IsZero() || terms.Expires.Before(l.Until)) {
		l.Until = terms.Expires
	}
}

// Match returns the rule that allows the caller this method and path, given by
// its non-empty segments. It prefers the owner's rules to the operator's and
// the narrowest source. It is the last word after the policy: what no rule
// matches is not allowed.
func (l *Live) Match(caller identity.Caller, method string, segments []string) (Rule, bool) {
	if caller.IsZero() {
		return Rule{}, false
	}
	var operators Rule
	for kind := App; kind <= Any; kind++ {
		for _, rule := range l.of(kind.of(caller)) {
			if !rule.Terms.matches(method, segments) {
				continue
			}
			if rule.Origin != FromOperator {
				return rule, true
			}
			if operators.Origin == 0 {
				operators = rule
			}
		}
	}
	return operators, operators.Origin != 0
}

// of returns the rules for exactly this source.
func (l *Live) of(source Source) []Rule {
	from, found := slices.BinarySearchFunc(l.Rules, source, func(r Rule, s Source) int { return compareSources(r.Source, s) })
	if !found {
		return nil
	}
	to := from
	for to < len(l.Rules) && l.Rules[to].Source == source {
		to++
	}
	return l.Rules[from:to]
}

package grants

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/mtls-authz/mtls-authz/grants/names"
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

// A Rule is a grant that applies to a route, with its origin. Its source is
// never Named in [Live]: it is one that the name stands for.
type Rule struct {
	Grant
	Origin Origin

	written *Grant // nil: as Grant
}

// Written is the grant as its owner wrote it, with a name as its source where it
// was given by name.
func (r Rule) Written() Grant {
	if r.written != nil {
		return *r.written
	}
	return r.Grant
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
	return slices.DeleteFunc(sortedRules(s.Grants, FromOperator), func(r Rule) bool {
		return r.Source.Kind == Named // within no org, it stands for nobody
	})
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
	// Names tells what sources by name stand for; nil: for nobody.
	Names *names.Book

	common *Common
	own    []Rule // of the binding
	named  bool   // own has sources by name
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
		rules[i] = Rule{Grant: grant, Origin: origin}
	}
	sortRules(rules)
	return rules
}

// sortRules orders by source, so that a caller's rules are found by binary
// search, and keeps the order within one source.
func sortRules(rules []Rule) {
	slices.SortStableFunc(rules, func(a, b Rule) int { return a.Source.Compare(b.Source) })
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
	// Resolution digests what the names of the route's sources stand for: two
	// equal ones of one revision have the same grants. "": there are no names.
	Resolution string

	site *Site
	// page is the number of the newest page in which the names stand for these. Not
	// the page itself: a route that nobody calls would keep an old one in memory.
	page atomic.Uint64
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
		for _, rule := range l.of(kind.Of(caller)) {
			if !rule.Terms.Matches(method, segments) {
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
	from, found := slices.BinarySearchFunc(l.Rules, source, func(r Rule, s Source) int { return r.Source.Compare(s) })
	if !found {
		return nil
	}
	to := from
	for to < len(l.Rules) && l.Rules[to].Source == source {
		to++
	}
	return l.Rules[from:to]
}

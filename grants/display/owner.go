package display

import (
	"slices"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/route"
)

// ForOwner is a rule as the owner of a route may see it. One of the operator's can be
// for routes of other tenants, too: of that remains what concerns this route, without
// the note.
func ForOwner(rule grants.Rule, bound route.Route) grants.Rule {
	if rule.Origin != grants.FromOperator || rule.Terms == nil {
		return rule
	}
	others := func(one route.Route) bool { return one != bound && !one.Covers(bound) }
	if !slices.ContainsFunc(rule.Terms.Routes, others) {
		return rule
	}
	here := *rule.Terms
	here.Routes, here.Reason = slices.DeleteFunc(slices.Clone(here.Routes), others), ""
	rule.Terms = &here
	return rule
}

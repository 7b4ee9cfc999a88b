package parameters

import (
	"maps"
	"slices"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/names"
	"github.com/mtls-authz/mtls-authz/grants/route"
)

// Bound is all that [NewAccess] merges.
type Bound struct {
	Binding  string
	Route    route.Route
	Owner    grants.Owner
	Plan     grants.Scope
	Revision int64
	// Instance and OfBinding are the parameters of the two.
	Instance, OfBinding Parameters
	// Common are the instance's grants, for its routes to share; nil: this route
	// shares them with no other.
	Common *grants.Common
	// Names tells what sources by name stand for; nil: for nobody.
	Names *names.Book
	// ReportAllowed is the operator's word on report mode.
	ReportAllowed bool
}

// NewAccess merges the parameters of an instance and a binding, under the
// plan's scope, into what applies to the bound route.
func NewAccess(b Bound) *grants.Access {
	a := &grants.Access{
		Binding: b.Binding, Route: b.Route, Owner: b.Owner, Revision: b.Revision, Names: b.Names,
		Scope:  grants.Narrowest(b.Plan, b.Instance.Scope, b.OfBinding.Scope),
		Assert: b.Instance.Assert,
		Labels: mergeLabels(b.Instance.Labels, b.OfBinding.Labels),
	}
	if b.Plan == 0 {
		a.Scope = 0 // an unknown plan is no boundary: nobody
	}
	if b.ReportAllowed && (b.Instance.Mode == grants.Report || slices.Contains(b.Instance.ReportRoutes, b.Route)) {
		a.Mode = grants.Report
	}
	if b.Common == nil {
		b.Common = grants.NewCommon(b.Instance.Allow)
	}
	return b.Common.Access(a, b.OfBinding.Allow)
}

// mergeLabels lets the binding's win.
func mergeLabels(instance, binding map[string]string) map[string]string {
	if len(binding) == 0 {
		return instance
	}
	merged := make(map[string]string, len(instance)+len(binding))
	maps.Copy(merged, instance)
	maps.Copy(merged, binding)
	return merged
}

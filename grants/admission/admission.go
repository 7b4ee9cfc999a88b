// Package admission refuses parameters that the plan or the operator of the platform
// does not allow, whoever sets them by whatever way.
//
// It trusts the plan and the operator's settings, and nothing in the parameters.
package admission

import (
	"fmt"
	"slices"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/names"
	"github.com/mtls-authz/mtls-authz/grants/parameters"
	"github.com/mtls-authz/mtls-authz/grants/route"
)

// Operator is what the operator of the platform allows. The zero Operator allows
// the least.
type Operator struct {
	// Report permits report mode.
	Report bool
	// Names permits sources by name: somebody looks them up. That of the own org is
	// always permitted.
	Names bool
}

// Check refuses what the plan or the operator does not allow, with an error that is
// [parameters.ErrParameters]. Report mode and names that former has already may
// stay, without effect: else nobody could take a grant back after the operator has
// switched them off.
func (o Operator) Check(p, former parameters.Parameters, plan grants.Scope) error {
	if p.Scope > plan {
		return refuse("scope %q is wider than the plan's, which is %q", p.Scope, plan)
	}
	if !o.Report && reportsMore(p, former) {
		return refuse("report mode is switched off by the operator of this platform")
	}
	if o.Names {
		return nil
	}
	for i, grant := range p.Allow {
		name := grant.Source.Name()
		there := slices.ContainsFunc(former.Allow, func(g grants.Grant) bool { return g.Source == grant.Source })
		if grant.Source.Kind == grants.Named && name.Kind != names.OwnOrg && !there {
			return refuse("allow[%d]: source %q: this gateway cannot look up names, because its operator has set no CF_CLIENT_ID; give the guid, such as cf:app:<guid> with what cf app <name> --guid prints", i, name)
		}
	}
	return nil
}

func reportsMore(p, former parameters.Parameters) bool {
	if p.Mode == grants.Report && former.Mode != grants.Report {
		return true
	}
	return slices.ContainsFunc(p.ReportRoutes, func(r route.Route) bool { return !slices.Contains(former.ReportRoutes, r) })
}

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %w", parameters.ErrParameters, fmt.Errorf(format, args...))
}

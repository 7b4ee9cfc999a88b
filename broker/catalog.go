package broker

import (
	"code.cloudfoundry.org/brokerapi/v13/domain"

	"github.com/mtls-authz/mtls-authz/grants/parameters"

	"github.com/mtls-authz/mtls-authz/grants"
)

// ServiceID is the offering's id in every catalog.
const ServiceID = "0bd1c8a0-7f0c-4c5e-9d0e-6d746c736175"

// plans are the scopes as service plans. Their ids never change.
var plans = []struct {
	id          string
	scope       grants.Scope
	description string
}{
	{"5ea1d0c2-3b64-4b0e-8f52-000000000001", grants.ScopeSpace, "Callers must be apps of the route's own space"},
	{"5ea1d0c2-3b64-4b0e-8f52-000000000002", grants.ScopeOrg, "Callers must be apps of the route's own org"},
	{"5ea1d0c2-3b64-4b0e-8f52-000000000003", grants.ScopeAny, "Callers may be apps of any org of this foundation"},
}

// PlanID returns the id of the plan that sets the scope; "" for the zero Scope.
func PlanID(scope grants.Scope) string {
	for _, plan := range plans {
		if plan.scope == scope {
			return plan.id
		}
	}
	return ""
}

// planScope returns the scope of a plan; zero for an unknown plan.
func planScope(planID string) grants.Scope {
	for _, plan := range plans {
		if plan.id == planID {
			return plan.scope
		}
	}
	return 0
}

func catalog() []domain.Service {
	free, updatable := true, true
	schemas := &domain.ServiceSchemas{
		Instance: domain.ServiceInstanceSchema{
			Create: domain.Schema{Parameters: parameters.Schema(parameters.CreateInstance)},
			Update: domain.Schema{Parameters: parameters.Schema(parameters.UpdateInstance)},
		},
		Binding: domain.ServiceBindingSchema{Create: domain.Schema{Parameters: parameters.Schema(parameters.CreateBinding)}},
	}
	list := make([]domain.ServicePlan, 0, len(plans))
	for _, plan := range plans {
		list = append(list, domain.ServicePlan{
			ID: plan.id, Name: plan.scope.String(), Description: plan.description,
			Free: &free, PlanUpdatable: &updatable, Schemas: schemas,
		})
	}
	return []domain.Service{{
		ID: ServiceID, Name: "mtls-authz",
		Description:          "Decides which apps may call a route, by the identity in their instance certificate",
		Bindable:             true,
		InstancesRetrievable: true,
		BindingsRetrievable:  true,
		PlanUpdatable:        true,
		Requires:             []domain.RequiredPermission{domain.PermissionRouteForwarding},
		Tags:                 []string{"route-service", "authorization", "mtls"},
		Plans:                list,
		Metadata: &domain.ServiceMetadata{
			DisplayName:     "mTLS authorization",
			LongDescription: "A route bound to an instance of this service answers only the apps, spaces and orgs that the instance allows. Nobody may call until something is allowed.",
		},
	}}
}

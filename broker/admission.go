package broker

import (
	"slices"

	"github.com/mtls-authz/mtls-authz/grants/parameters"

	"github.com/mtls-authz/mtls-authz/grants/route"

	"code.cloudfoundry.org/brokerapi/v13/domain"

	"github.com/mtls-authz/mtls-authz/broker/osb"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/admission"
)

// checkParameters refuses what the plan or the operator does not allow.
func (b *broker) checkParameters(p, former parameters.Parameters, plan grants.Scope) error {
	return admission.Operator{Report: b.AllowReport, Names: b.Names}.Check(p, former, plan)
}

// parseRoute accepts a bind of a route, and nothing else that can be bound.
func parseRoute(d domain.BindDetails) (route.Route, error) {
	if d.BindResource == nil || d.BindResource.Route == "" || d.AppGUID != "" || d.BindResource.AppGuid != "" || d.BindResource.CredentialClientID != "" {
		return route.Route{}, osb.BadRequest("this service protects routes: use cf bind-route-service; it cannot be bound to an app and has no service keys")
	}
	return route.Parse(d.BindResource.Route)
}

// checkRoute refuses what the gateway cannot or may not protect.
func (b *broker) checkRoute(wanted route.Route) error {
	if wanted.IsWildcard() && !b.AllowWildcards {
		return osb.BadRequest("route %q: wildcard routes are not protected here, because whoever creates a host below it goes around the gateway; bind the hosts themselves", wanted)
	}
	leadsHere := func(host string) bool {
		return wanted.Host == host || wanted.MatchHost(host) || route.Route{Host: host}.MatchHost(wanted.Host)
	}
	if slices.ContainsFunc(b.ownHosts, leadsHere) {
		return osb.BadRequest("route %q leads to the gateway itself, which cannot protect itself", wanted)
	}
	return nil
}

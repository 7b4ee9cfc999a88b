package broker

import (
	"context"
	"errors"
	"slices"

	"code.cloudfoundry.org/brokerapi/v13/domain"
	"code.cloudfoundry.org/brokerapi/v13/domain/apiresponses"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/store"
)

// Bind implements domain.ServiceBroker.
func (b *broker) Bind(ctx context.Context, instanceID, id string, d domain.BindDetails, _ bool) (domain.Binding, error) {
	binding, err := b.newBinding(ctx, instanceID, id, d)
	if err != nil {
		return domain.Binding{}, failure(err)
	}
	stored, created, err := b.Store.CreateBinding(ctx, binding)
	if err != nil {
		return domain.Binding{}, failure(err)
	}
	return domain.Binding{AlreadyExists: !created, RouteServiceURL: stored.URL}, nil
}

func (b *broker) newBinding(ctx context.Context, instanceID, id string, d domain.BindDetails) (store.Binding, error) {
	if err := checkIDs(instanceID, id); err != nil {
		return store.Binding{}, err
	}
	if _, err := checkPlan(d.ServiceID, d.PlanID); err != nil {
		return store.Binding{}, err
	}
	instance, err := b.Store.Instance(ctx, instanceID)
	if errors.Is(err, store.ErrNotFound) {
		return store.Binding{}, notFound("service instance", instanceID)
	}
	if err != nil {
		return store.Binding{}, err
	}
	if d.PlanID != instance.PlanID {
		return store.Binding{}, badRequest("plan_id %.64q is not the plan of the service instance", d.PlanID)
	}
	if err := checkContext(d.RawContext, instance.Owner); err != nil {
		return store.Binding{}, err
	}
	route, err := b.checkRoute(d)
	if err != nil {
		return store.Binding{}, err
	}
	parameters, err := grants.ParseBinding(d.RawParameters)
	if err != nil {
		return store.Binding{}, err
	}
	if err := b.checkParameters(parameters, instance.Plan); err != nil {
		return store.Binding{}, err
	}
	if _, err := b.Store.Binding(ctx, instanceID, id); errors.Is(err, store.ErrNotFound) {
		if err := grants.RefuseExpired(parameters.Allow, b.Now()); err != nil {
			return store.Binding{}, err
		}
	}
	url := b.GatewayURL + "/r/" + id + "/" + b.Tokens.Token(id)
	if len(url) > maxURL {
		return store.Binding{}, badRequest("the route service URL would have %d characters, at most %d are possible; the operator should shorten GATEWAY_URL", len(url), maxURL)
	}
	return store.Binding{ID: id, InstanceID: instanceID, Route: route, Parameters: parameters, URL: url, CreatedBy: originator(ctx)}, nil
}

// checkRoute accepts a route that the gateway can protect, and nothing else
// that can be bound.
func (b *broker) checkRoute(d domain.BindDetails) (grants.Route, error) {
	if d.BindResource == nil || d.BindResource.Route == "" || d.AppGUID != "" || d.BindResource.AppGuid != "" {
		return grants.Route{}, badRequest("this service protects routes: use cf bind-route-service; it cannot be bound to an app and has no service keys")
	}
	route, err := grants.ParseRoute(d.BindResource.Route)
	if err != nil {
		return grants.Route{}, err
	}
	if route.IsWildcard() && !b.AllowWildcards {
		return grants.Route{}, badRequest("route %q: wildcard routes are not protected here, because whoever creates a host below it goes around the gateway; bind the hosts themselves", route)
	}
	if slices.ContainsFunc(b.OwnHosts, func(host string) bool { return route.Host == host || route.MatchHost(host) }) {
		return grants.Route{}, badRequest("route %q leads to the gateway itself, which cannot protect itself", route)
	}
	return route, nil
}

// Unbind implements domain.ServiceBroker.
func (b *broker) Unbind(ctx context.Context, instanceID, id string, d domain.UnbindDetails, _ bool) (domain.UnbindSpec, error) {
	if err := checkIDs(instanceID, id); err != nil {
		return domain.UnbindSpec{}, err
	}
	// The plan may be the one before an update: orphan jobs carry it.
	if _, err := checkPlan(d.ServiceID, d.PlanID); err != nil {
		return domain.UnbindSpec{}, err
	}
	err := b.Store.DeleteBinding(ctx, instanceID, id)
	if errors.Is(err, store.ErrNotFound) {
		return domain.UnbindSpec{}, apiresponses.ErrBindingDoesNotExist
	}
	return domain.UnbindSpec{}, failure(err)
}

// GetBinding implements domain.ServiceBroker.
func (b *broker) GetBinding(ctx context.Context, instanceID, id string, _ domain.FetchBindingDetails) (domain.GetBindingSpec, error) {
	binding, err := b.Store.Binding(ctx, instanceID, id)
	if errors.Is(err, store.ErrNotFound) {
		return domain.GetBindingSpec{}, notFound("service binding", id)
	}
	if err != nil {
		return domain.GetBindingSpec{}, failure(err)
	}
	spec := domain.GetBindingSpec{RouteServiceURL: binding.URL}
	if raw := binding.Parameters.JSON(); string(raw) != "{}" {
		spec.Parameters = raw
	}
	return spec, nil
}

// LastBindingOperation implements domain.ServiceBroker; see LastOperation.
func (b *broker) LastBindingOperation(ctx context.Context, instanceID, id string, _ domain.PollDetails) (domain.LastOperation, error) {
	if _, err := b.Store.Binding(ctx, instanceID, id); err != nil {
		return domain.LastOperation{}, failure(err)
	}
	return domain.LastOperation{State: domain.Succeeded}, nil
}

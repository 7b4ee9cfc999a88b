package broker

import (
	"context"
	"errors"
	"fmt"

	"github.com/mtls-authz/mtls-authz/grants/parameters"

	"code.cloudfoundry.org/brokerapi/v13/domain"
	"code.cloudfoundry.org/brokerapi/v13/domain/apiresponses"

	"github.com/mtls-authz/mtls-authz/broker/osb"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/store"
)

// maxURL is what Cloud Controller stores of a route service URL on MySQL.
const maxURL = 255

// Bind implements domain.ServiceBroker.
func (b *broker) Bind(ctx context.Context, instanceID, id string, d domain.BindDetails, _ bool) (domain.Binding, error) {
	stored, created, err := b.bind(ctx, instanceID, id, d)
	if err == nil && stored.URL == "" {
		err = errors.New("binding without a route service url") // accepted, it would leave the route open
	}
	return domain.Binding{AlreadyExists: !created, RouteServiceURL: stored.URL}, b.failure(err)
}

// bind first looks for what is there: a repeated request gets the same answer
// whatever has changed in the meantime, settings and the clock included.
func (b *broker) bind(ctx context.Context, instanceID, id string, d domain.BindDetails) (stored store.Binding, created bool, err error) {
	if err := osb.CheckIDs(instanceID, id); err != nil {
		return stored, false, err
	}
	if _, err := checkPlan(d.ServiceID, d.PlanID); err != nil {
		return stored, false, err
	}
	instance, err := b.Store.Instance(ctx, instanceID)
	if errors.Is(err, store.ErrNotFound) {
		return stored, false, osb.NotFound("service instance", instanceID)
	}
	if err != nil {
		return stored, false, err
	}
	if err := osb.CheckContext(d.RawContext, instance.Owner.Org.String(), instance.Owner.Space.String()); err != nil {
		return stored, false, err
	}
	wanted := store.Binding{ID: id, InstanceID: instanceID}
	if wanted.Route, err = parseRoute(d); err != nil {
		return stored, false, err
	}
	if wanted.Parameters, err = parameters.ParseBinding(d.RawParameters); err != nil {
		return stored, false, err
	}
	existing, err := b.Store.Binding(ctx, instanceID, id)
	switch {
	case err == nil && existing.Same(wanted) && d.PlanID == instance.PlanID:
		return existing, false, nil
	case err == nil:
		return stored, false, fmt.Errorf("service binding %q %w", id, store.ErrExists)
	case !errors.Is(err, store.ErrNotFound):
		return stored, false, err
	}
	if d.PlanID != instance.PlanID {
		return stored, false, osb.BadRequest("plan_id %.64q is not the plan of the service instance", d.PlanID)
	}
	if err := b.admit(&wanted, instance.Plan); err != nil {
		return stored, false, err
	}
	return b.Store.CreateBinding(ctx, causeOf(ctx), wanted)
}

// admit checks a new binding and gives it its URL.
func (b *broker) admit(wanted *store.Binding, plan grants.Scope) error {
	if err := b.checkRoute(wanted.Route); err != nil {
		return err
	}
	if err := b.checkParameters(wanted.Parameters, parameters.Parameters{}, plan); err != nil {
		return err
	}
	if err := parameters.RefuseExpired(wanted.Parameters.Allow, b.Now()); err != nil {
		return err
	}
	token := b.Tokens.Token(wanted.ID)
	if token == "" {
		return errors.New("no key to make route tokens with")
	}
	wanted.URL = b.GatewayURL + "/r/" + wanted.ID + "/" + token
	if len(wanted.URL) > maxURL {
		return osb.BadRequest("the route service URL would have %d characters, at most %d are possible; the operator should shorten GATEWAY_URL", len(wanted.URL), maxURL)
	}
	return nil
}

// Unbind implements domain.ServiceBroker.
func (b *broker) Unbind(ctx context.Context, instanceID, id string, d domain.UnbindDetails, _ bool) (domain.UnbindSpec, error) {
	// The plan may be the one before an update: orphan jobs carry it.
	if _, err := checkPlan(d.ServiceID, d.PlanID); err != nil {
		return domain.UnbindSpec{}, err
	}
	// Ids that a bind would have refused are unknown: orphan jobs carry them.
	if osb.CheckIDs(instanceID, id) != nil {
		return domain.UnbindSpec{}, apiresponses.ErrBindingDoesNotExist
	}
	err := b.Store.DeleteBinding(ctx, causeOf(ctx), instanceID, id)
	if errors.Is(err, store.ErrNotFound) {
		return domain.UnbindSpec{}, apiresponses.ErrBindingDoesNotExist
	}
	return domain.UnbindSpec{}, b.failure(err)
}

// GetBinding implements domain.ServiceBroker.
func (b *broker) GetBinding(ctx context.Context, instanceID, id string, _ domain.FetchBindingDetails) (domain.GetBindingSpec, error) {
	binding, err := b.binding(ctx, instanceID, id)
	if err != nil {
		return domain.GetBindingSpec{}, b.failure(err)
	}
	spec := domain.GetBindingSpec{RouteServiceURL: binding.URL}
	if raw := binding.Parameters.JSON(); string(raw) != "{}" {
		spec.Parameters = raw // never null, which Cloud Controller refuses
	}
	return spec, nil
}

// LastBindingOperation implements domain.ServiceBroker; see LastOperation.
func (b *broker) LastBindingOperation(ctx context.Context, instanceID, id string, _ domain.PollDetails) (domain.LastOperation, error) {
	_, err := b.binding(ctx, instanceID, id)
	return domain.LastOperation{State: domain.Succeeded}, b.failure(err)
}

func (b *broker) binding(ctx context.Context, instanceID, id string) (store.Binding, error) {
	if osb.CheckIDs(instanceID, id) != nil {
		return store.Binding{}, osb.NotFound("service binding", id)
	}
	binding, err := b.Store.Binding(ctx, instanceID, id)
	if errors.Is(err, store.ErrNotFound) {
		return store.Binding{}, osb.NotFound("service binding", id)
	}
	return binding, err
}

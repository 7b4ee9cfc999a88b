package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/mtls-authz/mtls-authz/grants/parameters"

	"code.cloudfoundry.org/brokerapi/v13/domain"
	"code.cloudfoundry.org/brokerapi/v13/domain/apiresponses"

	"github.com/mtls-authz/mtls-authz/broker/osb"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/store"
)

// Provision implements domain.ServiceBroker.
func (b *broker) Provision(ctx context.Context, id string, d domain.ProvisionDetails, _ bool) (domain.ProvisionedServiceSpec, error) {
	created, err := b.provision(ctx, id, d)
	return domain.ProvisionedServiceSpec{AlreadyExists: !created}, b.failure(err)
}

// provision first looks for what is there, as bind does.
func (b *broker) provision(ctx context.Context, id string, d domain.ProvisionDetails) (created bool, err error) {
	if err := osb.CheckIDs(id); err != nil {
		return false, err
	}
	plan, err := checkPlan(d.ServiceID, d.PlanID)
	if err != nil {
		return false, err
	}
	owner := grants.Owner{Instance: id}
	if err := owner.Org.UnmarshalText([]byte(d.OrganizationGUID)); err != nil {
		return false, osb.BadRequest("organization_guid: %w", err)
	}
	if err := owner.Space.UnmarshalText([]byte(d.SpaceGUID)); err != nil {
		return false, osb.BadRequest("space_guid: %w", err)
	}
	if err := osb.CheckContext(d.RawContext, owner.Org.String(), owner.Space.String()); err != nil {
		return false, err
	}
	given, err := parameters.ParseInstance(d.RawParameters)
	if err != nil {
		return false, err
	}
	wanted := store.Instance{ID: id, PlanID: d.PlanID, Plan: plan, Owner: owner, Parameters: given}
	existing, err := b.Store.Instance(ctx, id)
	switch {
	case err == nil && existing.Same(wanted):
		return false, nil
	case err == nil:
		return false, fmt.Errorf("service instance %q %w", id, store.ErrExists)
	case !errors.Is(err, store.ErrNotFound):
		return false, err
	}
	if err := b.checkParameters(given, parameters.Parameters{}, plan); err != nil {
		return false, err
	}
	if err := parameters.RefuseExpired(given.Allow, b.Now()); err != nil {
		return false, err
	}
	return b.Store.CreateInstance(ctx, causeOf(ctx), wanted)
}

// Update implements domain.ServiceBroker.
func (b *broker) Update(ctx context.Context, id string, d domain.UpdateDetails, _ bool) (domain.UpdateServiceSpec, error) {
	if d.PlanID != "" || d.ServiceID != ServiceID {
		if _, err := checkPlan(d.ServiceID, d.PlanID); err != nil {
			return domain.UpdateServiceSpec{}, err
		}
	}
	if osb.CheckIDs(id) != nil {
		return domain.UpdateServiceSpec{}, osb.NotFound("service instance", id)
	}
	err := b.Store.UpdateInstance(ctx, causeOf(ctx), id, func(i store.Instance) (store.Instance, error) {
		if err := osb.CheckContext(d.RawContext, i.Owner.Org.String(), i.Owner.Space.String()); err != nil {
			return i, err
		}
		if d.PlanID != "" {
			i.PlanID, i.Plan = d.PlanID, planScope(d.PlanID)
		}
		former := i.Parameters
		var err error
		if i.Parameters, err = former.Update(d.RawParameters, b.Now()); err != nil {
			return i, err
		}
		return i, b.checkParameters(i.Parameters, former, i.Plan)
	})
	if errors.Is(err, store.ErrNotFound) {
		err = osb.NotFound("service instance", id)
	}
	return domain.UpdateServiceSpec{}, b.failure(err)
}

// Deprovision implements domain.ServiceBroker. What is still bound goes with
// the instance: Cloud Controller unbinds first, except after a purge.
func (b *broker) Deprovision(ctx context.Context, id string, d domain.DeprovisionDetails, _ bool) (domain.DeprovisionServiceSpec, error) {
	if _, err := checkPlan(d.ServiceID, d.PlanID); err != nil {
		return domain.DeprovisionServiceSpec{}, err
	}
	if osb.CheckIDs(id) != nil {
		return domain.DeprovisionServiceSpec{}, apiresponses.ErrInstanceDoesNotExist
	}
	err := b.Store.DeleteInstance(ctx, causeOf(ctx), id)
	if errors.Is(err, store.ErrNotFound) {
		return domain.DeprovisionServiceSpec{}, apiresponses.ErrInstanceDoesNotExist
	}
	return domain.DeprovisionServiceSpec{}, b.failure(err)
}

// GetInstance implements domain.ServiceBroker: the canonical parameters and a
// read-only status.
func (b *broker) GetInstance(ctx context.Context, id string, _ domain.FetchInstanceDetails) (domain.GetInstanceDetailsSpec, error) {
	instance, err := b.instance(ctx, id)
	if err != nil {
		return domain.GetInstanceDetailsSpec{}, b.failure(err)
	}
	bindings, err := b.Store.Bindings(ctx, id)
	if err != nil && !errors.Is(err, store.ErrDamaged) {
		return domain.GetInstanceDetailsSpec{}, b.failure(err)
	}
	shown := b.statuses.Of(ctx, instance, bindings)
	if err != nil { // added last, and never left out
		shown.Warnings = append(shown.Warnings, "a bound route is damaged in the gateway's database and refuses everybody: unbind it and bind it again")
	}
	var answer map[string]json.RawMessage
	if err := json.Unmarshal(instance.Parameters.JSON(), &answer); err != nil {
		return domain.GetInstanceDetailsSpec{}, b.failure(err)
	}
	if answer["status"], err = json.Marshal(shown); err != nil {
		return domain.GetInstanceDetailsSpec{}, b.failure(err)
	}
	return domain.GetInstanceDetailsSpec{ServiceID: ServiceID, PlanID: instance.PlanID, Parameters: answer}, nil
}

// LastOperation implements domain.ServiceBroker. Nothing is asynchronous: what
// exists has succeeded.
func (b *broker) LastOperation(ctx context.Context, id string, _ domain.PollDetails) (domain.LastOperation, error) {
	_, err := b.instance(ctx, id)
	return domain.LastOperation{State: domain.Succeeded}, b.failure(err)
}

func (b *broker) instance(ctx context.Context, id string) (store.Instance, error) {
	if osb.CheckIDs(id) != nil {
		return store.Instance{}, osb.NotFound("service instance", id)
	}
	instance, err := b.Store.Instance(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return store.Instance{}, osb.NotFound("service instance", id)
	}
	return instance, err
}

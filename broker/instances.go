package broker

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"code.cloudfoundry.org/brokerapi/v13/domain"
	"code.cloudfoundry.org/brokerapi/v13/domain/apiresponses"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/store"
)

// Provision implements domain.ServiceBroker.
func (b *broker) Provision(ctx context.Context, id string, d domain.ProvisionDetails, _ bool) (domain.ProvisionedServiceSpec, error) {
	instance, err := b.newInstance(ctx, id, d)
	if err != nil {
		return domain.ProvisionedServiceSpec{}, failure(err)
	}
	created, err := b.Store.CreateInstance(ctx, instance)
	return domain.ProvisionedServiceSpec{AlreadyExists: !created}, failure(err)
}

func (b *broker) newInstance(ctx context.Context, id string, d domain.ProvisionDetails) (store.Instance, error) {
	if err := checkIDs(id); err != nil {
		return store.Instance{}, err
	}
	plan, err := checkPlan(d.ServiceID, d.PlanID)
	if err != nil {
		return store.Instance{}, err
	}
	owner := grants.Owner{Instance: id}
	if err := owner.Org.UnmarshalText([]byte(d.OrganizationGUID)); err != nil {
		return store.Instance{}, badRequest("organization_guid: %w", err)
	}
	if err := owner.Space.UnmarshalText([]byte(d.SpaceGUID)); err != nil {
		return store.Instance{}, badRequest("space_guid: %w", err)
	}
	if err := checkContext(d.RawContext, owner); err != nil {
		return store.Instance{}, err
	}
	parameters, err := grants.ParseInstance(d.RawParameters)
	if err != nil {
		return store.Instance{}, err
	}
	if err := b.checkParameters(parameters, plan); err != nil {
		return store.Instance{}, err
	}
	// A repeated request may come after one of its grants has expired.
	if _, err := b.Store.Instance(ctx, id); errors.Is(err, store.ErrNotFound) {
		if err := grants.RefuseExpired(parameters.Allow, b.Now()); err != nil {
			return store.Instance{}, err
		}
	}
	return store.Instance{ID: id, PlanID: d.PlanID, Plan: plan, Owner: owner, Parameters: parameters, CreatedBy: originator(ctx)}, nil
}

// Update implements domain.ServiceBroker.
func (b *broker) Update(ctx context.Context, id string, d domain.UpdateDetails, _ bool) (domain.UpdateServiceSpec, error) {
	if err := checkIDs(id); err != nil {
		return domain.UpdateServiceSpec{}, err
	}
	if d.PlanID != "" || d.ServiceID != ServiceID {
		if _, err := checkPlan(d.ServiceID, d.PlanID); err != nil {
			return domain.UpdateServiceSpec{}, err
		}
	}
	err := b.Store.UpdateInstance(ctx, id, originator(ctx), func(i store.Instance) (store.Instance, error) {
		if err := checkContext(d.RawContext, i.Owner); err != nil {
			return i, err
		}
		if d.PlanID != "" {
			i.PlanID, i.Plan = d.PlanID, planScope(d.PlanID)
		}
		var err error
		if i.Parameters, err = i.Parameters.Update(d.RawParameters, b.Now()); err != nil {
			return i, err
		}
		return i, b.checkParameters(i.Parameters, i.Plan)
	})
	return domain.UpdateServiceSpec{}, failure(err)
}

// Deprovision implements domain.ServiceBroker. What is still bound goes with
// the instance: Cloud Controller unbinds first, except after a purge.
func (b *broker) Deprovision(ctx context.Context, id string, d domain.DeprovisionDetails, _ bool) (domain.DeprovisionServiceSpec, error) {
	if err := checkIDs(id); err != nil {
		return domain.DeprovisionServiceSpec{}, err
	}
	if _, err := checkPlan(d.ServiceID, d.PlanID); err != nil {
		return domain.DeprovisionServiceSpec{}, err
	}
	err := b.Store.DeleteInstance(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return domain.DeprovisionServiceSpec{}, apiresponses.ErrInstanceDoesNotExist
	}
	return domain.DeprovisionServiceSpec{}, failure(err)
}

// GetInstance implements domain.ServiceBroker: the canonical parameters and a
// read-only status.
func (b *broker) GetInstance(ctx context.Context, id string, _ domain.FetchInstanceDetails) (domain.GetInstanceDetailsSpec, error) {
	instance, err := b.Store.Instance(ctx, id)
	if err != nil {
		return domain.GetInstanceDetailsSpec{}, failure(err)
	}
	bindings, err := b.Store.Bindings(ctx, id)
	if err != nil {
		return domain.GetInstanceDetailsSpec{}, failure(err)
	}
	var parameters map[string]json.RawMessage
	if err := json.Unmarshal(instance.Parameters.JSON(), &parameters); err != nil {
		return domain.GetInstanceDetailsSpec{}, failure(err)
	}
	if parameters["status"], err = json.Marshal(b.status(instance, bindings)); err != nil {
		return domain.GetInstanceDetailsSpec{}, failure(err)
	}
	return domain.GetInstanceDetailsSpec{ServiceID: ServiceID, PlanID: instance.PlanID, Parameters: parameters}, nil
}

// LastOperation implements domain.ServiceBroker. Nothing is asynchronous: what
// exists has succeeded.
func (b *broker) LastOperation(ctx context.Context, id string, _ domain.PollDetails) (domain.LastOperation, error) {
	if _, err := b.Store.Instance(ctx, id); err != nil {
		return domain.LastOperation{}, failure(err)
	}
	return domain.LastOperation{State: domain.Succeeded}, nil
}

// notFound is the 404 of a thing that the request names.
func notFound(what, id string) error {
	return fail(http.StatusNotFound, "%s %.128q does not exist in this broker", what, id)
}

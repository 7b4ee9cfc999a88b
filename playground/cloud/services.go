package cloud

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/google/uuid"

	"github.com/mtls-authz/mtls-authz/playground/capi"
	"github.com/mtls-authz/mtls-authz/playground/cloud/shape"
	"github.com/mtls-authz/mtls-authz/playground/controller"
)

// instance is a service instance; plan is the catalog's id.
type instance struct{ guid, name, space, plan string }

// succeeded is what Cloud Controller says of a broker's answer.
func succeeded(operation string, reply *controller.Answer, err error) error {
	if err != nil {
		return fmt.Errorf("%s could not be completed: %w", operation, err)
	}
	if reply.Outcome() != controller.Succeeded {
		return fmt.Errorf("%s could not be completed: Service broker error: %s", operation, reply.Description())
	}
	return nil
}

// shownInstances are the service instances; c.mu is held.
func (c *Cloud) shownInstances(r *http.Request) []shape.Item {
	all := make([]shape.Item, 0, len(c.instances))
	for _, one := range c.instances {
		body := shape.Resource(r, "service_instances", one.guid, shape.Object{"space": shape.To(one.space), "service_plan": shape.To(one.plan)}, shape.Object{
			"name": one.name,
			"type": "managed", "tags": []string{}, "dashboard_url": nil, "upgrade_available": false, "maintenance_info": shape.Object{}, "last_operation": shape.Done(),
		})
		all = append(all, shape.Item{Body: body, Is: map[string]string{
			"guids": one.guid, "names": one.name, "space_guids": one.space, "organization_guids": c.orgOf(one.space), "service_plan_guids": one.plan,
		}})
	}
	return all
}

func (c *Cloud) orgOf(space string) string {
	found, _ := c.Get(capi.Spaces, space)
	return found.Parent
}

func (c *Cloud) listInstances(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	shape.List(w, r, c.shownInstances(r), c.aroundInstances(r))
}

func (c *Cloud) getInstance(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	included := c.aroundInstances(r)
	if one, known := c.instance(r.PathValue("guid")); known {
		space, _ := c.Get(capi.Spaces, one.space)
		org, _ := c.Get(capi.Orgs, space.Parent)
		included["spaces"] = []shape.Object{shape.Resource(r, "spaces", space.GUID, shape.Object{"organization": shape.To(org.GUID)}, shape.Object{"name": space.Name})}
		included["organizations"] = []shape.Object{shape.Resource(r, "organizations", org.GUID, shape.Object{}, shape.Object{"name": org.Name})}
	}
	shape.One(w, r, c.shownInstances(r), included)
}

// aroundInstances is what instances belong to; c.mu is held.
func (c *Cloud) aroundInstances(r *http.Request) shape.Object {
	return shape.Object{
		"service_plans": shape.Bodies(c.shownPlans(r)), "service_offerings": shape.Bodies(c.shownOfferings(r)), "service_brokers": shape.Bodies(c.brokers(r)),
	}
}

// instance finds one; c.mu is held.
func (c *Cloud) instance(guid string) (instance, bool) {
	at := slices.IndexFunc(c.instances, func(one instance) bool { return one.guid == guid })
	if at < 0 {
		return instance{}, false
	}
	return c.instances[at], true
}

// service is an instance as the broker is told of it.
func (c *Cloud) service(one instance) controller.Service {
	space, _ := c.Get(capi.Spaces, one.space)
	org, _ := c.Get(capi.Orgs, space.Parent)
	return controller.Service{
		GUID: one.guid, Name: one.name, OfferingID: c.offering.ID, PlanID: one.plan,
		Space: controller.Space{GUID: space.GUID, Name: space.Name, OrgGUID: org.GUID, OrgName: org.Name},
	}
}

// order is what a user asks of an instance.
type order struct {
	Name          string          `json:"name"`
	Parameters    json.RawMessage `json:"parameters"`
	Relationships struct {
		Space related `json:"space"`
		Plan  related `json:"service_plan"`
	} `json:"relationships"`
}

// errUnprocessable: Cloud Controller does not begin to do what was ordered.
var errUnprocessable = errors.New("unprocessable")

func unprocessable(text string) error { return fmt.Errorf("%w: %s", errUnprocessable, text) }

// accept checks an order of a new instance.
func (c *Cloud) accept(name, space, planID string) (instance, error) {
	made := instance{guid: uuid.NewString(), name: name, space: space, plan: planID}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case slices.ContainsFunc(c.instances, func(one instance) bool { return one.name == name && one.space == space }):
		return made, unprocessable("The service instance name is taken: " + name + ".")
	case c.offering == nil || !slices.ContainsFunc(c.offering.Plans, func(one plan) bool { return one.ID == planID }) || c.orgOf(space) == "":
		return made, unprocessable("Invalid service plan or space.")
	}
	return made, nil
}

// CreateService is cf create-service by a user, in a space; plan is its name. It
// returns the instance's guid.
func (c *Cloud) CreateService(ctx context.Context, user, space, planName, name, parameters string) (guid string, err error) {
	c.mu.Lock()
	id := ""
	for _, one := range c.offering.Plans {
		if one.Name == planName {
			id = one.ID
		}
	}
	c.mu.Unlock()
	made, err := c.accept(name, space, id)
	if err != nil {
		return "", err
	}
	return made.guid, c.provision(ctx, user, made, json.RawMessage(parameters))
}

func (c *Cloud) provision(ctx context.Context, user string, made instance, parameters json.RawMessage) error {
	reply, err := c.cfg.Broker(user).CreateService(ctx, c.service(made), parameters)
	if err := succeeded("provision", reply, err); err != nil {
		return err
	}
	c.Permit(made.guid, user, capi.Permissions{Read: true, Manage: true})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.instances = append(c.instances, made)
	return nil
}

func (c *Cloud) createInstance(w http.ResponseWriter, r *http.Request) {
	var o order
	if !read(w, r, &o) {
		return
	}
	made, err := c.accept(o.Name, o.Relationships.Space.Data.GUID, o.Relationships.Plan.Data.GUID)
	c.work(w, r, "service_instance.create", err, func(ctx context.Context) error { return c.provision(ctx, c.User(r), made, o.Parameters) })
}

// UpdateService is cf update-service by a user.
func (c *Cloud) UpdateService(ctx context.Context, user, guid string, change controller.Change) error {
	c.mu.Lock()
	one, _ := c.instance(guid)
	c.mu.Unlock()
	reply, err := c.cfg.Broker(user).UpdateService(ctx, c.service(one), change)
	if err := succeeded("update", reply, err); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.instances {
		if c.instances[i].guid == guid {
			c.instances[i].plan, c.instances[i].name = cmp.Or(change.PlanID, one.plan), cmp.Or(change.Name, one.name)
		}
	}
	return nil
}

func (c *Cloud) updateInstance(w http.ResponseWriter, r *http.Request) {
	var o order
	if !c.known(w, r) || !read(w, r, &o) {
		return
	}
	change := controller.Change{Name: o.Name, PlanID: o.Relationships.Plan.Data.GUID, Parameters: o.Parameters}
	c.work(w, r, "service_instance.update", nil, func(ctx context.Context) error {
		return c.UpdateService(ctx, c.User(r), r.PathValue("guid"), change)
	})
}

// known answers 404 if there is no instance of the path's guid.
func (c *Cloud) known(w http.ResponseWriter, r *http.Request) bool {
	c.mu.Lock()
	_, known := c.instance(r.PathValue("guid"))
	c.mu.Unlock()
	if !known {
		shape.NotFound(w)
	}
	return known
}

// deleteInstance is cf delete-service: it unbinds the routes first.
func (c *Cloud) deleteInstance(w http.ResponseWriter, r *http.Request) {
	if c.known(w, r) {
		c.work(w, r, "service_instance.delete", nil, func(ctx context.Context) error { return c.remove(ctx, c.User(r), r.PathValue("guid")) })
	}
}

func (c *Cloud) remove(ctx context.Context, user, guid string) error {
	c.mu.Lock()
	one, _ := c.instance(guid)
	bound := slices.Clone(c.bindings)
	c.mu.Unlock()
	for _, b := range bound {
		if b.instance != guid {
			continue
		}
		if err := c.unbind(ctx, user, b); err != nil {
			return err
		}
	}
	reply, err := c.cfg.Broker(user).DeleteService(ctx, c.service(one))
	if err := succeeded("delete", reply, err); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.instances = slices.DeleteFunc(c.instances, func(i instance) bool { return i.guid == guid })
	return nil
}

// Parameters is cf service --params: what the broker says of an instance.
func (c *Cloud) Parameters(ctx context.Context, user, guid string) (parameters json.RawMessage, err error) {
	c.mu.Lock()
	one, _ := c.instance(guid)
	c.mu.Unlock()
	reply, err := c.cfg.Broker(user).FetchService(ctx, c.service(one))
	if err := succeeded("fetch", reply, err); err != nil {
		return nil, err
	}
	var told struct {
		Parameters json.RawMessage `json:"parameters"`
	}
	err = reply.JSON(&told)
	return told.Parameters, err
}

func (c *Cloud) getParameters(w http.ResponseWriter, r *http.Request) {
	if !c.known(w, r) {
		return
	}
	parameters, err := c.Parameters(r.Context(), c.User(r), r.PathValue("guid"))
	if err != nil {
		shape.Refuse(w, http.StatusBadGateway, "CF-ServiceBrokerBadResponse", err.Error())
		return
	}
	shape.Answer(w, http.StatusOK, parameters)
}

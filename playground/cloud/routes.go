package cloud

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	"github.com/google/uuid"

	"github.com/mtls-authz/mtls-authz/playground/cloud/shape"
	"github.com/mtls-authz/mtls-authz/playground/controller"
)

const domainGUID = "d0d1d2d3-0000-4000-8000-000000000001"

// route is of the one domain.
type route struct{ guid, host, path, space string }

// binding of a route to an instance; url is what the broker answered.
type binding struct{ guid, route, instance, url string }

// AddRoute makes a route host.domain[/path] in a space.
func (c *Cloud) AddRoute(host, path, space string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.routes = append(c.routes, route{uuid.NewString(), host, path, space})
}

func (c *Cloud) url(one route) string { return one.host + "." + c.cfg.Domain + one.path }

func (c *Cloud) domains(r *http.Request) []shape.Item {
	body := shape.Resource(r, "domains", domainGUID, shape.Object{"organization": shape.Object{"data": nil}, "shared_organizations": shape.Object{"data": []shape.Object{}}},
		shape.Object{"name": c.cfg.Domain, "internal": false, "router_group": nil, "supported_protocols": []string{"http"}})
	return []shape.Item{{Body: body, Is: map[string]string{"guids": domainGUID, "names": c.cfg.Domain}}}
}

func (c *Cloud) listDomains(w http.ResponseWriter, r *http.Request) {
	shape.List(w, r, c.domains(r), nil)
}

func (c *Cloud) getDomain(w http.ResponseWriter, r *http.Request) {
	shape.One(w, r, c.domains(r), nil)
}

// shownRoutes are the routes; c.mu is held.
func (c *Cloud) shownRoutes(r *http.Request) []shape.Item {
	all := make([]shape.Item, 0, len(c.routes))
	for _, one := range c.routes {
		body := shape.Resource(r, "routes", one.guid, shape.Object{"space": shape.To(one.space), "domain": shape.To(domainGUID)}, shape.Object{
			"protocol": "http", "host": one.host, "path": one.path, "port": nil, "url": c.url(one), "destinations": []shape.Object{}, "options": shape.Object{},
		})
		all = append(all, shape.Item{Body: body, Is: map[string]string{
			"guids": one.guid, "hosts": one.host, "paths": one.path, "domain_guids": domainGUID, "space_guids": one.space,
		}})
	}
	return all
}

func (c *Cloud) listRoutes(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	shape.List(w, r, c.shownRoutes(r), shape.Object{"domains": shape.Bodies(c.domains(r))})
}

func (c *Cloud) getRoute(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	shape.One(w, r, c.shownRoutes(r), nil)
}

// shownBindings are the route bindings; c.mu is held.
func (c *Cloud) shownBindings(r *http.Request) []shape.Item {
	all := make([]shape.Item, 0, len(c.bindings))
	for _, one := range c.bindings {
		body := shape.Resource(r, "service_route_bindings", one.guid, shape.Object{"route": shape.To(one.route), "service_instance": shape.To(one.instance)}, shape.Object{
			"route_service_url": one.url, "last_operation": shape.Done(),
		})
		all = append(all, shape.Item{Body: body, Is: map[string]string{"guids": one.guid, "route_guids": one.route, "service_instance_guids": one.instance}})
	}
	return all
}

func (c *Cloud) listBindings(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	shape.List(w, r, c.shownBindings(r), shape.Object{"routes": shape.Bodies(c.shownRoutes(r)), "service_instances": shape.Bodies(c.shownInstances(r))})
}

func (c *Cloud) getBinding(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	shape.One(w, r, c.shownBindings(r), nil)
}

// BindRoute is cf bind-route-service by a user, of a route host.domain[/path]. It
// returns the binding's guid and the URL that the router sends requests to.
func (c *Cloud) BindRoute(ctx context.Context, user, instanceGUID, routeURL, parameters string) (guid, url string, err error) {
	c.mu.Lock()
	at := slices.IndexFunc(c.routes, func(one route) bool { return c.url(one) == routeURL })
	routeGUID := ""
	if at >= 0 {
		routeGUID = c.routes[at].guid
	}
	c.mu.Unlock()
	b, err := c.acceptBinding(routeGUID, instanceGUID)
	if err != nil {
		return "", "", err
	}
	url, err = c.bind(ctx, user, b, json.RawMessage(parameters))
	return b.guid, url, err
}

// acceptBinding checks an order of a new binding.
func (c *Cloud) acceptBinding(routeGUID, instanceGUID string) (binding, error) {
	b := binding{guid: uuid.NewString(), route: routeGUID, instance: instanceGUID}
	c.mu.Lock()
	defer c.mu.Unlock()
	at := slices.IndexFunc(c.routes, func(one route) bool { return one.guid == routeGUID })
	of, known := c.instance(instanceGUID)
	switch {
	case at < 0 || !known:
		return b, unprocessable("The route or the service instance could not be found")
	case slices.ContainsFunc(c.bindings, func(one binding) bool { return one.route == routeGUID }):
		return b, unprocessable("A route may only be bound to a single service instance")
	case c.routes[at].space != of.space:
		return b, unprocessable("The service instance and the route are in different spaces.")
	}
	return b, nil
}

// asked is a binding as the broker is told of it.
func (c *Cloud) asked(b binding) controller.Binding {
	c.mu.Lock()
	defer c.mu.Unlock()
	of, _ := c.instance(b.instance)
	at := slices.IndexFunc(c.routes, func(one route) bool { return one.guid == b.route })
	return controller.Binding{GUID: b.guid, Route: c.url(c.routes[at]), Service: c.service(of)}
}

// bind tells the broker, then the router.
func (c *Cloud) bind(ctx context.Context, user string, b binding, parameters json.RawMessage) (url string, err error) {
	asked := c.asked(b)
	reply, err := c.cfg.Broker(user).BindRoute(ctx, asked, parameters)
	if err := succeeded("bind", reply, err); err != nil {
		return "", err
	}
	var told struct {
		URL string `json:"route_service_url"`
	}
	if err := reply.JSON(&told); err != nil {
		return "", fmt.Errorf("bind could not be completed: %w", err)
	}
	if err := c.cfg.Router().Bind(asked.Route, told.URL); err != nil {
		return "", fmt.Errorf("bind could not be completed: %w", err)
	}
	b.url = told.URL
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bindings = append(c.bindings, b)
	return told.URL, nil
}

func (c *Cloud) createBinding(w http.ResponseWriter, r *http.Request) {
	var order struct {
		Parameters    json.RawMessage `json:"parameters"`
		Relationships struct {
			Route    related `json:"route"`
			Instance related `json:"service_instance"`
		} `json:"relationships"`
	}
	if !read(w, r, &order) {
		return
	}
	b, err := c.acceptBinding(order.Relationships.Route.Data.GUID, order.Relationships.Instance.Data.GUID)
	c.work(w, r, "service_route_bindings.create", err, func(ctx context.Context) error {
		_, err := c.bind(ctx, c.User(r), b, order.Parameters)
		return err
	})
}

// deleteBinding is cf unbind-route-service.
func (c *Cloud) deleteBinding(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	at := slices.IndexFunc(c.bindings, func(one binding) bool { return one.guid == r.PathValue("guid") })
	var one binding
	if at >= 0 {
		one = c.bindings[at]
	}
	c.mu.Unlock()
	if at < 0 {
		shape.NotFound(w)
		return
	}
	c.work(w, r, "service_route_bindings.delete", nil, func(ctx context.Context) error { return c.unbind(ctx, c.User(r), one) })
}

func (c *Cloud) unbind(ctx context.Context, user string, b binding) error {
	asked := c.asked(b)
	reply, err := c.cfg.Broker(user).UnbindRoute(ctx, asked)
	if err := succeeded("unbind", reply, err); err != nil {
		return err
	}
	if err := c.cfg.Router().Unbind(asked.Route); err != nil {
		return fmt.Errorf("unbind could not be completed: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bindings = slices.DeleteFunc(c.bindings, func(one binding) bool { return one.guid == b.guid })
	return nil
}

package cf

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/mtls-authz/mtls-authz/grants/route"
	"github.com/mtls-authz/mtls-authz/identity"
)

// Offering is the name of the gateway's service offering.
const Offering = "mtls-authz"

// ErrNotBound: a route has no route service.
var ErrNotBound = errors.New("bound to no service that you can see: cf bind-route-service binds it; until then everybody can call it")

// Bound is a route and the service instance that it is bound to.
type Bound struct {
	// Route as the gateway writes it.
	Route    route.Route
	Instance Instance
}

// Instance is a service instance of the gateway's.
type Instance struct {
	GUID identity.GUID
	Name string
	// Space and Org are the owner; their names are "" where the user may not see
	// them.
	Space, Org         identity.GUID
	SpaceName, OrgName string
}

// Route returns where a route is bound. Host may be "", for the domain itself; path
// is "" or begins with a slash.
func (c *CLI) Route(ctx context.Context, domain, host, path string) (Bound, error) {
	of, err := c.named(ctx, "domain", domain, "/v3/domains?")
	if err != nil {
		return Bound{}, err
	}
	query := "/v3/routes?domain_guids=" + value(of.GUID)
	if host != "" {
		query += "&hosts=" + value(host)
	}
	found, _, err := c.list(ctx, query)
	if err != nil {
		return Bound{}, err
	}
	name := strings.TrimPrefix(host+"."+domain, ".") + path
	one, err := only("route", name, found, func(r resource) bool {
		// gorouter compares without regard to case.
		return strings.EqualFold(r.Host, host) && strings.EqualFold(r.Path, path) && r.Port == nil
	})
	if err != nil {
		return Bound{}, fmt.Errorf("%w; cf routes lists those of the targeted space", err)
	}
	return c.BoundTo(ctx, one.GUID, one.URL)
}

// Find returns where a route is bound, host[/path], by whatever domain it is on.
func (c *CLI) Find(ctx context.Context, name string) (Bound, error) {
	of, err := route.Parse(name)
	if err != nil {
		return Bound{}, err
	}
	for host, domain := "", of.Host; ; {
		found, err := c.Route(ctx, domain, host, of.Path)
		if err == nil || !errors.Is(err, ErrNotFound) {
			return found, err
		}
		label, rest, more := strings.Cut(domain, ".")
		if !more {
			return Bound{}, fmt.Errorf("route %q: %w; cf routes lists those of the targeted space", name, ErrNotFound)
		}
		host, domain = strings.TrimPrefix(host+"."+label, "."), rest
	}
}

// BoundTo returns where the route of this guid and URL is bound.
func (c *CLI) BoundTo(ctx context.Context, guid, url string) (b Bound, err error) {
	if b.Route, err = route.Parse(url); err != nil {
		return Bound{}, err
	}
	bindings, in, err := c.list(ctx, "/v3/service_route_bindings?route_guids="+value(guid)+"&include=service_instance")
	if err != nil {
		return Bound{}, err
	}
	if len(bindings) == 0 {
		return Bound{}, fmt.Errorf("route %s is %w", b.Route, ErrNotBound)
	}
	if len(bindings) > 1 {
		return Bound{}, fmt.Errorf("route %s: expected one binding, found %d", b.Route, len(bindings))
	}
	to := bindings[0].related("service_instance")
	if one, ok := in.find("service_instances", to); ok && one.Type == "user-provided" {
		return Bound{}, fmt.Errorf("route %s is bound to %q, a user-provided service, and not to %s", b.Route, one.Name, Offering)
	}
	if b.Instance, err = c.instance(ctx, to); err != nil {
		return Bound{}, fmt.Errorf("service of route %s: %w", b.Route, err)
	}
	return b, nil
}

// instance reads a service instance, and refuses that of another service: it would
// be sent parameters that are not for it.
func (c *CLI) instance(ctx context.Context, guid string) (in Instance, err error) {
	if in.GUID, err = identity.ParseGUID(guid); err != nil {
		return in, err
	}
	var found struct {
		resource
		Included included `json:"included"`
	}
	const fields = "?fields[service_plan.service_offering]=name,guid&fields[space]=name,guid&fields[space.organization]=name,guid"
	if err := c.get(ctx, "/v3/service_instances/"+guid+fields, &found); err != nil {
		return in, err
	}
	in.Name = found.Name
	if strings.ContainsFunc(in.Name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return in, fmt.Errorf("%q: a name that cannot be printed; rename it", in.Name)
	}
	if !slices.ContainsFunc(found.Included["service_offerings"], func(r resource) bool { return r.Name == Offering }) {
		return in, fmt.Errorf("%q is not an instance of %s", in.Name, Offering)
	}
	if in.Space, err = identity.ParseGUID(found.related("space")); err != nil {
		return in, err
	}
	space, _ := found.Included.find("spaces", in.Space.String())
	in.SpaceName = clean(space.Name)
	if org := found.Included["organizations"]; len(org) == 1 {
		in.OrgName = clean(org[0].Name)
		in.Org, _ = identity.ParseGUID(org[0].GUID) // zero: not known
	}
	return in, nil
}

// InTarget refuses an instance that "cf update-service NAME" would not mean: it
// takes a name, and another space can have another instance of that name.
func (c *CLI) InTarget(ctx context.Context, in Instance) error {
	if err := CheckArgument("service", in.Name); err != nil {
		return err
	}
	guid, err := c.Target(ctx, "service", in.Name)
	switch {
	case err == nil && guid == in.GUID:
		return nil
	case err == nil:
		err = errors.New("the one there of that name is another")
	}
	where := "space " + in.Space.String()
	if in.SpaceName != "" && in.OrgName != "" {
		where = "its space with " + Quote("cf", "target", "-o", in.OrgName, "-s", in.SpaceName)
	}
	return fmt.Errorf("the route's service %q is not in the targeted space (%w): target %s", in.Name, err, where)
}

// RoutesOf returns the routes that are bound to an instance.
func (c *CLI) RoutesOf(ctx context.Context, in Instance) ([]route.Route, error) {
	bindings, also, err := c.list(ctx, "/v3/service_route_bindings?service_instance_guids="+in.GUID.String()+"&include=route")
	if err != nil {
		return nil, err
	}
	routes := make([]route.Route, 0, len(bindings))
	for _, binding := range bindings {
		one, ok := also.find("routes", binding.related("route"))
		if !ok {
			return nil, fmt.Errorf("routes of %q: one of them is not shown", in.Name)
		}
		parsed, err := route.Parse(one.URL)
		if err != nil {
			return nil, err
		}
		routes = append(routes, parsed)
	}
	return routes, nil
}

// Parameters returns what the broker says about an instance, as "cf service NAME
// --params" shows it.
func (c *CLI) Parameters(ctx context.Context, in Instance) (json.RawMessage, error) {
	var found json.RawMessage
	err := c.get(ctx, "/v3/service_instances/"+in.GUID.String()+"/parameters", &found)
	if err != nil {
		return nil, fmt.Errorf("parameters of %q: %w", in.Name, err)
	}
	return found, nil
}

// RouteURL returns host[/path] of the route with this guid.
func (c *CLI) RouteURL(ctx context.Context, guid string) (string, error) {
	id, err := identity.ParseGUID(guid)
	if err != nil {
		return "", err
	}
	var found resource
	if err := c.get(ctx, "/v3/routes/"+id.String(), &found); err != nil {
		return "", err
	}
	return found.URL, nil
}

package cf

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

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

// A Binding is a route and the guid of the managed service instance that it is bound
// to.
type Binding struct {
	Route    route.Route
	Instance string
}

// Instance is a service instance of the gateway's.
type Instance struct {
	GUID identity.GUID
	Name string
	// Space and Org are the owner; their names are as they are, and "" where the user
	// may not see them or they cannot be printed.
	Space, Org         identity.GUID
	SpaceName, OrgName string
}

// A Spot is a route as its owner names it. Host may be "", for the domain itself;
// Path is "" or begins with a slash.
type Spot struct{ Domain, Host, Path string }

// String is host.domain/path.
func (s Spot) String() string { return strings.TrimPrefix(s.Host+"."+s.Domain, ".") + s.Path }

// Route returns where a route is bound.
func (c *CLI) Route(ctx context.Context, at Spot) (Bound, error) {
	guids, err := c.Find(ctx, at)
	if err != nil {
		return Bound{}, err
	}
	bound, err := c.BoundTo(ctx, guids[at])
	if err != nil {
		return Bound{}, err
	}
	there, ok := bound[guids[at]]
	if !ok {
		return Bound{}, fmt.Errorf("route %s is %w", at, ErrNotBound)
	}
	in, err := c.Instance(ctx, there.Instance)
	if err != nil {
		return Bound{}, fmt.Errorf("service of route %s: %w", there.Route, err)
	}
	return Bound{there.Route, in}, nil
}

// RouteNamed returns where a route is bound, host[/path], by whatever domain it is on.
func (c *CLI) RouteNamed(ctx context.Context, name string) (Bound, error) {
	of, err := route.Parse(name)
	if err != nil {
		return Bound{}, err
	}
	for host, domain := "", of.Host; ; {
		found, err := c.Route(ctx, Spot{Domain: domain, Host: host, Path: of.Path})
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

// Find returns the guids of routes.
func (c *CLI) Find(ctx context.Context, spots ...Spot) (map[Spot]string, error) {
	guids := map[Spot]string{}
	domains := map[string][]Spot{}
	for _, one := range spots {
		domains[one.Domain] = append(domains[one.Domain], one)
	}
	for domain, list := range domains {
		of, err := c.named(ctx, "domain", domain, "/v3/domains?")
		if err != nil {
			return nil, err
		}
		for some := range slices.Chunk(list, atOnce) {
			if err := c.find(ctx, of.GUID, some, guids); err != nil {
				return nil, err
			}
		}
	}
	return guids, nil
}

func (c *CLI) find(ctx context.Context, domain string, spots []Spot, guids map[Spot]string) error {
	hosts := make([]string, len(spots))
	for i, one := range spots {
		hosts[i] = value(one.Host)
	}
	// No host is asked for, too: else all routes of the domain would be listed.
	found, _, err := c.list(ctx, "/v3/routes?domain_guids="+value(domain)+"&hosts="+strings.Join(hosts, ","))
	if err != nil {
		return err
	}
	for _, at := range spots {
		one, err := only("route", at.String(), found, func(r resource) bool {
			// gorouter compares without regard to case.
			return strings.EqualFold(r.Host, at.Host) && strings.EqualFold(r.Path, at.Path) && r.Port == nil
		})
		if err != nil {
			return fmt.Errorf("%w; cf routes lists those of the targeted space", err)
		}
		guids[at] = one.GUID
	}
	return nil
}

// atOnce is how many guids are asked for in one request.
const atOnce = 100

// BoundTo returns where the routes of these guids are bound, by guid. Of a route that
// is bound to nothing that the user can see there is none.
func (c *CLI) BoundTo(ctx context.Context, guids ...string) (map[string]Binding, error) {
	found := map[string]Binding{}
	for some := range slices.Chunk(guids, atOnce) {
		list := make([]string, len(some))
		for i, guid := range some {
			list[i] = value(guid)
		}
		bindings, in, err := c.list(ctx, "/v3/service_route_bindings?route_guids="+strings.Join(list, ",")+"&include=route,service_instance")
		if err != nil {
			return nil, err
		}
		for _, one := range bindings {
			guid := one.related("route")
			if _, again := found[guid]; again {
				return nil, fmt.Errorf("route %s: expected one binding, found several", found[guid].Route)
			}
			if found[guid], err = readBinding(one, in); err != nil {
				return nil, err
			}
		}
	}
	return found, nil
}

func readBinding(binding resource, in included) (b Binding, err error) {
	at, ok := in.find("routes", binding.related("route"))
	if !ok {
		return b, errors.New("a route binding is of a route that is not shown")
	}
	if b.Route, err = route.Parse(at.URL); err != nil {
		return b, err
	}
	b.Instance = binding.related("service_instance")
	if one, ok := in.find("service_instances", b.Instance); ok && one.Type == "user-provided" {
		return b, fmt.Errorf("route %s is bound to %q, a user-provided service, and not to %s", b.Route, one.Name, Offering)
	}
	return b, nil
}

// Instance reads a service instance by its guid, and refuses that of another service: it would
// be sent parameters that are not for it.
func (c *CLI) Instance(ctx context.Context, guid string) (in Instance, err error) {
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
	if in.Name = Printable(found.Name); in.Name == "" {
		return in, fmt.Errorf("%q: a name that cannot be printed; rename it", found.Name)
	}
	if !slices.ContainsFunc(found.Included["service_offerings"], func(r resource) bool { return r.Name == Offering }) {
		return in, fmt.Errorf("%q is not an instance of %s", in.Name, Offering)
	}
	if in.Space, err = identity.ParseGUID(found.related("space")); err != nil {
		return in, err
	}
	space, _ := found.Included.find("spaces", in.Space.String())
	in.SpaceName = Printable(space.Name)
	if org := found.Included["organizations"]; len(org) == 1 {
		in.OrgName = Printable(org[0].Name)
		in.Org, _ = identity.ParseGUID(org[0].GUID) // zero: not known
	}
	return in, nil
}

// Targeting is the command that targets the space of the instance; "": its name is
// not known, or none that cf would take for one.
func (in Instance) Targeting() string {
	if CheckArgument("org", in.OrgName) != nil || CheckArgument("space", in.SpaceName) != nil {
		return ""
	}
	return Quote("cf", "target", "-o", in.OrgName, "-s", in.SpaceName)
}

// InTarget refuses an instance that "cf update-service NAME" would not mean: it
// takes a name, and another space can have another instance of that name.
func (c *CLI) InTarget(ctx context.Context, in Instance) error {
	if err := CheckArgument("service", in.Name); err != nil {
		return err
	}
	// As update-service looks for it: where cf takes another name for this one, so
	// would the command.
	guid, err := c.guid(ctx, "service", in.Name)
	switch {
	case err == nil && guid == in.GUID:
		return nil
	case err == nil:
		err = errors.New("the one there of that name is another")
	}
	where := "space " + in.Space.String()
	if command := in.Targeting(); command != "" {
		where = "its space with " + command
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

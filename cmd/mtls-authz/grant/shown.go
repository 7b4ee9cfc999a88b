package grant

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/mistake"
	"github.com/mtls-authz/mtls-authz/grants/parameters"
	"github.com/mtls-authz/mtls-authz/grants/route"
)

// shown is what the broker says about an instance: its parameters, and what is in
// force.
type shown struct {
	parameters parameters.Parameters
	status     struct {
		Scope  string       `json:"scope"`
		Routes []routeShown `json:"routes"`
	}
}

type routeShown struct {
	Route  string `json:"route"`
	Scope  string `json:"scope"`
	Mode   string `json:"mode"`
	Grants []struct {
		Origin string          `json:"origin"`
		Grant  json.RawMessage `json:"grant"`
	} `json:"grants"`
	Total int `json:"grants_total"`
}

func parse(raw json.RawMessage) (s shown, err error) {
	var document map[string]json.RawMessage
	if err := json.Unmarshal(raw, &document); err != nil {
		return s, fmt.Errorf("parameters of the service: %w", mistake.OfJSON(err, "the parameters"))
	}
	if err := json.Unmarshal(document["status"], &s.status); err != nil {
		return s, fmt.Errorf("parameters of the service: status: %w", mistake.OfJSON(err, "status"))
	}
	delete(document, "status")
	given, err := json.Marshal(document)
	if err != nil {
		return s, err
	}
	if s.parameters, err = parameters.ParseInstance(given); err != nil {
		return s, fmt.Errorf("parameters of the service, as the gateway shows them: %w; is this command as new as the gateway?", err)
	}
	return s, nil
}

// of is what is in force on a route.
func (s shown) of(r route.Route) (routeShown, error) {
	for _, one := range s.status.Routes {
		if one.Route == r.String() {
			return one, nil
		}
	}
	return routeShown{}, fmt.Errorf("the gateway knows nothing of route %s, which Cloud Controller shows as bound: unbind it and bind it again", r)
}

// inForce is a grant in force and where it comes from.
type inForce struct {
	grants.Grant
	origin string
}

func (r routeShown) inForce() ([]inForce, error) {
	found := make([]inForce, 0, len(r.Grants))
	for _, one := range r.Grants {
		grant, err := grants.ParseGrant(one.Grant)
		if err != nil {
			return nil, fmt.Errorf("grants of %s: %w; is this command as new as the gateway?", r.Route, err)
		}
		found = append(found, inForce{grant, one.Origin})
	}
	return found, nil
}

// narrowed is the grant limited to these routes; none: to no route in particular.
func narrowed(g grants.Grant, routes ...route.Route) grants.Grant {
	terms := grants.Terms{}
	if g.Terms != nil {
		terms = *g.Terms
	}
	terms.Routes = routes
	if len(routes) == 0 {
		terms.Routes = nil
	}
	g.Terms = &terms
	if !g.IsConditional() && terms.Reason == "" {
		g.Terms = nil
	}
	return g
}

// routesOf are those of bound that the grant applies to.
func routesOf(g grants.Grant, bound []route.Route) []route.Route {
	if g.Terms == nil || g.Terms.Routes == nil {
		return bound
	}
	return g.Terms.Routes
}

// without is the routes less one, each once.
func without(routes []route.Route, gone route.Route) (rest []route.Route) {
	for _, one := range routes {
		if one != gone && !slices.Contains(rest, one) {
			rest = append(rest, one)
		}
	}
	return rest
}

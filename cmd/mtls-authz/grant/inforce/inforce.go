// Package inforce is what there is before a change of grants: where a route is
// bound, and what is written and in force there, as the service broker shows it.
//
// What is shown is outside text: it is read by the broker's own parser, and what is
// not understood is an error. A name stands for what the gateway says, and for
// nobody where it says nothing.
package inforce

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/cf"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/mistake"
	"github.com/mtls-authz/mtls-authz/grants/parameters"
	"github.com/mtls-authz/mtls-authz/grants/route"
)

// A Situation is a bound route with what is known of its service instance.
type Situation struct {
	cf.Bound
	// Routes are all that are bound to the instance.
	Routes []route.Route
	// Parameters are the instance's.
	Parameters parameters.Parameters
	// Warnings are the gateway's, for all routes of the instance.
	Warnings []string

	shown []routeShown
}

// Look finds the route, its service and what is allowed now.
func Look(ctx context.Context, cli *cf.CLI, at cf.Spot) (s Situation, err error) {
	if s.Bound, err = cli.Route(ctx, at); err != nil {
		return s, err
	}
	if s.Routes, err = cli.RoutesOf(ctx, s.Instance); err != nil {
		return s, err
	}
	if !slices.Contains(s.Routes, s.Route) {
		return s, fmt.Errorf("route %s is not among those of its service %q; try again", s.Route, s.Instance.Name)
	}
	raw, err := cli.Parameters(ctx, s.Instance)
	if err != nil {
		return s, err
	}
	return s, s.read(raw)
}

type routeShown struct {
	Route  string `json:"route"`
	Scope  string `json:"scope"`
	Mode   string `json:"mode"`
	Grants []struct {
		Origin string          `json:"origin"`
		Name   string          `json:"name"`
		Grant  json.RawMessage `json:"grant"`
		// StandsFor is one of the sources that the grant's name stands for, each of
		// which has an element of its own; "": it has none.
		StandsFor string `json:"stands_for"`
	} `json:"grants"`
	Total int `json:"grants_total"`
}

func (s *Situation) read(raw json.RawMessage) error {
	var document map[string]json.RawMessage
	if err := json.Unmarshal(raw, &document); err != nil {
		return fmt.Errorf("parameters of the service: %w", mistake.OfJSON(err, "the parameters"))
	}
	var status struct {
		Routes   []routeShown `json:"routes"`
		Warnings []string     `json:"warnings"`
	}
	if err := json.Unmarshal(document["status"], &status); err != nil {
		return fmt.Errorf("parameters of the service: status: %w", mistake.OfJSON(err, "status"))
	}
	s.shown, s.Warnings = status.Routes, status.Warnings
	delete(document, "status")
	given, err := json.Marshal(document)
	if err != nil {
		return err
	}
	if s.Parameters, err = parameters.ParseInstance(given); err != nil {
		return fmt.Errorf("parameters of the service, as the gateway shows them: %w; is this command as new as the gateway?", err)
	}
	return nil
}

// Here is what is in force on the route of a situation.
type Here struct {
	// Scope and Mode are words of the gateway.
	Scope, Mode string
	// Grants are the written ones: those in force, and those by name that stand for
	// nobody as long as More is 0.
	Grants []Grant
	// Total is how many are in force, each holder of a name counted; More of them
	// are not shown.
	Total, More int
}

// Here reads what is in force.
func (s Situation) Here() (h Here, err error) {
	at := slices.IndexFunc(s.shown, func(r routeShown) bool { return r.Route == s.Route.String() })
	if at < 0 {
		return h, fmt.Errorf("the gateway knows nothing of route %s, which Cloud Controller shows as bound: unbind it and bind it again", s.Route)
	}
	shown := s.shown[at]
	h = Here{Scope: shown.Scope, Mode: shown.Mode, Total: shown.Total, More: max(0, shown.Total-len(shown.Grants))}
	if h.Grants, err = shown.read(); err != nil {
		return h, fmt.Errorf("grants of %s: %w; is this command as new as the gateway?", s.Route, err)
	}
	if h.More == 0 { // else an entry may stand for what is not shown
		h.Grants = append(h.Grants, s.forNobody(h.Grants)...)
	}
	return h, nil
}

// forNobody are the entries of the instance by name that are not in force.
func (s Situation) forNobody(has []Grant) (list []Grant) {
	own := grants.FromInstance.String()
	for _, one := range s.Parameters.Allow {
		inForce := slices.ContainsFunc(has, func(g Grant) bool { return g.is(own, one) })
		if one.Source.Kind == grants.Named && !inForce && !one.Expired(time.Now()) && slices.Contains(s.RoutesOf(one), s.Route) {
			list = append(list, Grant{Grant: one, Origin: own})
		}
	}
	return list
}

// RoutesOf are the routes that a grant of the instance applies to.
func (s Situation) RoutesOf(g grants.Grant) []route.Route {
	if g.Terms == nil || g.Terms.Routes == nil {
		return s.Routes
	}
	return g.Terms.Routes
}

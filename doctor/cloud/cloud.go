// Package cloud reads from Cloud Controller what is bound there, and who may create
// routes in a domain.
//
// It trusts the lists that it is given to be whole, or an error. The route service
// URLs in them hold secrets: of each, scheme and host are kept.
package cloud

import (
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"strings"

	"github.com/mtls-authz/mtls-authz/doctor/bound"
	"github.com/mtls-authz/mtls-authz/doctor/state"
)

// Lister reads all pages of a list of Cloud Controller's v3 API.
type Lister interface {
	List(ctx context.Context, path string, query url.Values, page func(raw json.RawMessage) error) error
}

// Controller is Cloud Controller as its lists tell; it is a bound.CloudController.
type Controller struct{ Lister Lister }

// Orgs counts the orgs that the client may see.
func (c Controller) Orgs(ctx context.Context) (orgs int, err error) {
	err = c.Lister.List(ctx, "/v3/organizations", url.Values{}, func(raw json.RawMessage) error {
		var page struct {
			Resources []struct{} `json:"resources"`
		}
		err := json.Unmarshal(raw, &page)
		orgs += len(page.Resources)
		return err
	})
	return orgs, err
}

// to is a relationship to one; Data is nil where there is none.
type to struct {
	Data *struct {
		GUID string `json:"guid"`
	} `json:"data"`
}

func (t to) guid() string {
	if t.Data == nil {
		return ""
	}
	return t.Data.GUID
}

// inSpace is a resource that lies in a space.
type inSpace struct {
	GUID          string `json:"guid"`
	URL           string `json:"url"`
	Relationships struct {
		Space to `json:"space"`
	} `json:"relationships"`
}

// bindingsPage is a page of /v3/service_route_bindings.
type bindingsPage struct {
	Resources []struct {
		GUID            string `json:"guid"`
		RouteServiceURL string `json:"route_service_url"`
		Relationships   struct {
			Instance to `json:"service_instance"`
			Route    to `json:"route"`
		} `json:"relationships"`
	} `json:"resources"`
	Included struct {
		Routes    []inSpace `json:"routes"`
		Instances []inSpace `json:"service_instances"`
	} `json:"included"`
}

// RouteBindings are all bindings of routes that the client may see.
func (c Controller) RouteBindings(ctx context.Context) (all []bound.RouteBinding, err error) {
	query := url.Values{"include": {"route,service_instance"}}
	err = c.Lister.List(ctx, "/v3/service_route_bindings", query, func(raw json.RawMessage) error {
		var page bindingsPage
		if err := json.Unmarshal(raw, &page); err != nil {
			return err
		}
		routes, instances := byGUID(page.Included.Routes), byGUID(page.Included.Instances)
		for _, r := range page.Resources {
			route, instance := routes[r.Relationships.Route.guid()], instances[r.Relationships.Instance.guid()]
			all = append(all, bound.RouteBinding{
				ID: r.GUID, Instance: r.Relationships.Instance.guid(), Service: state.Prefix(r.RouteServiceURL),
				Route: strings.ToLower(route.URL), RouteSpace: route.Relationships.Space.guid(), InstanceSpace: instance.Relationships.Space.guid(),
			})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

func byGUID(resources []inSpace) map[string]inSpace {
	all := make(map[string]inSpace, len(resources))
	for _, r := range resources {
		all[r.GUID] = r
	}
	return all
}

// domainsPage is a page of /v3/domains.
type domainsPage struct {
	Resources []struct {
		Name          string `json:"name"`
		Relationships struct {
			Organization to `json:"organization"`
			Shared       struct {
				Data []struct {
					GUID string `json:"guid"`
				} `json:"data"`
			} `json:"shared_organizations"`
		} `json:"relationships"`
	} `json:"resources"`
}

// namesAtOnce keeps the query within what servers read.
const namesAtOnce = 50

// Domains are those of the names that there are.
func (c Controller) Domains(ctx context.Context, names []string) (map[string]bound.Domain, error) {
	all := map[string]bound.Domain{}
	for part := range slices.Chunk(names, namesAtOnce) {
		err := c.Lister.List(ctx, "/v3/domains", url.Values{"names": {strings.Join(part, ",")}}, func(raw json.RawMessage) error {
			var page domainsPage
			if err := json.Unmarshal(raw, &page); err != nil {
				return err
			}
			for _, r := range page.Resources {
				domain := bound.Domain{Shared: r.Relationships.Organization.Data == nil}
				if !domain.Shared {
					domain.Orgs = []string{r.Relationships.Organization.guid()}
				}
				for _, org := range r.Relationships.Shared.Data {
					domain.Orgs = append(domain.Orgs, org.GUID)
				}
				all[strings.ToLower(r.Name)] = domain
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

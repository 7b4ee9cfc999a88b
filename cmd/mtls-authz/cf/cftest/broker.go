package cftest

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/names"
	"github.com/mtls-authz/mtls-authz/grants/parameters"
	"github.com/mtls-authz/mtls-authz/grants/route"
	"github.com/mtls-authz/mtls-authz/identity"
)

// status is the read-only part of what the gateway's broker shows.
type status struct {
	Plan     string        `json:"plan"`
	Scope    string        `json:"scope"`
	Mode     string        `json:"mode"`
	Policy   string        `json:"policy"`
	Routes   []routeStatus `json:"routes"`
	Warnings []string      `json:"warnings"`
}

type routeStatus struct {
	Route   string        `json:"route"`
	Binding string        `json:"binding"`
	Scope   string        `json:"scope"`
	Mode    string        `json:"mode"`
	Grants  []grantStatus `json:"grants"`
	Total   int           `json:"grants_total"`
}

type grantStatus struct {
	Origin    string       `json:"origin"`
	Name      string       `json:"name,omitempty"`
	Grant     grants.Grant `json:"grant"`
	StandsFor string       `json:"stands_for,omitempty"`
}

// must is for what a test has written into its foundation.
func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// parameters are what the gateway's broker shows, connected to Cloud Controller.
func (f Foundation) parameters(in Instance) json.RawMessage {
	given, now := must(parameters.ParseInstance(in.Parameters)), time.Now()
	plan := must(grants.ParseScope(in.Plan))
	s := status{
		Plan: in.Plan, Scope: grants.Narrowest(plan, given.Scope).String(), Mode: given.Mode.String(), Policy: "f8355b9a0e2d7c41",
		Routes: []routeStatus{}, Warnings: []string{},
	}
	owner := grants.Owner{Instance: in.GUID, Space: must(identity.ParseGUID(in.Space)), Org: must(identity.ParseGUID(f.orgOf(in.Space)))}
	for _, one := range f.Routes {
		if one.Instance != in.GUID {
			continue
		}
		access := parameters.NewAccess(parameters.Bound{
			Binding: one.GUID, Route: must(route.Parse(f.urlOf(one))), Owner: owner, Plan: plan, Instance: given, Names: &names.Book{}, ReportAllowed: true,
		})
		entries := map[names.Reference]names.Resolution{}
		for _, reference := range access.References() {
			entries[reference] = f.resolve(reference)
		}
		access.Names.Turn(names.NewPage(entries))
		s.Routes = append(s.Routes, f.shown(access.Live(now, nil)))
		for _, naming := range access.Namings() {
			if text := naming.Warning(now); text != "" && !slices.Contains(s.Warnings, text) {
				s.Warnings = append(s.Warnings, text)
			}
		}
	}
	for i, one := range s.Routes {
		if one.Total == 0 {
			s.Warnings = append(s.Warnings, fmt.Sprintf("routes[%d]: nobody may call %s; add somebody with allow_add", i, one.Route))
		}
	}
	document := map[string]any{}
	if err := json.Unmarshal(given.JSON(), &document); err != nil {
		panic(err)
	}
	document["status"] = s
	return must(json.MarshalIndent(document, "", "  "))
}

// maxGrants is how many grants of a route the broker shows.
const maxGrants = 200

func (f Foundation) shown(live *grants.Live) routeStatus {
	r := routeStatus{Route: live.Route.String(), Binding: live.Binding, Scope: live.Scope.String(), Mode: live.Mode.String(), Grants: []grantStatus{}, Total: len(live.Rules)}
	for _, rule := range live.Rules[:min(len(live.Rules), maxGrants)] {
		one := grantStatus{Origin: rule.Origin.String(), Grant: rule.Written(), Name: f.called(rule.Source, live.Owner.Org.String())}
		if one.Grant.Source.Kind == grants.Named {
			one.StandsFor = rule.Source.String()
		}
		r.Grants = append(r.Grants, one)
	}
	return r
}

// resolve looks a name up.
func (f Foundation) resolve(r names.Reference) (found names.Resolution) {
	hold := func(guid string) {
		found.Holders = append(found.Holders, names.Holder{ID: must(identity.ParseGUID(guid))})
	}
	space := r.Space.String()
	for _, one := range f.Spaces {
		if one.Org == r.Org.String() && one.Name == r.Name.Space {
			space = one.GUID
			if r.Name.Kind == names.Space {
				hold(one.GUID)
			}
		}
	}
	for _, one := range f.Apps {
		is := r.Name.Kind == names.App && one.Name == r.Name.App || r.Name.Kind == names.Labelled && bears(one.Labels, r.Name.Labels)
		if is && one.Space == space {
			hold(one.GUID)
		}
	}
	slices.SortFunc(found.Holders, func(a, b names.Holder) int { return slices.Compare(a.ID[:], b.ID[:]) })
	if len(found.Holders) == 0 {
		found.Missing = time.Date(2026, 5, 4, 10, 15, 30, 0, time.UTC)
	}
	return found
}

// called is org/space/app of what is in an org.
func (f Foundation) called(source grants.Source, org string) string {
	guid := source.ID.String()
	for _, one := range f.Orgs {
		if one.GUID == org && one.GUID == guid {
			return one.Name
		}
	}
	for _, space := range f.Spaces {
		if space.Org != org {
			continue
		}
		above := f.called(grants.Source{ID: must(identity.ParseGUID(org))}, org) + "/" + space.Name
		if space.GUID == guid {
			return above
		}
		for _, app := range f.Apps {
			if app.GUID == guid && app.Space == space.GUID {
				return above + "/" + app.Name
			}
		}
	}
	return ""
}

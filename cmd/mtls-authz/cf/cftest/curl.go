package cftest

import (
	"cmp"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

type object = map[string]any

func refusal(title, detail string, code int) object {
	return object{"errors": []object{{"code": code, "title": title, "detail": detail}}}
}

func to(guid string) object { return object{"data": object{"guid": guid}} }

// curl is what Cloud Controller answers to GET.
func (f Foundation) curl(address string) any {
	if f.NoLogin {
		return refusal("CF-NotAuthenticated", "Authentication error", 10002)
	}
	at, err := url.Parse(address)
	if err != nil {
		return refusal("CF-BadQueryParameter", err.Error(), 10005)
	}
	parts := strings.Split(strings.TrimPrefix(at.Path, "/v3/"), "/")
	all, known := f.resources()[parts[0]]
	if !known {
		return refusal("CF-NotFound", "Unknown request", 10000)
	}
	if len(parts) == 1 {
		return f.page(parts[0], all, at.Query())
	}
	for _, one := range all {
		if one["guid"] != parts[1] || slices.Contains(f.Hidden, parts[1]) {
			continue
		}
		if len(parts) == 3 && parts[2] == "parameters" {
			in := slices.IndexFunc(f.Instances, func(i Instance) bool { return i.GUID == parts[1] })
			return f.parameters(f.Instances[in])
		}
		one["included"] = f.included([]object{one}, at.Query())
		return one
	}
	return refusal("CF-ResourceNotFound", "Resource not found", 10010)
}

func (f Foundation) named(domain string) string {
	for _, one := range f.Domains {
		if one.GUID == domain {
			return one.Name
		}
	}
	return ""
}

func (f Foundation) urlOf(r Route) string {
	return strings.TrimPrefix(r.Host+"."+f.named(r.Domain), ".") + r.Path
}

// resources are all there are, by the name of their list.
func (f Foundation) resources() map[string][]object {
	all := map[string][]object{
		"organizations": {}, "spaces": {}, "apps": {}, "domains": {}, "routes": {}, "service_instances": {}, "service_route_bindings": {}, "route_policies": {},
	}
	add := func(kind, guid, name string, related object, more object) {
		one := object{"guid": guid, "name": name, "relationships": related, "links": object{"self": object{"href": "https://api.example.com/v3/" + kind + "/" + guid}}}
		for key, value := range more {
			one[key] = value
		}
		all[kind] = append(all[kind], one)
	}
	for _, o := range f.Orgs {
		add("organizations", o.GUID, o.Name, object{"quota": to("q")}, nil)
	}
	for _, s := range f.Spaces {
		add("spaces", s.GUID, s.Name, object{"organization": to(s.Org), "quota": object{"data": nil}}, nil)
	}
	for _, a := range f.Apps {
		add("apps", a.GUID, a.Name, object{"space": to(a.Space)}, object{"labels": a.Labels})
	}
	for _, d := range f.Domains {
		add("domains", d.GUID, d.Name, object{"organization": object{"data": nil}, "shared_organizations": object{"data": []object{}}}, nil)
	}
	for _, r := range f.Routes {
		add("routes", r.GUID, "", object{"space": to(r.Space), "domain": to(r.Domain)}, object{"host": r.Host, "path": r.Path, "port": nil, "url": f.urlOf(r)})
		if r.Instance != "" {
			add("service_route_bindings", "b-"+r.GUID, "", object{"route": to(r.GUID), "service_instance": to(r.Instance)},
				object{"route_service_url": "https://mtls-authz.example/r/binding/SECRET-TOKEN"})
		}
	}
	for _, i := range f.Instances {
		kind := "managed"
		if i.Offering == "" {
			kind = "user-provided"
		}
		add("service_instances", i.GUID, i.Name, object{"space": to(i.Space)}, object{"type": kind, "offering": i.Offering})
	}
	for _, p := range f.Policies {
		add("route_policies", p.GUID, "", object{"route": to(p.Route)}, object{"source": p.Source})
	}
	return all
}

// filters say what a query parameter is compared with.
var filters = map[string]string{
	"names": "name", "guids": "guid", "hosts": "host", "organization_guids": "organization", "space_guids": "space", "domain_guids": "domain",
	"route_guids": "route", "service_instance_guids": "service_instance",
}

func valueOf(one object, field string) any {
	if plain, ok := one[field]; ok {
		return plain
	}
	related, _ := one["relationships"].(object)
	data, _ := related[field].(object)
	guid, _ := data["data"].(object)
	return guid["guid"]
}

func (f Foundation) page(kind string, all []object, query url.Values) object {
	size, _ := strconv.Atoi(query.Get("per_page"))
	number, _ := strconv.Atoi(query.Get("page"))
	if f.PageSize > 0 {
		size = f.PageSize
	}
	size, number = cmp.Or(size, 50), max(number, 1)
	found := slices.DeleteFunc(slices.Clone(all), func(one object) bool { return slices.Contains(f.Hidden, one["guid"].(string)) })
	for name, values := range query {
		field, known := filters[name]
		if name == "label_selector" && kind == "apps" {
			found = slices.DeleteFunc(found, func(one object) bool { return !bears(one["labels"].(string), values[0]) })
			continue
		}
		if !known && !slices.Contains([]string{"per_page", "page", "include"}, name) {
			return refusal("CF-BadQueryParameter", "The query parameter is invalid: Unknown query parameter(s): '"+name+"'", 10005)
		}
		if known {
			found = slices.DeleteFunc(found, func(one object) bool { return !oneOf(values[0], valueOf(one, field)) })
		}
	}
	next := any(nil)
	if number*size < len(found) {
		next = object{"href": "https://api.example.com/v3/" + kind + "?page=" + strconv.Itoa(number+1)}
	}
	some := found[min((number-1)*size, len(found)):min(number*size, len(found))]
	if some == nil {
		some = []object{}
	}
	return object{
		"pagination": object{"total_results": len(found), "total_pages": max(1, (len(found)+size-1)/size), "next": next},
		"resources":  some, "included": f.included(some, query),
	}
}

// bears reports whether all labels that are wanted are there.
func bears(labels, wanted string) bool {
	for one := range strings.SplitSeq(wanted, ",") {
		if !slices.Contains(strings.Split(labels, ","), one) {
			return false
		}
	}
	return true
}

// oneOf compares as Cloud Controller does: split at commas, each part decoded, and
// left as it is where it is no code.
func oneOf(filter string, is any) bool {
	for part := range strings.SplitSeq(filter, ",") {
		decoded, err := url.PathUnescape(part)
		if err != nil {
			decoded = part
		}
		if decoded == is {
			return true
		}
	}
	return false
}

// included are the resources that were asked for beside some.
func (f Foundation) included(some []object, query url.Values) object {
	in, all := object{}, f.resources()
	bring := func(kind string, from []object, field string) (found []object) {
		for _, one := range from {
			for _, candidate := range all[kind] {
				guid := candidate["guid"].(string)
				if guid == valueOf(one, field) && !slices.Contains(f.Hidden, guid) {
					found = append(found, candidate)
				}
			}
		}
		in[kind] = found
		return found
	}
	for kind := range strings.SplitSeq(query.Get("include"), ",") {
		if kind != "" {
			bring(kind+"s", some, kind)
		}
	}
	if query.Has("fields[space]") {
		bring("organizations", bring("spaces", some, "space"), "organization")
	}
	if offering, _ := some0(some)["offering"].(string); query.Has("fields[service_plan.service_offering]") && offering != "" {
		in["service_offerings"] = []object{{"guid": "o", "name": offering}}
	}
	return in
}

func some0(some []object) object {
	if len(some) == 0 {
		return nil
	}
	return some[0]
}

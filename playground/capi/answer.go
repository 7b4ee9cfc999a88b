package capi

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

type object = map[string]any

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client may be gone
}

// errors of Cloud Controller (errors/v2.yml).
var known = map[int]object{
	http.StatusUnauthorized:    {"code": 1000, "title": "CF-InvalidAuthToken", "detail": "Invalid Auth Token"},
	http.StatusForbidden:       {"code": 10003, "title": "CF-NotAuthorized", "detail": "You are not authorized to perform the requested action"},
	http.StatusNotFound:        {"code": 10010, "title": "CF-ResourceNotFound", "detail": "Service instance not found"},
	http.StatusTooManyRequests: {"code": 10013, "title": "CF-RateLimitExceeded", "detail": "Rate Limit Exceeded"},
	http.StatusBadRequest:      {"code": 10005, "title": "CF-BadQueryParameter", "detail": "The query parameter is invalid"},
}

func refuse(w http.ResponseWriter, status int, body string) {
	if body != "" {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body)) // as above
		return
	}
	document, ok := known[status]
	if !ok {
		document = object{"code": 10001, "title": "UnknownError", "detail": "An unknown error occurred."}
	}
	answer(w, status, object{"errors": []object{document}})
}

func link(r *http.Request, path string) object { return object{"href": "https://" + r.Host + path} }

func (c *Cloud) root(w http.ResponseWriter, r *http.Request) {
	v3 := link(r, "/v3")
	v3["meta"] = object{"version": "3.228.0"}
	answer(w, http.StatusOK, object{"links": object{
		"self": link(r, ""), "cloud_controller_v3": v3, "network_policy_v1": link(r, "/networking/v1/external"),
		"login": link(r, ""), "uaa": link(r, ""), "credhub": nil, "routing": nil, "logging": nil, "log_cache": nil,
		"app_ssh": object{"href": "ssh.example.com:2222", "meta": object{"oauth_client": "ssh-proxy"}},
	}})
}

func (c *Cloud) rootV3(w http.ResponseWriter, r *http.Request) {
	links := object{"self": link(r, "/v3"), "service_instances": link(r, "/v3/service_instances")}
	for kind := range c.entities {
		links[kind] = link(r, "/v3/"+kind)
	}
	answer(w, http.StatusOK, object{"links": links})
}

func (c *Cloud) permissions(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	who, ok := c.bearer(w, r)
	if !ok {
		return
	}
	users, there := c.instances[r.PathValue("guid")]
	if !there {
		refuse(w, http.StatusNotFound, "")
		return
	}
	answer(w, http.StatusOK, users[who.user])
}

// filters are the lists that Cloud Controller takes of each kind.
var filters = map[string][]string{
	Orgs:   {"guids", "names"},
	Spaces: {"guids", "names", "organization_guids"},
	Apps:   {"guids", "names", "organization_guids", "space_guids"},
}

// values reads a list as Cloud Controller does: split, then decoded once more.
func values(text string) map[string]bool {
	all := map[string]bool{}
	for one := range strings.SplitSeq(text, ",") {
		if decoded, err := url.PathUnescape(one); err == nil {
			all[strings.TrimSpace(decoded)] = true
		}
	}
	return all
}

func (c *Cloud) list(w http.ResponseWriter, r *http.Request, kind string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	who, ok := c.bearer(w, r)
	if !ok {
		return
	}
	query := r.URL.Query()
	for name := range query {
		if !slices.Contains(filters[kind], name) && !slices.Contains([]string{"page", "per_page", "label_selector", "include", "order_by"}, name) {
			refuse(w, http.StatusBadRequest, "")
			return
		}
	}
	var found []Entity
	for _, e := range c.entities[kind] {
		if c.sees(who, c.orgOf(kind, e)) && c.fits(kind, e, query) {
			found = append(found, e)
		}
	}
	slices.SortFunc(found, func(a, b Entity) int { return cmp.Compare(a.GUID, b.GUID) })
	c.page(w, r, kind, found)
}

// one is a single entity.
func (c *Cloud) one(w http.ResponseWriter, r *http.Request, kind string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	who, ok := c.bearer(w, r)
	if !ok {
		return
	}
	e, there := c.entities[kind][r.PathValue("guid")]
	if !there || !c.sees(who, c.orgOf(kind, e)) {
		refuse(w, http.StatusNotFound, "")
		return
	}
	body := c.present(kind, []Entity{e})[0]
	if include := values(r.URL.Query().Get("include")); r.URL.Query().Has("include") {
		body["included"] = c.include(kind, []Entity{e}, include)
	}
	answer(w, http.StatusOK, body)
}

func (c *Cloud) sees(who bearer, org string) bool {
	if who.client != "" {
		return !c.hidden[org]
	}
	return c.users[c.nameOf(who.user)].org == org
}

func (c *Cloud) orgOf(kind string, e Entity) string {
	switch kind {
	case Spaces:
		return e.Parent
	case Apps:
		return c.entities[Spaces][e.Parent].Parent
	}
	return e.GUID
}

func (c *Cloud) fits(kind string, e Entity, query url.Values) bool {
	of := map[string]string{"guids": e.GUID, "names": e.Name, "organization_guids": c.orgOf(kind, e), "space_guids": e.Parent}
	for _, name := range filters[kind] {
		if query.Has(name) && !values(query.Get(name))[of[name]] {
			return false
		}
	}
	if selector := query.Get("label_selector"); selector != "" {
		for one := range strings.SplitSeq(selector, ",") {
			key, value, _ := strings.Cut(one, "=")
			if got, there := e.Labels[key]; !there || got != value {
				return false
			}
		}
	}
	return true
}

func (c *Cloud) page(w http.ResponseWriter, r *http.Request, kind string, found []Entity) {
	query := r.URL.Query()
	number, size := 1, 50
	for name, into := range map[string]*int{"page": &number, "per_page": &size} {
		if text := query.Get(name); text != "" {
			*into, _ = strconv.Atoi(text)
		}
	}
	if number < 1 || size < 1 || size > c.pageMost {
		refuse(w, http.StatusBadRequest, "")
		return
	}
	if c.pageLimit > 0 {
		size = min(size, c.pageLimit)
	}
	pages := max(1, (len(found)+size-1)/size)
	here := found[min(len(found), (number-1)*size):min(len(found), number*size)]
	at := func(page int) any {
		if page < 1 || page > pages {
			return nil
		}
		query.Set("page", strconv.Itoa(page))
		return link(r, r.URL.Path+"?"+query.Encode())
	}
	body := object{
		"pagination": object{
			"total_results": len(found), "total_pages": pages, "first": at(1), "last": at(pages), "next": at(number + 1), "previous": at(number - 1),
		},
		"resources": c.present(kind, here),
	}
	if include := values(query.Get("include")); query.Has("include") {
		body["included"] = c.include(kind, here, include)
	}
	answer(w, http.StatusOK, body)
}

func (c *Cloud) present(kind string, entities []Entity) []object {
	parent := map[string]string{Spaces: "organization", Apps: "space"}[kind]
	list := make([]object, 0, len(entities))
	for _, e := range entities {
		labels := e.Labels
		if labels == nil {
			labels = map[string]string{}
		}
		one := object{
			"guid": e.GUID, "name": e.Name, "created_at": "2026-05-04T10:15:00Z", "updated_at": "2026-05-04T10:15:00Z",
			"metadata": object{"labels": labels, "annotations": object{}},
			"links":    object{"self": object{"href": fmt.Sprintf("/v3/%s/%s", kind, e.GUID)}},
		}
		if parent != "" {
			one["relationships"] = object{parent: object{"data": object{"guid": e.Parent}}}
		}
		list = append(list, one)
	}
	return list
}

// include lists each parent once.
func (c *Cloud) include(kind string, entities []Entity, what map[string]bool) object {
	spaces, orgs := map[string]Entity{}, map[string]Entity{}
	for _, e := range entities {
		if kind == Apps && (what["space"] || what["space.organization"]) {
			spaces[e.Parent] = c.entities[Spaces][e.Parent]
		}
		if what["org"] || what["organization"] || what["space.organization"] {
			org := c.orgOf(kind, e)
			orgs[org] = c.entities[Orgs][org]
		}
	}
	included := object{}
	if len(spaces) > 0 {
		included["spaces"] = c.present(Spaces, slices.Collect(maps.Values(spaces)))
	}
	if len(orgs) > 0 {
		included["organizations"] = c.present(Orgs, slices.Collect(maps.Values(orgs)))
	}
	return included
}

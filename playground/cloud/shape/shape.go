// Package shape is how Cloud Controller's v3 API answers: resources with guids and
// relationships, lists that queries choose from, refusals with codes.
//
// It is for the playground's Cloud Controller. It refuses filters that it does not
// know: a client must not go well because one was ignored.
package shape

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Object is one in JSON.
type Object = map[string]any

// An Item is a resource as it is shown, and the values by which filters choose it,
// such as "guids" and "names".
type Item struct {
	Body Object
	Is   map[string]string
}

// Answer answers with a document.
func Answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client may be gone
}

// codes of errors; all others are 10008.
var codes = map[string]int{"CF-NotAuthenticated": 10002, "CF-ResourceNotFound": 10010, "CF-BadQueryParameter": 10005}

// Refuse answers with an error.
func Refuse(w http.ResponseWriter, status int, title, detail string) {
	code, known := codes[title]
	if !known {
		code = 10008
	}
	Answer(w, status, Object{"errors": []Object{{"code": code, "title": title, "detail": detail}}})
}

// NotFound answers that there is no such resource.
func NotFound(w http.ResponseWriter) {
	Refuse(w, http.StatusNotFound, "CF-ResourceNotFound", "Resource not found")
}

// One answers with the resource whose guid the path has, and what belongs to it.
func One(w http.ResponseWriter, r *http.Request, all []Item, included Object) {
	at := slices.IndexFunc(all, func(one Item) bool { return one.Is["guids"] == r.PathValue("guid") })
	if at < 0 {
		NotFound(w)
		return
	}
	if included != nil {
		all[at].Body["included"] = included
	}
	Answer(w, http.StatusOK, all[at].Body)
}

// List answers with the resources that the query chooses, all on one page, and what
// belongs to them.
func List(w http.ResponseWriter, r *http.Request, all []Item, included Object) {
	chosen := []Object{}
	for name := range r.URL.Query() {
		if !ignored(name) && slices.ContainsFunc(all, func(one Item) bool { _, known := one.Is[name]; return !known }) {
			Refuse(w, http.StatusBadRequest, "CF-BadQueryParameter", "The query parameter is invalid: Unknown query parameter(s): '"+name+"'")
			return
		}
	}
	for _, one := range all {
		if one.chosen(r.URL.Query()) {
			chosen = append(chosen, one.Body)
		}
	}
	body := Object{
		"pagination": Object{"total_results": len(chosen), "total_pages": 1, "first": nil, "last": nil, "next": nil, "previous": nil},
		"resources":  chosen,
	}
	if included != nil {
		body["included"] = included
	}
	Answer(w, http.StatusOK, body)
}

// ignored are parameters that choose nothing here.
func ignored(name string) bool {
	return slices.Contains([]string{"page", "per_page", "include", "order_by", "available", "type"}, name) || strings.HasPrefix(name, "fields[")
}

func (i Item) chosen(query url.Values) bool {
	for name, lists := range query {
		if !ignored(name) && !slices.ContainsFunc(lists, func(list string) bool { return has(list, i.Is[name]) }) {
			return false
		}
	}
	return true
}

// has reads a list of values as Cloud Controller does: split, then decoded once
// more.
func has(list, value string) bool {
	for one := range strings.SplitSeq(list, ",") {
		if decoded, err := url.PathUnescape(one); err == nil && decoded == value {
			return true
		}
	}
	return false
}

// Bodies are what is shown of items.
func Bodies(items []Item) []Object {
	all := make([]Object, 0, len(items))
	for _, one := range items {
		all = append(all, one.Body)
	}
	return all
}

// To is a relationship to one resource.
func To(guid string) Object { return Object{"data": Object{"guid": guid}} }

// Done is the last operation of a resource: it was made.
func Done() Object {
	return Object{"type": "create", "state": "succeeded", "description": "", "created_at": created, "updated_at": created}
}

const created = "2026-05-04T10:15:00Z"

// Resource is the body of one of a kind, with more in it.
func Resource(r *http.Request, kind, guid string, relationships, more Object) Object {
	body := Object{
		"guid": guid, "created_at": created, "updated_at": created, "relationships": relationships,
		"metadata": Object{"labels": Object{}, "annotations": Object{}},
		"links":    Object{"self": Object{"href": "https://" + r.Host + "/v3/" + kind + "/" + guid}},
	}
	for key, value := range more {
		body[key] = value
	}
	return body
}

package cloud_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/doctor/bound"
	"github.com/mtls-authz/mtls-authz/doctor/cloud"
)

// lists are Cloud Controller's answers, in pages, by path; it remembers what it
// was asked.
type lists struct {
	pages map[string][]string
	asked []string
	err   error
}

func (l *lists) List(_ context.Context, path string, query url.Values, page func(json.RawMessage) error) error {
	l.asked = append(l.asked, path+"?"+query.Encode())
	for _, raw := range l.pages[path] {
		if err := page(json.RawMessage(raw)); err != nil {
			return err
		}
	}
	return l.err
}

// Shapes of the API, version 3.
const (
	firstBindings = `{"pagination":{"total_results":2,"total_pages":2},"resources":[{
		"guid":"89c1d9a1","route_service_url":"https://mtls-authz.apps.example.com/r/89c1d9a1/THE-TOKEN","last_operation":{"type":"create","state":"succeeded"},
		"relationships":{"service_instance":{"data":{"guid":"si-1"}},"route":{"data":{"guid":"r-1"}}},"links":{}}],
		"included":{"routes":[{"guid":"r-1","host":"Backend","path":"/API","url":"Backend.apps.example.com/API","relationships":{"space":{"data":{"guid":"space-r"}},"domain":{"data":{"guid":"d"}}}}],
		"service_instances":[{"guid":"si-1","name":"my-authz","relationships":{"space":{"data":{"guid":"space-i"}}}}]}}`
	secondBindings = `{"pagination":{"total_results":2,"total_pages":2},"resources":[{
		"guid":"2","route_service_url":null,"relationships":{"service_instance":{"data":{"guid":"si-2"}},"route":{"data":{"guid":"gone"}}}}],"included":{"routes":[],"service_instances":[]}}`
	domains = `{"pagination":{"total_results":3,"total_pages":1},"resources":[
		{"guid":"1","name":"apps.example.com","internal":false,"relationships":{"organization":{"data":null},"shared_organizations":{"data":[]}}},
		{"guid":"2","name":"Own.example.com","relationships":{"organization":{"data":{"guid":"o1"}},"shared_organizations":{"data":[]}}},
		{"guid":"3","name":"team.example.com","relationships":{"organization":{"data":{"guid":"o1"}},"shared_organizations":{"data":[{"guid":"o2"}]}}}]}`
)

func TestRouteBindingsComeWithoutTheirToken(t *testing.T) {
	l := &lists{pages: map[string][]string{"/v3/service_route_bindings": {firstBindings, secondBindings}}}
	found, err := cloud.Controller{Lister: l}.RouteBindings(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []bound.RouteBinding{
		{ID: "89c1d9a1", Instance: "si-1", Route: "backend.apps.example.com/api", RouteSpace: "space-r", InstanceSpace: "space-i", Service: "https://mtls-authz.apps.example.com"},
		{ID: "2", Instance: "si-2"},
	}, found)
	assert.NotContains(t, fmt.Sprintf("%#v", found), "TOKEN")
	assert.Equal(t, []string{"/v3/service_route_bindings?include=route%2Cservice_instance"}, l.asked)
}

func TestDomains(t *testing.T) {
	l := &lists{pages: map[string][]string{"/v3/domains": {domains}}}
	found, err := cloud.Controller{Lister: l}.Domains(t.Context(), []string{"apps.example.com", "own.example.com"})
	require.NoError(t, err)
	assert.Equal(t, map[string]bound.Domain{
		"apps.example.com": {Shared: true}, "own.example.com": {Orgs: []string{"o1"}}, "team.example.com": {Orgs: []string{"o1", "o2"}},
	}, found)
}

func TestManyNamesAreAskedForInParts(t *testing.T) {
	l := &lists{}
	_, err := cloud.Controller{Lister: l}.Domains(t.Context(), strings.Split(strings.Repeat("a.example.com,", 119)+"z", ","))
	require.NoError(t, err)
	assert.Len(t, l.asked, 3)
}

// Half a list would make bindings stale that are not.
func TestHalfAListIsNone(t *testing.T) {
	for _, l := range []*lists{
		{pages: map[string][]string{"/v3/service_route_bindings": {firstBindings}, "/v3/domains": {domains}}, err: errors.New("503")},
		{pages: map[string][]string{"/v3/service_route_bindings": {firstBindings, `[`}, "/v3/domains": {domains, `[]`}}},
	} {
		c := cloud.Controller{Lister: l}
		bindings, err := c.RouteBindings(t.Context())
		require.Error(t, err)
		assert.Empty(t, bindings)
		found, err := c.Domains(t.Context(), []string{"a.b"})
		require.Error(t, err)
		assert.Empty(t, found)
	}
}

package envelope

import (
	"errors"
	"strings"

	"github.com/mtls-authz/mtls-authz/api/list"
	"github.com/mtls-authz/mtls-authz/grants/route"
	"github.com/mtls-authz/mtls-authz/store"
)

// RouteName is a route as it is stored.
func RouteName(value string) (string, error) {
	parsed, err := route.Parse(value)
	return parsed.String(), err
}

// HostName is the host of a route, with any path.
func HostName(value string) (string, error) {
	parsed, err := route.Parse(value)
	if err == nil && strings.Contains(value, "/") {
		err = errors.New("expected a host without a path; routes takes host/path")
	}
	return parsed.Host, err
}

// BindingParams are the parameters that choose bindings, in every list of them.
func BindingParams(filter *store.BindingFilter) map[string]list.Param {
	return map[string]list.Param{
		"service_instance_guids": list.Strings(&filter.InstanceIDs, list.GUID),
		"organization_guids":     list.Strings(&filter.Organizations, list.GUID),
		"space_guids":            list.Strings(&filter.Spaces, list.GUID),
		"routes":                 list.Strings(&filter.Routes, RouteName),
		"hosts":                  list.Strings(&filter.Hosts, HostName),
		"unused_since":           list.Time(&filter.UnusedSince),
	}
}

package envelope

import (
	"errors"
	"strings"

	"github.com/mtls-authz/mtls-authz/grants/route"
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

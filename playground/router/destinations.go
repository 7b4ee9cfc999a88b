package router

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/mtls-authz/mtls-authz/playground/router/relay"
	"github.com/mtls-authz/mtls-authz/playground/router/routes"
)

// maxAttempts is gorouter's default for backends and for route services.
const maxAttempts = 3

// App says which app instance a backend is; see RegisterApp.
type App = routes.App

// Register adds an app's backend to a route, "host[/path]", where host may be
// a wildcard "*.domain". Several backends of one route take turns. A backend
// is "http://host:port"; registering it again replaces it. It fails on a
// malformed route or backend.
func (r *Router) Register(route, backend string) error {
	return r.RegisterApp(route, backend, App{})
}

// RegisterApp is Register with the name of the app instance.
func (r *Router) RegisterApp(route, backend string, app App) error {
	return r.routes.Add(route, routes.Backend{URL: backend, App: app})
}

// Deregister removes a backend from a route. A route without backends is
// unknown until the next Register; its binding stays. It fails on a malformed
// route only.
func (r *Router) Deregister(route, backend string) error {
	return r.routes.Remove(route, backend)
}

// Bind sends the route's requests to the route service first. As in gorouter
// the URL must be https; its path and query replace those of every request. It
// fails on a malformed route or URL, without repeating the URL: it may hold a
// secret.
func (r *Router) Bind(route, routeServiceURL string) error {
	service, err := url.Parse(routeServiceURL)
	if err != nil || service.Scheme != "https" || service.Host == "" {
		return fmt.Errorf("router: route service URL of route %q: expected https://host[/path]", route)
	}
	return r.routes.Bind(route, service)
}

// Unbind opens the route: requests go straight to its backends. It fails on a
// malformed route only.
func (r *Router) Unbind(route string) error { return r.routes.Bind(route, nil) }

// destinations are the places to try: up to three different backends, or three
// times the route service. A route service that is a route of this router is
// reached through the router's own listener.
func (r *Router) destinations(v visit) []relay.Destination {
	if v.service != nil {
		one := relay.Destination{Transport: r.services, Aim: aimAtService(v.service)}
		if r.routes.Lookup(hostname(v.service.Host)+v.service.EscapedPath()) != nil {
			one.Transport = r.hairpin
		}
		return slices.Repeat([]relay.Destination{one}, maxAttempts)
	}
	var all []relay.Destination
	for _, backend := range v.route.Turns(maxAttempts) {
		all = append(all, relay.Destination{Transport: r.backends, Aim: aimAtBackend(backend)})
	}
	return all
}

// aimAtService replaces the URL whole: of the original request only method,
// headers and body go to a route service.
func aimAtService(service *url.URL) func(*http.Request) {
	return func(req *http.Request) {
		target := *service
		req.URL, req.Host = &target, service.Host
	}
}

// aimAtBackend says where to dial, and tells the app who it is.
func aimAtBackend(backend routes.Backend) func(*http.Request) {
	return func(req *http.Request) {
		req.URL.Host = backend.Address()
		instance := backend.App.Instance
		if instance == "" {
			instance = backend.Address()
		}
		req.Header.Set("X-Cf-Applicationid", backend.App.GUID)
		req.Header.Set("X-Cf-Instanceid", instance)
		req.Header.Set("X-Cf-Instanceindex", strconv.Itoa(backend.App.Index))
	}
}

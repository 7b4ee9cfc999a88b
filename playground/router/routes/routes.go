// Package routes is the router's routing table: which backends and which route
// service belong to host and context path, matched as gorouter matches. It
// trusts its caller; a malformed name is an error, an unknown one finds nothing.
package routes

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// App says which app instance a backend is. The zero App is nameless.
type App struct {
	// GUID of the app, for X-Cf-Applicationid and X-Cf-App-Instance.
	GUID string
	// Instance is the instance's guid, for X-Cf-Instanceid. Default: the
	// backend's host:port, as in gorouter.
	Instance string
	// Index of the instance, from 0, for X-Cf-Instanceindex.
	Index int
}

// Backend is one place where a route's requests may go.
type Backend struct {
	// URL is "http://host:port" and identifies the backend in its route.
	URL string
	// App is who answers there.
	App App
}

// Address is the backend's host:port.
func (b Backend) Address() string {
	return strings.TrimSuffix(strings.TrimPrefix(b.URL, "http://"), "/")
}

// Route is an entry of the table. It never changes: changes replace it.
type Route struct {
	// Host is lower case and may begin with "*.".
	Host string
	// Path is the context path: lower case, "" or "/…" without "/" at its end.
	Path string
	// Backends take turns.
	Backends []Backend
	// Service is the route service's URL, nil when the route is not bound.
	Service *url.URL

	turn *atomic.Uint64
}

// Table is a routing table. Its zero value is empty; it is safe for concurrent
// use.
type Table struct {
	mutex  sync.RWMutex
	byHost map[string][]*Route // longest path first
}

// Add puts a backend into the route name, "host[/path]"; one with the same URL
// is replaced. It fails on a malformed name or URL.
func (t *Table) Add(name string, backend Backend) error {
	target, err := url.Parse(backend.URL)
	if err != nil || target.Scheme != "http" || target.Host != backend.Address() || target.Port() == "" {
		return fmt.Errorf("router: backend %q of route %q: expected http://host:port", backend.URL, name)
	}
	return t.change(name, func(r *Route) { r.Backends = append(without(r.Backends, backend.URL), backend) })
}

// Remove takes the backend with that URL out of the route, if it is there. It
// fails on a malformed name.
func (t *Table) Remove(name, backendURL string) error {
	return t.change(name, func(r *Route) { r.Backends = without(r.Backends, backendURL) })
}

// Bind sets the route's service, nil for none. It fails on a malformed name.
func (t *Table) Bind(name string, service *url.URL) error {
	return t.change(name, func(r *Route) { r.Service = service })
}

// change replaces the route's entry by an edited copy.
func (t *Table) change(name string, edit func(*Route)) error {
	key := strings.TrimSuffix(strings.ToLower(name), "/")
	host, _, _ := strings.Cut(key, "/")
	path := key[len(host):]
	if host == "" || strings.ContainsAny(key, ":?# ") {
		return fmt.Errorf("router: route %q: expected host[/path] without scheme, port and query", name)
	}
	t.mutex.Lock()
	defer t.mutex.Unlock()
	entry := &Route{Host: host, Path: path, turn: new(atomic.Uint64)}
	routes := slices.Clone(t.byHost[host])
	if at := slices.IndexFunc(routes, func(r *Route) bool { return r.Path == path }); at >= 0 {
		*entry = *routes[at]
		routes = slices.Delete(routes, at, at+1)
	}
	edit(entry)
	if len(entry.Backends) > 0 || entry.Service != nil {
		routes = append(routes, entry)
	}
	slices.SortFunc(routes, func(a, b *Route) int { return len(b.Path) - len(a.Path) })
	if t.byHost == nil {
		t.byHost = map[string][]*Route{}
	}
	t.byHost[host] = routes
	return nil
}

// Lookup finds the route of a host and escaped path as gorouter does: lower
// case; the exact host, then wildcards from the most to the least specific;
// within a host the longest context path by whole segments. Routes without
// backends do not exist: nil. As in gorouter the wildcard walk runs over host
// and path alike, so a dot in a path can reach a wildcard when nothing else
// does.
func (t *Table) Lookup(uri string) *Route {
	t.mutex.RLock()
	defer t.mutex.RUnlock()
	uri, _, _ = strings.Cut(strings.ToLower(uri), "?")
	for {
		if found := t.match(uri); found != nil {
			return found
		}
		_, rest, more := strings.Cut(strings.TrimPrefix(uri, "*."), ".")
		if !more {
			return nil
		}
		uri = "*." + rest
	}
}

func (t *Table) match(uri string) *Route {
	host, _, _ := strings.Cut(uri, "/")
	path := strings.TrimSuffix(uri[len(host):], "/")
	for _, r := range t.byHost[host] {
		if len(r.Backends) == 0 {
			continue
		}
		if below, ok := strings.CutPrefix(path, r.Path); ok && (below == "" || below[0] == '/') {
			return r
		}
	}
	return nil
}

// Same tells whether both are one pool: equal host and context path. It is all
// that gorouter compares on leg 3.
func (r *Route) Same(other *Route) bool { return r.Host == other.Host && r.Path == other.Path }

// Turns lists up to limit different backends, beginning with the one whose
// turn it is.
func (r *Route) Turns(limit int) []Backend {
	first := int((r.turn.Add(1) - 1) % uint64(len(r.Backends)))
	order := slices.Concat(r.Backends[first:], r.Backends[:first])
	return order[:min(limit, len(order))]
}

// instance is the form of X-CF-App-Instance.
var instance = regexp.MustCompile(`^([\da-f]{8}(?:-[\da-f]{4}){3}-[\da-f]{12}):(\d+)$`)

// ParseInstance splits "app guid:index", the value of X-CF-App-Instance; ok is
// false for anything else.
func ParseInstance(value string) (app, index string, ok bool) {
	parts := instance.FindStringSubmatch(value)
	if parts == nil {
		return "", "", false
	}
	return parts[1], parts[2], true
}

// Only is the route with nothing but that app instance; nil if it has none.
func (r *Route) Only(app, index string) *Route {
	for _, b := range r.Backends {
		if b.App.GUID == app && strconv.Itoa(b.App.Index) == index {
			narrowed := *r
			narrowed.Backends = []Backend{b}
			return &narrowed
		}
	}
	return nil
}

func without(backends []Backend, url string) []Backend {
	return slices.DeleteFunc(slices.Clone(backends), func(b Backend) bool { return b.URL == url })
}

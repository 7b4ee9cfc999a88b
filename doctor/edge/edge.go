// Package edge examines what stands before the gateway: the routers and the way to
// them, as a client of theirs sees them, and who else can reach the gateway's port.
//
// It sends requests without a body to the gateway's own route, to bound routes
// below /.well-known, and to a host that nobody has. It trusts no answer: what is
// not plainly right is not OK.
package edge

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mtls-authz/mtls-authz/doctor"
	"github.com/mtls-authz/mtls-authz/gateway/selftest/place"
)

// Route is a bound route; the zero Route is none.
type Route struct{ Binding, Host, Path string }

// Place is a domain behind a router, and a bound route there.
type Place struct {
	Domain string
	// Router is its address, host:port.
	Router string
	// Route is one of those bound there; without any, the gateway's own, whose
	// Binding is "".
	Route Route
}

// String names the place for people.
func (p Place) String() string { return p.Domain + " through " + p.Router }

// Endpoint is a server that the gateway must reach.
type Endpoint struct {
	// Name says what for, Address is host:port, Setting names where it is set.
	Name, Address, Setting string
}

// Config configures [Checks]. Fields without a default are required.
type Config struct {
	// GatewayHost is the host of GATEWAY_URL.
	GatewayHost string
	// Address is the router's, by host; Routers are all that there are.
	Address func(host string) string
	Routers []string
	// Roots verify the routers; RootsErr is why there are none.
	Roots    *x509.CertPool
	RootsErr error
	// Certificate is the gateway's own; nil: none.
	Certificate *tls.Certificate
	// Routes are those that are bound. Default: none.
	Routes []Route
	// Probe makes one round of the self-test; nil: Unproven says why it cannot.
	Probe    func(context.Context, Place) error
	Unproven string
	// Assumed: ROUTER_TRUST=assume.
	Assumed bool
	// Others are the servers beside the routers. Default: none.
	Others []Endpoint
	// Ports is CF_INSTANCE_PORTS, Port the one that the gateway listens on.
	Ports string
	Port  int
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// looks take as long as their slowest place, several at one time.
const (
	placeTimeout = 10 * time.Second
	placesTime   = 2 * time.Minute
)

// Checks are those of this package.
func Checks(cfg Config) []doctor.Check {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return []doctor.Check{
		{Item: "security group", Look: cfg.reach},
		{Item: "router", Timeout: placesTime, Look: cfg.each(cfg.handshake)},
		{Item: "own route", Look: cfg.own},
		{Item: "sanitising", Timeout: placesTime, Look: cfg.each(cfg.sanitising)},
		{Item: "absolute-form requests", Timeout: placesTime, Look: cfg.eachRouter(cfg.absolute)},
		{Item: "signature strictness", Timeout: placesTime, Look: cfg.eachRouter(cfg.strictness)},
		{Item: "internal lookup", Look: internalLookup},
		{Item: "router clock", Timeout: placesTime, Look: cfg.eachRouter(cfg.clock)},
		{Item: "route integrity", Look: cfg.integrity},
	}
}

// maxPlaces is how many are looked at; each takes a few requests.
const maxPlaces = 64

// Places are the domains of the bound routes and of the gateway's own, each behind
// a router, sorted.
func (cfg Config) Places() (places []Place) {
	seen := map[string]bool{}
	own := Route{Host: cfg.GatewayHost}
	for _, r := range append(slices.Clone(cfg.Routes), own) {
		if parent, wild := strings.CutPrefix(r.Host, "*."); wild {
			r.Host = nobody(parent)
		}
		p := Place{Domain: place.Domain(r.Host), Router: cfg.Address(r.Host), Route: r}
		if !seen[p.String()] {
			seen[p.String()] = true
			places = append(places, p)
		}
	}
	slices.SortFunc(places, func(a, b Place) int { return strings.Compare(a.String(), b.String()) })
	return places
}

// nobody is a host of a domain that has no route of its own.
func nobody(domain string) string {
	return "mtls-authz-doctor-" + strings.ToLower(rand.Text()[:16]) + "." + domain
}

func (cfg Config) each(look func(context.Context, Place) doctor.Finding) func(context.Context) []doctor.Finding {
	return func(ctx context.Context) []doctor.Finding { return examine(ctx, cfg.Places(), look) }
}

// eachRouter looks at one place of each router, one with a bound route if there is
// any.
func (cfg Config) eachRouter(look func(context.Context, Place) doctor.Finding) func(context.Context) []doctor.Finding {
	return func(ctx context.Context) []doctor.Finding {
		var places []Place
		for _, p := range cfg.Places() {
			at := slices.IndexFunc(places, func(one Place) bool { return one.Router == p.Router })
			switch {
			case at < 0:
				places = append(places, p)
			case places[at].Route.Binding == "":
				places[at] = p
			}
		}
		return examine(ctx, places, look)
	}
}

func examine(ctx context.Context, places []Place, look func(context.Context, Place) doctor.Finding) []doctor.Finding {
	rest := places[min(len(places), maxPlaces):]
	all := doctor.Each(ctx, places[:len(places)-len(rest)], func(ctx context.Context, p Place) []doctor.Finding {
		ctx, cancel := context.WithTimeout(ctx, placeTimeout)
		defer cancel()
		return []doctor.Finding{look(ctx, p)}
	})
	if len(rest) > 0 {
		all = append(all, doctor.Unknown("", fmt.Sprintf("%d more, from %s on", len(rest), rest[0]), "GET /readyz has the verdict on each domain"))
	}
	return all
}

// Package bound examines what is bound: whether the platform knows the gateway by
// its present URL, whether callers' certificates arrive, who shares a domain, and
// whether Cloud Controller and the store tell the same.
//
// It trusts the store and, as far as it can be asked, Cloud Controller; it changes
// neither. No token of a route service URL comes here.
package bound

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/mtls-authz/mtls-authz/doctor"
	"github.com/mtls-authz/mtls-authz/doctor/state"
	"github.com/mtls-authz/mtls-authz/gateway/selftest/place"
)

// CloudController answers with what its client may see.
type CloudController interface {
	// RouteBindings are all bindings of routes to service instances, of any broker.
	RouteBindings(ctx context.Context) ([]RouteBinding, error)
	// Orgs counts the orgs that its client may see.
	Orgs(ctx context.Context) (int, error)
	// Domains are those of the names that there are.
	Domains(ctx context.Context, names []string) (map[string]Domain, error)
}

// RouteBinding is one of /v3/service_route_bindings.
type RouteBinding struct {
	// ID is its guid, which the broker was told; Instance that of the service
	// instance.
	ID, Instance string
	// Route is host[/path]; RouteSpace the guid of its space, InstanceSpace that of
	// the instance's.
	Route, RouteSpace, InstanceSpace string
	// Service is scheme and host of route_service_url, and not its path, which is a
	// secret; see [state.Prefix].
	Service string
}

// Domain is who may create routes in a domain.
type Domain struct {
	// Shared: every org may.
	Shared bool
	// Orgs are the guids of the owner and of those it is shared with.
	Orgs []string
}

// Seen counts a binding's requests by whether a client certificate came with them.
type Seen struct{ With, Without int64 }

// Config configures [Checks]. Fields without a default are required.
type Config struct {
	// Bindings are those in the store, or why nobody knows them.
	Bindings    []state.Binding
	BindingsErr error
	// GatewayURL is GATEWAY_URL.
	GatewayURL string
	// Seen counts requests by binding id; nil: nobody counts.
	Seen func(ctx context.Context, bindings []string) (map[string]Seen, error)
	// Cloud is Cloud Controller; nil: NoCloud says why it cannot be asked.
	Cloud   CloudController
	NoCloud string
	// Reconcile compares with Cloud Controller.
	Reconcile bool
}

// listTime is for long lists, in pages.
const listTime = 2 * time.Minute

// Checks are those of this package.
func Checks(cfg Config) []doctor.Check {
	return []doctor.Check{
		{Item: "Cloud Controller", Timeout: listTime, Look: cfg.controller},
		{Item: "gateway URL", Look: cfg.known(cfg.prefixes, doctor.Unknown)},
		{Item: "certificates arrive", Timeout: listTime, Look: cfg.known(cfg.arrive, doctor.Unknown)},
		{Item: "shared domains", Timeout: listTime, Look: cfg.known(cfg.shared, doctor.Unknown)},
		{Item: "reconcile", Timeout: listTime, Look: cfg.known(cfg.reconcile, cfg.undone())},
	}
}

// verdict makes a finding.
type verdict func(about, found, fix string) doctor.Finding

// known looks only if the bindings are known. Why they are not is the store's item's
// to say.
func (cfg Config) known(look func(context.Context) []doctor.Finding, otherwise verdict) func(context.Context) []doctor.Finding {
	if cfg.BindingsErr == nil {
		return look
	}
	return func(context.Context) []doctor.Finding {
		return []doctor.Finding{otherwise("", "the bindings are not known", "see store above")}
	}
}

// prefixes counts bindings by the URL under which the platform knows the gateway.
func (cfg Config) prefixes(context.Context) []doctor.Finding {
	counts := map[string]int{cfg.GatewayURL: 0}
	for _, b := range cfg.Bindings {
		counts[b.Prefix]++
	}
	found := []doctor.Finding{doctor.Good(cfg.GatewayURL, count(counts[cfg.GatewayURL], "binding"))}
	delete(counts, cfg.GatewayURL)
	for _, prefix := range slices.Sorted(maps.Keys(counts)) {
		found = append(found, doctor.Doubtful(cmp.Or(prefix, "no URL"), count(counts[prefix], "binding")+" under a former GATEWAY_URL, which the platform will use for ever",
			"keep that host mapped to the gateway until cf unbind-route-service and cf bind-route-service have given each of these routes a new URL; the route is open in between"))
	}
	return found
}

// arrive looks for domains in which nobody ever came with a certificate: then
// something before the router ends TLS.
func (cfg Config) arrive(ctx context.Context) []doctor.Finding {
	if cfg.Seen == nil {
		return []doctor.Finding{doctor.Unknown("", "what callers show is not recorded in this store", "look for domains whose decision lines all have mtls_denied_reason no_certificate")}
	}
	if len(cfg.Bindings) == 0 {
		return []doctor.Finding{doctor.Unknown("", "no route is bound", "")}
	}
	ids := make([]string, len(cfg.Bindings))
	for i, b := range cfg.Bindings {
		ids[i] = b.ID
	}
	seen, err := cfg.Seen(ctx, ids)
	if err != nil {
		return []doctor.Finding{doctor.Unknown("", err.Error(), "see store above")}
	}
	domains := map[string]Seen{}
	for _, b := range cfg.Bindings {
		domain := place.Domain(b.Host()) // as a balancer or a router can have settings for
		sum := domains[domain]
		domains[domain] = Seen{sum.With + seen[b.ID].With, sum.Without + seen[b.ID].Without}
	}
	var found []doctor.Finding
	for _, domain := range slices.Sorted(maps.Keys(domains)) {
		found = append(found, judge(domain, domains[domain]))
	}
	return found
}

func judge(domain string, s Seen) doctor.Finding {
	switch {
	case s.With > 0:
		return doctor.Good(domain, fmt.Sprintf("requests have come with a client certificate (%d with, %d without)", s.With, s.Without))
	case s.Without > 0:
		return doctor.Doubtful(domain, fmt.Sprintf("%s, and none ever came with a client certificate", count(int(s.Without), "request")),
			"a load balancer that ends TLS takes it away: give app-to-app traffic a domain that resolves to the gorouters, or have the balancer pass TLS through; or no caller shows one: CF_INSTANCE_CERT and CF_INSTANCE_KEY")
	}
	return doctor.Unknown(domain, "no request was recorded yet", "")
}

// shared looks for domains in which others may create routes, too.
func (cfg Config) shared(ctx context.Context) []doctor.Finding {
	if cfg.Cloud == nil {
		return []doctor.Finding{doctor.Unknown("", cfg.NoCloud, "cf domains shows which are shared")}
	}
	names := map[string]bool{}
	for _, b := range cfg.Bindings {
		for _, name := range suffixes(b.Host()) {
			names[name] = true
		}
	}
	if len(names) == 0 {
		return []doctor.Finding{doctor.Unknown("", "no route is bound", "")}
	}
	domains, err := cfg.Cloud.Domains(ctx, slices.Sorted(maps.Keys(names)))
	if err != nil {
		return []doctor.Finding{doctor.Unknown("", "Cloud Controller does not say", "see Cloud Controller above; cf domains shows which are shared")}
	}
	bindings := map[string]int{}
	for _, b := range cfg.Bindings {
		if name := domainOf(b.Host(), domains); name != "" {
			bindings[name]++
		}
	}
	var found []doctor.Finding
	for _, name := range slices.Sorted(maps.Keys(bindings)) {
		found = append(found, judgeDomain(name, domains[name], bindings[name]))
	}
	if len(found) == 0 {
		found = append(found, doctor.Unknown("", "Cloud Controller knows none of the bound routes' domains", "the client needs cloud_controller.global_auditor"))
	}
	return found
}

func judgeDomain(name string, d Domain, bindings int) doctor.Finding {
	const fix = "bind in a private domain of one org (cf create-private-domain); where that cannot be, have apps verify the caller assertion"
	switch {
	case d.Shared:
		return doctor.Doubtful(name, count(bindings, "binding")+" in a domain in which every org creates routes", fix)
	case len(d.Orgs) > 1:
		return doctor.Doubtful(name, fmt.Sprintf("%s in a domain in which %d orgs create routes", count(bindings, "binding"), len(d.Orgs)), fix)
	}
	return doctor.Good(name, count(bindings, "binding")+" in a domain of one org")
}

// suffixes are the names that the domain of a host may have, the longest first.
func suffixes(host string) (names []string) {
	for name := strings.TrimPrefix(host, "*."); strings.Contains(name, "."); _, name, _ = strings.Cut(name, ".") {
		names = append(names, name)
	}
	return names
}

func domainOf(host string, domains map[string]Domain) string {
	for _, name := range suffixes(host) {
		if _, known := domains[name]; known {
			return name
		}
	}
	return ""
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

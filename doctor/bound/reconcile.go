package bound

import (
	"context"
	"fmt"
	"slices"

	"github.com/mtls-authz/mtls-authz/doctor"
)

// maxNamed is how many of a kind are named; more are counted.
const maxNamed = 50

// undone is how comparing fails: what was asked for and could not be done is no
// success to a program that asks for the exit status.
func (cfg Config) undone() verdict {
	if cfg.Reconcile {
		return doctor.Bad
	}
	return doctor.Unknown
}

// reconcile compares the store with Cloud Controller.
func (cfg Config) reconcile(ctx context.Context) []doctor.Finding {
	switch {
	case cfg.Cloud == nil:
		return []doctor.Finding{cfg.undone()("", cfg.NoCloud, "cf curl /v3/service_route_bindings shows what Cloud Controller has")}
	case !cfg.Reconcile:
		return []doctor.Finding{doctor.Unknown("", "not asked for", "--reconcile compares the store with Cloud Controller")}
	}
	there, err := cfg.Cloud.RouteBindings(ctx)
	if err != nil {
		return []doctor.Finding{doctor.Bad("", err.Error(), mend(err))}
	}
	if len(there) == 0 && len(cfg.Bindings) > 0 {
		// A client that may see nothing gets an empty list and no error.
		return []doctor.Finding{doctor.Bad("", "Cloud Controller shows no route binding at all, and the store has "+count(len(cfg.Bindings), "binding"),
			"the client needs cloud_controller.global_auditor; if it has that, this database is not of this foundation")}
	}
	known := map[string]RouteBinding{}
	for _, b := range there {
		known[b.ID] = b
	}
	var found []doctor.Finding
	found = append(found, few(cfg.lost(there))...)
	found = append(found, few(cfg.stale(known))...)
	found = append(found, few(cfg.moved(known))...)
	if len(found) == 0 {
		found = append(found, doctor.Good("", fmt.Sprintf("Cloud Controller and the store have the same %s", count(len(cfg.Bindings), "binding"))))
	}
	return found
}

// stale are bindings that only the store has.
func (cfg Config) stale(there map[string]RouteBinding) (found []doctor.Finding) {
	for _, b := range cfg.Bindings {
		if _, known := there[b.ID]; !known {
			found = append(found, doctor.Doubtful(b.Route, fmt.Sprintf("stale: Cloud Controller has no binding %s any more, so the route is open, or bound anew", b.ID),
				fmt.Sprintf("if cf service shows the route as not bound and it should be: cf bind-route-service; then DELETE /v1/bindings/%s", b.ID)))
		}
	}
	return found
}

// lost are bindings to the gateway that only Cloud Controller has: of an instance
// that the store knows, or with a URL of the gateway's.
func (cfg Config) lost(there []RouteBinding) (found []doctor.Finding) {
	here, instances, prefixes := map[string]bool{}, map[string]bool{}, map[string]bool{cfg.GatewayURL: true}
	for _, b := range cfg.Bindings {
		here[b.ID], instances[b.Instance], prefixes[b.Prefix] = true, true, true
	}
	for _, b := range there {
		if !here[b.ID] && (instances[b.Instance] || prefixes[b.Service]) {
			found = append(found, doctor.Bad(b.Route, fmt.Sprintf("lost: the store has no binding %s, so every request is refused (unknown_binding)", b.ID),
				"cf unbind-route-service, then cf bind-route-service; the route is open in between"))
		}
	}
	return found
}

// moved are bindings whose route has been transferred to another space since: the
// owner whose scope counts is the former one.
func (cfg Config) moved(there map[string]RouteBinding) (found []doctor.Finding) {
	for _, b := range cfg.Bindings {
		t, known := there[b.ID]
		if !known || t.RouteSpace == "" {
			continue
		}
		if t.RouteSpace != b.Space {
			found = append(found, doctor.Doubtful(b.Route, fmt.Sprintf("moved: the route is in space %s, its service instance in space %s, whose people say who may call it", t.RouteSpace, b.Space),
				"make a service instance in the route's space, then cf unbind-route-service and cf bind-route-service; or leave it, if that is on purpose"))
		}
		if t.InstanceSpace != "" && t.InstanceSpace != b.Space {
			found = append(found, doctor.Bad(b.Route, fmt.Sprintf("its service instance is in space %s for Cloud Controller and in space %s here: scopes count for the wrong owner", t.InstanceSpace, b.Space),
				"make a new service instance in the right space and bind the route to it"))
		}
	}
	return found
}

// few names some of many.
func few(found []doctor.Finding) []doctor.Finding {
	if len(found) <= maxNamed {
		return found
	}
	more := found[maxNamed]
	more.About, more.Found = "", fmt.Sprintf("%d more like these", len(found)-maxNamed)
	return append(slices.Clone(found[:maxNamed]), more)
}

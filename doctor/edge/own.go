package edge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/mtls-authz/mtls-authz/doctor"
	"github.com/mtls-authz/mtls-authz/gateway/selftest/probe"
)

// own asks for the gateway's own route as the router sends requests to it on leg 2:
// GATEWAY_URL is in every route service URL that is made from now on.
func (cfg Config) own(ctx context.Context) []doctor.Finding {
	const fix = "GATEWAY_URL must be a route of the gateway's app: cf map-route mtls-authz DOMAIN --hostname HOST, or correct GATEWAY_URL; cf app mtls-authz shows the routes"
	ctx, cancel := context.WithTimeout(ctx, placeTimeout)
	defer cancel()
	p := Place{Domain: cfg.GatewayHost, Router: cfg.Address(cfg.GatewayHost), Route: Route{Host: cfg.GatewayHost}}
	one := func(f doctor.Finding) []doctor.Finding {
		f.About = "https://" + cfg.GatewayHost
		return []doctor.Finding{f}
	}
	got, err := cfg.ask(ctx, p, cfg.GatewayHost, question{host: cfg.GatewayHost, target: "/healthz"})
	switch {
	case err != nil:
		return one(cfg.noAnswer(p, err, doctor.Unknown)) // the router's item tells
	case got.routerError() == "unknown_route" || got.status == http.StatusNotFound:
		return one(doctor.Bad("", fmt.Sprintf("no route there leads to the gateway (%d %s): what is bound under it is refused", got.status, got.routerError()), fix))
	case got.status == http.StatusOK && strings.TrimSpace(got.body) == "ok":
		return one(doctor.Good("", "leads to the gateway, which is healthy"))
	case got.status == http.StatusServiceUnavailable && strings.HasPrefix(got.body, "no policy"):
		return one(doctor.Bad("", "leads to the gateway, which has no policy yet and refuses everything", "see bundle below, and GET /readyz with credentials"))
	case got.status >= http.StatusInternalServerError:
		return one(doctor.Bad("", fmt.Sprintf("no instance of the gateway answers (%d %s): every bound route is refused", got.status, got.routerError()), "cf app mtls-authz shows the instances, cf logs mtls-authz --recent why they do not run"))
	}
	return one(doctor.Bad("", fmt.Sprintf("somebody else answers at /healthz, with %d: signatures and callers' certificates would go there", got.status), fix))
}

// remedies are what to do about each outcome of a round that proves nothing.
var remedies = []struct {
	when error
	fix  string
}{
	{probe.ErrSentinel, "set router.forwarded_client_cert: sanitize_set on these routers, for this domain too if it has a setting of its own"},
	{probe.ErrNotBound, "the route is open to everybody: cf unbind-route-service, then cf bind-route-service; if it was bound just now, run it again"},
	{probe.ErrUnknownRoute, "map the route to an app that runs: cf map-route, cf start; for the gateway's own see own route above"},
	{probe.ErrRefused, "all instances of the gateway must be of this release and on this database; look at the decision line with the reason"},
	{probe.ErrBusy, "run it again; if it stays so, more instances, or a larger MAX_IN_FLIGHT"},
	{probe.ErrMismatch, "router.client_cert_validation must be request or require, router.forwarded_client_cert sanitize_set, and XFCC_FORMAT what the router sends for this domain; or a balancer before the router ends TLS"},
	{probe.ErrNoCertificate, `run it where CF_INSTANCE_CERT and CF_INSTANCE_KEY are: cf run-task mtls-authz --command "./mtls-authz doctor"`},
}

// remedy is what to do about a round that proved nothing at a place.
func remedy(err error, p Place) string {
	for _, one := range remedies {
		if errors.Is(err, one.when) {
			return one.fix
		}
	}
	_, fix := diagnose(err, p.Router)
	return fix
}

package edge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/mtls-authz/mtls-authz/doctor"
)

// reach dials what the gateway needs, and nothing more.
func (cfg Config) reach(ctx context.Context) []doctor.Finding {
	var all []Endpoint
	for _, router := range cfg.Routers {
		all = append(all, Endpoint{"router", router, routerSetting})
	}
	slices.SortFunc(all, func(a, b Endpoint) int { return strings.Compare(a.Address, b.Address) })
	return doctor.Each(ctx, append(slices.Compact(all), cfg.Others...), func(ctx context.Context, e Endpoint) []doctor.Finding {
		ctx, cancel := context.WithTimeout(ctx, placeTimeout)
		defer cancel()
		about := e.Name + " " + e.Address
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", e.Address)
		if err != nil {
			found, fix := notReached(err, e)
			return []doctor.Finding{doctor.Bad(about, found, fix)}
		}
		_ = conn.Close() // nothing was written
		return []doctor.Finding{doctor.Good(about, "takes connections from here")}
	})
}

// soon is when a certificate of a router should be renewed.
const soon = 14 * 24 * time.Hour

// handshake looks at the router's certificate for a host of the place.
func (cfg Config) handshake(ctx context.Context, p Place) doctor.Finding {
	conn, err := cfg.connect(ctx, p.Router, p.Route.Host)
	if err != nil {
		return cfg.noAnswer(p, err, doctor.Bad)
	}
	defer conn.Close()
	// A router tells only after a handshake of TLS 1.3 that it does not accept the
	// certificate. What else it answers is not of interest.
	if _, err := cfg.exchange(conn, question{host: nobody(p.Domain), target: "/"}); alert(err) != "" {
		return cfg.noAnswer(p, err, doctor.Bad)
	}
	ends := conn.ConnectionState().PeerCertificates[0].NotAfter
	found := "TLS, with a certificate for " + p.Route.Host + " until " + ends.UTC().Format(time.RFC3339)
	if ends.Sub(cfg.Now()) < soon {
		return doctor.Doubtful(p.String(), found, "renew the router's certificate")
	}
	return doctor.Good(p.String(), found)
}

// noAnswer is a finding for what cannot be looked at. That nothing connects is the
// security group's to say.
func (cfg Config) noAnswer(p Place, err error, as func(about, found, fix string) doctor.Finding) doctor.Finding {
	var none *unreachable
	if errors.As(err, &none) {
		return doctor.Unknown(p.String(), "the router takes no connection", "see security group above")
	}
	found, fix := diagnose(err, p.Router)
	return as(p.String(), found, fix)
}

// sanitising makes a round of the self-test.
func (cfg Config) sanitising(ctx context.Context, p Place) doctor.Finding {
	switch {
	case cfg.Probe == nil && cfg.Assumed:
		return doctor.Doubtful(p.String(), "ROUTER_TRUST=assume: nobody checks that forged certificates are stripped", "unset ROUTER_TRUST")
	case cfg.Probe == nil:
		return doctor.Unknown(p.String(), cfg.Unproven, "GET /readyz with credentials has the gateway's own verdict on each domain")
	}
	if err := cfg.Probe(ctx, p); err != nil {
		return doctor.Bad(p.String(), "not proven: "+err.Error(), remedy(err, p))
	}
	if cfg.Assumed {
		return doctor.Doubtful(p.String(), "forged certificates are stripped now; ROUTER_TRUST=assume: nobody will notice when they no longer are", "unset ROUTER_TRUST")
	}
	return doctor.Good(p.String(), "forged certificates are stripped, and a client's own arrives")
}

// probePath is where nothing of an app should be.
const probePath = "/.well-known/mtls-authz-doctor"

// absolute sends the request line of a proxy's client. On a bound route nobody may
// answer it but the edge or the gateway.
func (cfg Config) absolute(ctx context.Context, p Place) doctor.Finding {
	if p.Route.Binding == "" {
		return doctor.Unknown(p.String(), "no route is bound there", "run it again when one is")
	}
	path := p.Route.Path + probePath
	plain, err := cfg.ask(ctx, p, p.Route.Host, question{host: p.Route.Host, target: path})
	if err != nil {
		return cfg.noAnswer(p, err, doctor.Unknown)
	}
	if !plain.fromGateway() {
		return doctor.Unknown(p.String(), fmt.Sprintf("a plain request to %s did not come to the gateway (status %d)", p.Route.Host+p.Route.Path, plain.status),
			"look whether the route is bound in the router: --reconcile")
	}
	got, err := cfg.ask(ctx, p, p.Route.Host, question{host: p.Route.Host, target: "https://" + p.Route.Host + path})
	switch {
	case err != nil:
		return cfg.noAnswer(p, err, doctor.Unknown)
	case got.fromGateway() && got.status >= http.StatusBadRequest:
		return doctor.Good(p.String(), fmt.Sprintf("not refused at the edge; the gateway refuses them (%d)", got.status))
	case got.routerError() != "" || got.status == http.StatusBadRequest:
		return doctor.Good(p.String(), fmt.Sprintf("refused at the edge (%d)", got.status))
	}
	return doctor.Bad(p.String(), fmt.Sprintf("answered with %d, and not by the gateway: they go around it", got.status),
		"have the load balancer refuse request lines with a scheme and a host, and report this to the makers of the router")
}

// strictness sends a signature that nobody made to a route that is not bound: the
// gateway's own.
func (cfg Config) strictness(ctx context.Context, p Place) doctor.Finding {
	const fix = "set router.route_services_strict_signature_validation: true, so that a signature counts for nothing on routes that are not bound"
	got, err := cfg.ask(ctx, p, cfg.GatewayHost, question{host: cfg.GatewayHost, target: "/healthz", header: map[string]string{
		"X-CF-Proxy-Signature": "nobody-made-this", "X-CF-Proxy-Metadata": "nobody-made-this", "X-CF-Forwarded-Url": "https://" + cfg.GatewayHost + "/healthz",
	}})
	switch {
	case err != nil:
		return cfg.noAnswer(p, err, doctor.Unknown)
	case got.status == http.StatusBadRequest && got.routerError() == "invalid_route_service_signature":
		return doctor.Good(p.Router, "a signature that nobody made is refused on a route that is not bound")
	case got.routerError() != "" || got.status >= http.StatusInternalServerError:
		return doctor.Unknown(p.Router, fmt.Sprintf("the gateway's own route is not answered by it: %d %s", got.status, got.routerError()), "look at router.route_services_strict_signature_validation in the router's job")
	}
	return doctor.Doubtful(p.Router, fmt.Sprintf("a signature that nobody made is passed on with a route that is not bound (status %d)", got.status), fix)
}

// internalLookup cannot be seen: with it and without it, leg 2 looks the same.
func internalLookup(context.Context) []doctor.Finding {
	return []doctor.Finding{doctor.Unknown("", "cannot be seen from outside",
		"in the router's job: if router.route_services_internal_lookup is true, router.route_services_internal_lookup_allowlist must name the gateway's host and no more (CVE-2019-3789)")}
}

// clock compares the router's clock, which the Date of an answer shows, with this
// one. No route has the host, so that the router answers itself.
func (cfg Config) clock(ctx context.Context, p Place) doctor.Finding {
	host := nobody(p.Domain)
	got, err := cfg.ask(ctx, p, p.Route.Host, question{host: host, target: "/"})
	if err != nil {
		return cfg.noAnswer(p, err, doctor.Unknown)
	}
	date, err := http.ParseTime(got.header.Get("Date"))
	if err != nil {
		return doctor.Unknown(p.Router, "its answer has no Date", "look at the time synchronisation of the router's machine")
	}
	return doctor.Skew(p.Router, doctor.Ahead(date, got.begun, got.ended, time.Second))
}

package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/url"
	"time"

	"github.com/mtls-authz/mtls-authz/doctor/edge"
	"github.com/mtls-authz/mtls-authz/gateway/leg3"
	"github.com/mtls-authz/mtls-authz/gateway/selftest/place"
	"github.com/mtls-authz/mtls-authz/gateway/selftest/probe"
	"github.com/mtls-authz/mtls-authz/identity"
)

func (p *patient) edge(ctx context.Context) edge.Config {
	cfg := edge.Config{
		GatewayHost: p.GatewayHost(), Address: p.RouterAddress.For, Routers: p.RouterAddress.Values(), Assumed: p.AssumeRouterTrust,
		Others: p.others(), Ports: p.InstancePorts, Port: p.Port,
	}
	for _, b := range p.bindings {
		cfg.Routes = append(cfg.Routes, edge.Route{Binding: b.ID, Host: b.Host(), Path: b.Path()})
	}
	cfg.Roots, cfg.RootsErr = p.roots.router()
	if pair, err := identity.NewKeyPair(p.InstanceCert, p.InstanceKey); err == nil {
		cfg.Certificate = pair.Certificate()
	}
	var err error
	if cfg.Probe, err = p.probe(ctx, cfg); err != nil {
		cfg.Unproven = err.Error()
	}
	return cfg
}

// probe makes one round of the self-test: the gateway that runs answers it, by the
// key that both have from the store.
func (p *patient) probe(ctx context.Context, cfg edge.Config) (func(context.Context, edge.Place) error, error) {
	if cfg.Certificate == nil {
		return nil, errors.New("there is no certificate to probe with: run it where CF_INSTANCE_CERT and CF_INSTANCE_KEY are")
	}
	if p.bindingsErr != nil {
		return nil, errors.New("the store has not told what is bound: see store below")
	}
	if cfg.RootsErr != nil {
		return nil, cfg.RootsErr
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	key, err := p.state.Key(ctx, "self-test")
	if err != nil || key == nil {
		return nil, errors.Join(err, errors.New("the store has no key of the self-test: no gateway with ROUTER_TRUST=probe has run on it"))
	}
	prober, err := probe.New(probe.Config{
		Key: key, Format: p.XFCCFormat.For, Now: time.Now,
		Router: leg3.Config{
			Address: p.RouterAddress.For, Roots: cfg.Roots, HeaderTimeout: 5 * time.Second,
			Certificate: func() *tls.Certificate { return cfg.Certificate },
		},
	})
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, p edge.Place) error {
		return prober.Round(ctx, p.Router, place.Target{Binding: p.Route.Binding, Host: p.Route.Host, Path: p.Route.Path})
	}, nil
}

// defaultPorts are for URLs without one.
var defaultPorts = map[string]string{"postgres": "5432", "postgresql": "5432", "redis": "6379", "rediss": "6379", "https": "443", "http": "80"}

// others are the servers beside the routers.
func (p *patient) others() (all []edge.Endpoint) {
	cloud := ""
	if p.CFClientID != "" {
		cloud = p.CFAPIURL
	}
	for _, one := range []struct{ name, location, setting string }{
		{"store", p.StoreURL, "STORE_URL"},
		{"redis", p.RedisURL, "REDIS_URL"},
		{"bundles", p.PolicyBundle, "POLICY_BUNDLE"},
		{"candidate's bundles", p.PolicyCandidate, "POLICY_CANDIDATE"},
		{"Cloud Controller", cloud, "CF_API_URL"},
		{"collector", p.TraceEndpoint, "OTEL_EXPORTER_OTLP_ENDPOINT"},
	} {
		u, err := url.Parse(one.location)
		if err != nil || u.Hostname() == "" || defaultPorts[u.Scheme] == "" {
			continue // a file
		}
		port := u.Port()
		if port == "" {
			port = defaultPorts[u.Scheme]
		}
		all = append(all, edge.Endpoint{Name: one.name, Address: net.JoinHostPort(u.Hostname(), port), Setting: one.setting})
	}
	return all
}

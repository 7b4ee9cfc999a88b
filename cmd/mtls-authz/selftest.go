package main

import (
	"context"

	"github.com/mtls-authz/mtls-authz/gateway"
	"github.com/mtls-authz/mtls-authz/gateway/leg3"
	"github.com/mtls-authz/mtls-authz/gateway/selftest"
	"github.com/mtls-authz/mtls-authz/grants"
)

// buildTrust gives the gateway its questions whether a host's router is proven,
// and whether a request is a probe.
func (g *server) buildTrust(ctx context.Context, cfg *gateway.Config, router leg3.Config) error {
	if g.AssumeRouterTrust {
		g.log.Warn("ROUTER_TRUST=assume: nobody checks that the routers strip forged certificates (router.forwarded_client_cert: sanitize_set)")
		cfg.Trust = func(context.Context, *grants.Access, string) error { return nil }
		return nil
	}
	key, err := g.store.Key(ctx, "self-test")
	if err != nil {
		return err
	}
	g.selftest, err = selftest.New(selftest.Config{
		Host: g.GatewayHost(), Bound: g.store.View().All, Router: router, Format: g.XFCCFormat.For, Key: key,
		Board: g.store.Board(), Log: g.log, Metrics: g.registry,
	})
	if err != nil {
		return err
	}
	cfg.Trust, cfg.Proven, cfg.Probe = g.selftest.Trust, g.selftest.Proven, g.selftest.Probe
	g.background = append(g.background, g.selftest.Run)
	return nil
}

package main

import (
	"context"
	"encoding/base64"
	"net/http"

	"github.com/mtls-authz/mtls-authz/gateway/leg3"
	"github.com/mtls-authz/mtls-authz/gateway/selftest"
)

// buildTrust returns the gateway's question whether a host's router is proven.
func (g *server) buildTrust(ctx context.Context, with, without leg3.Config) (func(context.Context, string) error, error) {
	if g.AssumeRouterTrust {
		g.log.Warn("ROUTER_TRUST=assume: nobody checks that the routers strip forged certificates (router.forwarded_client_cert: sanitize_set)")
		return func(context.Context, string) error { return nil }, nil
	}
	key, err := g.store.Key(ctx, "self-test")
	if err != nil {
		return nil, err
	}
	g.selftest, err = selftest.New(selftest.Config{
		Host: g.GatewayHost(), Routers: g.RouterAddress.Values(), Address: g.RouterAddress.For, Key: key, Log: g.log, Metrics: g.registry,
		Certificate: func() string {
			if g.own == nil {
				return ""
			}
			return base64.StdEncoding.EncodeToString(g.own.Certificate().Certificate[0])
		},
		Dial: func(address string, withCertificate bool) http.RoundTripper {
			cfg := without
			if withCertificate {
				cfg = with
			}
			cfg.Address = func(string) string { return address }
			return leg3.NewOneShot(cfg)
		},
	})
	if err != nil {
		return nil, err
	}
	g.background = append(g.background, g.selftest.Run)
	return g.selftest.Trust, nil
}

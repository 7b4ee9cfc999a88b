package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/mtls-authz/mtls-authz/api"
	"github.com/mtls-authz/mtls-authz/broker"
	"github.com/mtls-authz/mtls-authz/cache"
	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/authorities"
	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/cloud"
	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/memory"
	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/settings"
	"github.com/mtls-authz/mtls-authz/gateway"
	"github.com/mtls-authz/mtls-authz/gateway/assertion"
	"github.com/mtls-authz/mtls-authz/gateway/front"
	"github.com/mtls-authz/mtls-authz/gateway/leg3"
	"github.com/mtls-authz/mtls-authz/gateway/selftest"
	"github.com/mtls-authz/mtls-authz/gateway/trace"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/rego/activation"
	"github.com/mtls-authz/mtls-authz/rego/candidate"
	"github.com/mtls-authz/mtls-authz/rego/recording"
	"github.com/mtls-authz/mtls-authz/store"
)

type serveCommand struct {
	PrintConfig bool `help:"Print every setting, its value (secrets hidden) and where it came from, and exit."`
}

// Help is shown by mtls-authz serve --help.
func (serveCommand) Help() string {
	return `Required: BROKER_USERNAME, BROKER_PASSWORD; off Cloud Foundry also GATEWAY_URL and
CALLER_CA_FILES. Every setting may also come from a bound service tagged
"mtls-authz-config". See docs/settings.md, or --print-config for all of them.`
}

// Run serves until ctx ends.
func (c serveCommand) Run(ctx context.Context, p program) error {
	s, err := settings.Load(p.environ)
	if err != nil {
		return err
	}
	if c.PrintConfig {
		return s.Print(p.stdout)
	}
	log := slog.New(slog.NewJSONHandler(p.stdout, &slog.HandlerOptions{Level: s.LogLevel}))
	memory.Use(p.environ, log)
	if s.IgnoredDatabaseURL {
		log.Info("DATABASE_URL is ignored: Cloud Foundry makes it up; use STORE_URL or bind a database")
	}
	g, err := build(ctx, s, p, log)
	if err != nil {
		return err
	}
	defer g.close()
	return g.serve(ctx)
}

// server is the chain of packages, built.
type server struct {
	*settings.Settings
	log      *slog.Logger
	registry *prometheus.Registry
	store    *store.Store
	policy   *activation.Follower
	// candidate is nil without POLICY_CANDIDATE.
	candidate *candidate.Candidate
	recording *recording.Recording
	cache     *cache.Cache
	// authorities are the certificates that others are verified by.
	authorities *authorities.Authorities
	// own is nil outside Cloud Foundry.
	own      *identity.KeyPair
	shared   *cache.Shared
	redis    redis.UniversalClient
	selftest *selftest.SelfTest
	signer   *assertion.Signer
	// tracer is nil without a collector.
	tracer  *trace.Tracer
	cloud   *cloud.Cloud
	gateway *gateway.Gateway
	broker  http.Handler
	api     http.Handler
	// background are the goroutines' functions; they end with their context.
	background []func(context.Context)
}

func build(ctx context.Context, s *settings.Settings, p program, log *slog.Logger) (_ *server, err error) {
	g := &server{Settings: s, log: log, registry: prometheus.NewRegistry()}
	defer func() {
		if err != nil {
			g.close()
		}
	}()
	g.authorities, err = authorities.New(authorities.Config{Settings: s, Log: log, Metrics: g.registry})
	if err != nil {
		return nil, err
	}
	g.own = g.authorities.Own()
	if err := g.openStore(ctx); err != nil {
		return nil, err
	}
	g.authorities.Share(ctx, g.store.Board())
	g.background = append(g.background, g.authorities.Run)
	if err := g.buildPolicy(ctx); err != nil {
		return nil, err
	}
	if g.cloud, err = cloud.New(s, g.store, g.authorities.ExtraRoots, cloud.Telling{Log: log, Metrics: g.registry}); err != nil {
		return nil, err
	}
	g.background = append(g.background, g.cloud.Run)
	tokens, err := g.store.Key(ctx, store.TokenKeyName)
	if err != nil {
		return nil, err
	}
	if err := g.buildGateway(ctx, p, tokens); err != nil {
		return nil, err
	}
	g.broker = broker.New(broker.Config{
		Store: g.store, Tokens: tokens, GatewayURL: s.GatewayURL, OwnHosts: s.OwnHosts,
		AllowWildcards: s.AllowWildcards, AllowReport: s.ReportAllowed, Names: g.cloud.Names(),
		Credentials: g.brokerCredentials(),
		Policy:      func() (string, *grants.Site) { return g.policy.Revision(), g.policy.Site() }, Checks: g.checks, NotBound: g.notBound(), Labels: g.cloud.Labels(),
		Log: log,
	})
	g.api = api.New(api.Config{
		Reader: g.store, Updater: g.store, Deleter: g.store, MayRead: g.mayRead, MayChange: g.mayChange, Permits: g.cloud.Permits(),
		Labels: g.cloud.Labels(), Names: g.cloud.Names(),
		Access: g.store.View().Access, Site: func() *grants.Site { return g.policy.Site() },
		Recording: g.recording, Reports: g.reports(), More: g.buildAccess(), ReportAllowed: s.ReportAllowed, BaseURL: g.apiURL(), Log: log,
	})
	return g, nil
}

// reports are what /v1 shows of policy and cache.
func (g *server) reports() map[string]func() any {
	reports := map[string]func() any{
		"policy":      func() any { return g.policy.Status() },
		"cache":       func() any { return g.cache.Report() },
		"authorities": g.authorities.Report,
	}
	if g.candidate != nil {
		reports["policy/candidate"] = func() any { return g.candidate.Report() }
	}
	return reports
}

// apiURL is where /v1 answers from outside.
func (g *server) apiURL() string {
	if g.BrokerHost != "" {
		return "https://" + g.BrokerHost
	}
	return g.GatewayURL
}

func (g *server) buildGateway(ctx context.Context, p program, tokens store.TokenKey) error {
	if err := g.buildCache(ctx); err != nil {
		return err
	}
	roots, err := g.authorities.RouterRoots()
	if err != nil {
		return err
	}
	router := leg3.Config{Address: g.RouterAddress.For, Roots: roots, HeaderTimeout: g.UpstreamHeaderTimeout}
	if g.own != nil {
		router.Certificate = g.own.Certificate
	}
	if err := g.buildTracer(ctx); err != nil {
		return err
	}
	signer, err := g.buildSigner(ctx)
	if err != nil {
		return err
	}
	cfg := gateway.Config{
		Access: g.store.View().Access, Lookup: g.store.View().Lookup, Used: g.store.Used, Tokens: tokens, Ready: g.ready,
		Verifier: g.authorities.Verifier(), Format: g.XFCCFormat, OwnApp: g.OwnApp,
		Policy: g.policy.Policy, Decider: g.cache, Decided: g.decided, Recorded: g.sighted, Assert: signer.Sign, Router: g.tracer.Transport(leg3.New(router)),
		MaxInFlight: g.MaxInFlight, MaxInFlightPerRoute: g.MaxInFlightPerRoute, MaxURIBytes: g.MaxURIBytes, MaxStream: g.MaxStream,
		AllowedSample: g.LogAllowedSample,
		// Decision lines are written whatever LOG_LEVEL says.
		Log: slog.New(slog.NewJSONHandler(p.stdout, nil)), Metrics: g.registry,
	}
	if err := g.buildTrust(ctx, &cfg, router); err != nil {
		return err
	}
	g.gateway = gateway.New(cfg)
	g.background = append(g.background, g.gateway.Run)
	g.measure()
	return nil
}

// buildSigner makes the signer of caller assertions. Its keys are in the store.
func (g *server) buildSigner(ctx context.Context) (*assertion.Signer, error) {
	g.signer = assertion.New(assertion.Config{Issuer: g.GatewayURL, Seed: g.store.Key, Log: g.log})
	g.background = append(g.background, g.signer.Run)
	return g.signer, g.signer.Load(ctx)
}

// serve listens until ctx ends, then lets requests in flight finish within
// DRAIN_TIMEOUT.
func (g *server) serve(ctx context.Context) error {
	listener, err := net.Listen("tcp", net.JoinHostPort(g.ListenAddress, strconv.Itoa(g.Port)))
	if err != nil {
		return fmt.Errorf("PORT, LISTEN_ADDRESS: %w", err)
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	defer func() { stop(); running.Wait() }()
	for _, f := range g.background {
		running.Go(func() { f(background) })
	}
	g.log.Info("serving", slog.String("address", listener.Addr().String()), slog.String("version", version),
		slog.String("gateway_url", g.GatewayURL))
	return front.Serve(ctx, listener, front.Config{
		Handler: g.routes(), Streams: func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, dataPlane) },
		BodyTimeout: 30 * time.Second, MinBodyRate: g.MinBodyRate, HeaderTimeout: g.HeaderTimeout, IdleTimeout: g.IdleTimeout,
		MaxHeaderBytes: g.MaxHeaderBytes, MaxURIBytes: g.MaxURIBytes, MaxConnections: g.MaxConnections, Drain: g.DrainTimeout, Farewell: g.gateway.Farewell, Log: g.log,
	})
}

func (g *server) close() {
	if g.redis != nil {
		_ = g.redis.Close()
	}
	if g.store != nil {
		_ = g.store.Close()
	}
}

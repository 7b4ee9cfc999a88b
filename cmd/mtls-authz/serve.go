package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/mtls-authz/mtls-authz/api"
	"github.com/mtls-authz/mtls-authz/broker"
	"github.com/mtls-authz/mtls-authz/cache"
	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/settings"
	"github.com/mtls-authz/mtls-authz/gateway"
	"github.com/mtls-authz/mtls-authz/gateway/front"
	"github.com/mtls-authz/mtls-authz/gateway/leg3"
	"github.com/mtls-authz/mtls-authz/gateway/selftest"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/rego"
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
	policy   *rego.Policy
	verifier *identity.Verifier
	own      *identity.KeyPair
	shared   *cache.Shared
	redis    redis.UniversalClient
	selftest *selftest.SelfTest
	gateway  *gateway.Gateway
	broker   http.Handler
	api      http.Handler
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
	if g.policy, err = rego.Compile(ctx, rego.Config{Bundle: s.PolicyBundle, Timeout: s.PolicyTimeout, Zone: s.PolicyZone}); err != nil {
		return nil, fmt.Errorf("POLICY_BUNDLE: %w", err)
	}
	if err := g.buildIdentity(); err != nil {
		return nil, err
	}
	if err := g.openStore(ctx); err != nil {
		return nil, err
	}
	tokens, err := g.store.Key(ctx, store.TokenKeyName)
	if err != nil {
		return nil, err
	}
	if err := g.buildGateway(ctx, p, tokens); err != nil {
		return nil, err
	}
	g.broker = broker.New(broker.Config{
		Store: g.store, Tokens: tokens, GatewayURL: s.GatewayURL, OwnHosts: s.OwnHosts,
		AllowWildcards: s.AllowWildcards, AllowReport: s.ReportAllowed,
		Credentials: g.brokerCredentials(),
		Policy:      func() (string, *grants.Site) { return g.policy.Revision(), g.policy.Site() },
		Log:         log,
	})
	g.api = api.New(api.Config{
		Reader: g.store, Deleter: g.store, MayRead: g.mayRead, MayChange: g.mayChange,
		Access: g.store.View().Access, Site: func() *grants.Site { return g.policy.Site() },
		ReportAllowed: s.ReportAllowed, BaseURL: g.apiURL(), Log: log,
	})
	return g, nil
}

// apiURL is where /v1 answers from outside.
func (g *server) apiURL() string {
	if g.BrokerHost != "" {
		return "https://" + g.BrokerHost
	}
	return g.GatewayURL
}

func (g *server) openStore(ctx context.Context) (err error) {
	if g.StoreURL == "sqlite://"+filepath.Join(g.DataDir, "mtls-authz.db") {
		if err := os.MkdirAll(g.DataDir, 0o700); err != nil {
			return fmt.Errorf("DATA_DIR: %w", err)
		}
	}
	ca, err := g.storeCA()
	if err != nil {
		return err
	}
	g.store, err = store.Open(ctx, store.Config{
		URL: g.StoreURL, CA: ca, ReportAllowed: g.ReportAllowed, MaxStale: g.MaxStale,
		Progress: func(loaded, total int) {
			g.log.Info("loading bindings", slog.Int("loaded", loaded), slog.Int("of", total))
		},
	})
	if err != nil {
		return fmt.Errorf("STORE_URL: %w", err)
	}
	for _, damaged := range g.store.Damaged() {
		g.log.Error("state", slog.String("error", damaged.Error()))
	}
	return nil
}

func (g *server) buildGateway(ctx context.Context, p program, tokens store.TokenKey) error {
	decider, err := g.buildCache(ctx)
	if err != nil {
		return err
	}
	roots, err := g.routerRoots()
	if err != nil {
		return err
	}
	router := leg3.Config{Address: g.RouterAddress.For, Roots: roots, HeaderTimeout: g.UpstreamHeaderTimeout}
	bare := router
	if g.own != nil {
		router.Certificate = g.own.Certificate
	}
	upstream := leg3.New(router)
	trust, err := g.buildTrust(ctx, router, bare)
	if err != nil {
		return err
	}
	g.gateway = gateway.New(gateway.Config{
		Access: g.store.View().Access, Lookup: g.store.View().Lookup, Used: g.store.Used, Tokens: tokens, Ready: g.store.View().Fresh,
		Verifier: g.verifier, Format: g.XFCCFormat, Trust: trust, OwnApp: g.OwnApp,
		Policy: func() *rego.Policy { return g.policy }, Decider: decider, Router: upstream,
		MaxInFlight: g.MaxInFlight, MaxInFlightPerRoute: g.MaxInFlightPerRoute, MaxStream: g.MaxStream,
		// Decision lines are written whatever LOG_LEVEL says.
		Log: slog.New(slog.NewJSONHandler(p.stdout, nil)), Metrics: g.registry,
	})
	g.background = append(g.background, g.gateway.Run)
	return nil
}

func (g *server) buildCache(ctx context.Context) (*cache.Cache, error) {
	if g.RedisURL != "" {
		options, err := redis.ParseURL(g.RedisURL)
		if err != nil {
			return nil, errors.New("REDIS_URL: expected redis://[user:password@]host:port[/db] or rediss://")
		}
		if options.TLSConfig != nil {
			if options.TLSConfig.RootCAs, err = g.extraRoots(); err != nil {
				return nil, err
			}
		}
		options.MaxRetries, options.ContextTimeoutEnabled, options.DialTimeout = -1, true, time.Second
		key := []byte(g.CacheMACKey)
		if len(key) == 0 {
			if key, err = g.store.Key(ctx, "cache-mac"); err != nil {
				return nil, err
			}
		}
		g.redis = redis.NewClient(options)
		g.shared = cache.NewShared(cache.SharedConfig{Client: g.redis, MACKey: key, Log: g.log, Metrics: g.registry})
		g.background = append(g.background, g.shared.Run)
	}
	return cache.New(cache.Config{Entries: g.CacheEntries, TTL: g.CacheTTL, DenyTTL: g.CacheDenyTTL, Shared: g.shared, Metrics: g.registry})
}

// serve listens until ctx ends, then lets requests in flight finish within
// DRAIN_TIMEOUT.
func (g *server) serve(ctx context.Context) error {
	listener, err := net.Listen("tcp", net.JoinHostPort("", strconv.Itoa(g.Port)))
	if err != nil {
		return fmt.Errorf("PORT: %w", err)
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	defer func() { stop(); running.Wait() }()
	for _, f := range g.background {
		running.Go(func() { f(background) })
	}
	g.log.Info("serving", slog.String("address", listener.Addr().String()), slog.String("version", version),
		slog.String("gateway_url", g.GatewayURL), slog.String("policy_revision", g.policy.Revision()))
	return front.Serve(ctx, listener, front.Config{
		Handler: g.routes(), Streams: func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, dataPlane) },
		BodyTimeout: 30 * time.Second, MinBodyRate: g.MinBodyRate, HeaderTimeout: g.HeaderTimeout, IdleTimeout: g.IdleTimeout,
		MaxHeaderBytes: g.MaxHeaderBytes, MaxConnections: g.MaxConnections, Drain: g.DrainTimeout, Farewell: g.gateway.Farewell, Log: g.log,
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

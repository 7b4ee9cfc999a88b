package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/mtls-authz/mtls-authz/cache"
	redisserver "github.com/mtls-authz/mtls-authz/cache/server"
	"github.com/mtls-authz/mtls-authz/store"
)

func (g *server) openStore(ctx context.Context) (err error) {
	if g.StoreURL == "sqlite://"+filepath.Join(g.DataDir, "mtls-authz.db") {
		if err := os.MkdirAll(g.DataDir, 0o700); err != nil {
			return fmt.Errorf("DATA_DIR: %w", err)
		}
	}
	ca, err := g.authorities.StoreCA()
	if err != nil {
		return err
	}
	g.store, err = store.Open(ctx, store.Config{
		URL: g.StoreURL, CA: ca, ReportAllowed: g.ReportAllowed, MaxStale: g.MaxStale, Metrics: g.registry,
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

func (g *server) buildCache(ctx context.Context) (err error) {
	if g.RedisURL != "" {
		if err := g.buildShared(ctx); err != nil {
			return err
		}
	}
	g.cache, err = cache.New(cache.Config{
		Entries: g.CacheEntries, Bytes: g.CacheBytes, TTL: g.CacheTTL, DenyTTL: g.CacheDenyTTL, Version: version, Shared: g.shared, Metrics: g.registry,
		Off: g.CacheEntries == 0,
	})
	return err
}

func (g *server) buildShared(ctx context.Context) error {
	roots, err := g.authorities.ExtraRoots()
	if err != nil {
		return err
	}
	key := []byte(g.CacheMACKey)
	if len(key) == 0 {
		if key, err = g.store.Key(ctx, "cache-mac"); err != nil {
			return err
		}
	}
	redisserver.Quiet()
	if g.redis, err = redisserver.Client(g.RedisURL, roots); err != nil {
		return fmt.Errorf("REDIS_URL: %w", err)
	}
	g.shared = cache.NewShared(cache.SharedConfig{Client: g.redis, MACKey: key, Use: g.CacheShared, Log: g.log, Metrics: g.registry})
	g.background = append(g.background, g.shared.Run)
	return nil
}

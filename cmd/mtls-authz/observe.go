package main

import (
	"context"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mtls-authz/mtls-authz/gateway/headers"
	"github.com/mtls-authz/mtls-authz/gateway/selftest"
	"github.com/mtls-authz/mtls-authz/gateway/trace"
)

// farewell bounds the export of the last spans.
const farewell = 2 * time.Second

// buildTracer makes what follows requests, if there is a collector to tell.
func (g *server) buildTracer(ctx context.Context) (err error) {
	if g.TraceEndpoint == "" {
		return nil
	}
	roots, err := g.authorities.ExtraRoots()
	if err != nil {
		return err
	}
	// All instances follow the same traces.
	key, err := g.store.Key(ctx, "traces")
	if err != nil {
		return err
	}
	instance, _ := os.Hostname() // "" is a name, too
	g.tracer, err = trace.Open(ctx, trace.Config{
		Endpoint: g.TraceEndpoint, Headers: g.TraceHeaders, Share: g.TraceShare, Key: key, Ignore: looksLikeProbe,
		Roots: roots, Version: version, Instance: instance, Log: g.log,
	})
	if err != nil {
		return err
	}
	g.background = append(g.background, func(ctx context.Context) {
		<-ctx.Done()
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
		defer cancel()
		_ = g.tracer.Close(last) // what could not be exported is lost
	})
	return nil
}

// looksLikeProbe tells probes of the self-test, which come every minute, from other
// requests. Whoever makes a request look like one is refused as ever, and followed
// less.
func looksLikeProbe(r *http.Request) bool {
	return strings.Contains(r.Header.Get(headers.ForwardedURL), selftest.Path+"?")
}

// followed is the data plane, followed by the tracer.
func (g *server) followed() http.Handler { return g.tracer.Handler(g.gateway) }

// measure registers the ages of what the gateway stands on.
func (g *server) measure() {
	g.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "mtls_authz_state_age_seconds", Help: "Since the state in memory was last known to be that of the store.",
	}, func() float64 {
		at, _ := g.store.View().LastContact()
		return max(0, time.Since(at).Seconds())
	}))
	if g.own == nil {
		return
	}
	g.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "mtls_authz_certificate_not_after_timestamp_seconds", Help: "When the gateway's own certificate ends, in Unix time.",
	}, func() float64 { return float64(g.own.Certificate().Leaf.NotAfter.Unix()) }))
}

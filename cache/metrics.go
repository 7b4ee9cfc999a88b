package cache

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mtls-authz/mtls-authz/rego"
)

const prefix = "mtls_authz_cache_"

type metrics struct {
	lookups   [rego.Shared + 1]prometheus.Counter // by tier
	bypassed  prometheus.Counter
	evictions prometheus.Counter
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + name, Help: help})
}

func counters(name, help, label string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + name, Help: help}, []string{label})
}

func gauge(name, help string, labels prometheus.Labels, value func() float64) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: prefix + name, Help: help, ConstLabels: labels}, value)
}

func newMetrics(c *Cache, registry prometheus.Registerer) metrics {
	lookups := counters("lookups_total", "Decisions by where they came from: local, shared or miss.", "tier")
	m := metrics{
		bypassed:  counter("bypassed_total", "Decisions that may not be remembered, because the policy does not say the same twice."),
		evictions: counter("evictions_total", "Entries in memory that gave way to others."),
	}
	for _, tier := range []rego.Tier{rego.Miss, rego.Local, rego.Shared} {
		m.lookups[tier] = lookups.WithLabelValues(tier.String())
	}
	registry.MustRegister(lookups, m.bypassed, m.evictions,
		gauge("entries", "Entries in memory, some of which may have ended.", nil, func() float64 { return float64(c.local.EstimatedSize()) }),
		gauge("bytes", "What the bounds count for the entries in memory, in bytes.", nil, func() float64 { return float64(c.local.WeightedSize()) }))
	return m
}

type sharedMetrics struct {
	skipped          *prometheus.CounterVec
	badMACs, dropped prometheus.Counter
}

func newSharedMetrics(s *Shared, registry prometheus.Registerer) sharedMetrics {
	m := sharedMetrics{
		skipped: counters("shared_skipped_total", "Misses that did not ask Redis, because evaluating is cheaper (cheap), the key has the whole request "+
			"or long texts of it (request), Redis does not answer (unavailable), or it is never asked (never).", "reason"),
		badMACs: counter("bad_macs_total", "Entries in Redis that were not written by this gateway, or not for their key."),
		dropped: counter("dropped_writes_total", "Entries that were not written to Redis because too many waited."),
	}
	for _, reason := range []string{"cheap", "request", "unavailable", "never"} {
		m.skipped.WithLabelValues(reason)
	}
	open := func(closed func() bool) func() float64 {
		return func() float64 {
			if closed() {
				return 0
			}
			return 1
		}
	}
	registry.MustRegister(m.skipped, m.badMACs, m.dropped,
		gauge("breaker_open", "1 while Redis is left alone.", prometheus.Labels{"operation": "read"}, open(s.reads.Closed)),
		gauge("breaker_open", "1 while Redis is left alone.", prometheus.Labels{"operation": "write"}, open(s.writes.Closed)),
		gauge("round_trip_seconds", "What asking Redis takes, on average.", nil, func() float64 { return s.roundTrip.Value().Seconds() }))
	return m
}

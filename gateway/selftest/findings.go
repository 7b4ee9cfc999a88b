package selftest

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mtls-authz/mtls-authz/gateway/selftest/place"
	"github.com/mtls-authz/mtls-authz/gateway/selftest/probe"
)

const (
	// maxShown bounds what people are told at once.
	maxShown = 50
	// maxSeries bounds the domains in metrics: developers make them.
	maxSeries = 500
)

// found notes whether a route is bound in the router.
func (t *SelfTest) found(p place.Place, target place.Target, err error) {
	switch {
	case errors.Is(err, probe.ErrNotBound):
		t.unbound.Found(p, target, err)
	case err == nil || errors.Is(err, probe.ErrSentinel) || errors.Is(err, probe.ErrMismatch):
		t.unbound.Ended(target)
	}
}

// Findings are why which domains are not trusted, and what else people should
// know: routes that are not bound in the router, domains that were not probed yet
// while others are proven. Both are bounded and sorted.
func (t *SelfTest) Findings() (untrusted, notes []string) {
	proven := false
	var waiting []string
	states := t.snapshot()
	if len(states) == 0 {
		untrusted = []string{"routers: " + errUnprobed.Error()}
	}
	for _, s := range states {
		why := t.refusal(s.verdict)
		text := fmt.Sprintf("router of %s: %v", s.place, why)
		switch {
		case why == nil:
			proven = true
		case errors.Is(why, errUnprobed), errors.Is(why, probe.ErrNotBound):
			waiting = append(waiting, text)
		default:
			untrusted = append(untrusted, text)
		}
	}
	if proven {
		notes = waiting
	} else {
		untrusted = append(untrusted, waiting...)
	}
	return shown(untrusted), shown(append(notes, t.unbound.Notes()...))
}

// NotBound says why requests to a route, host[/path], do not come to the gateway, as
// far as this instance's probes have met it; "": they do, or nobody knows.
func (t *SelfTest) NotBound(route string) string { return t.unbound.Why(route) }

func shown(texts []string) []string {
	slices.Sort(texts)
	if more := len(texts) - maxShown; more > 0 {
		texts = append(texts[:maxShown], fmt.Sprintf("and %d more", more))
	}
	return texts
}

// snapshot is what is known of the places that are looked after, those not
// trusted first.
func (t *SelfTest) snapshot() []state {
	t.mu.RLock()
	states := make([]state, 0, len(t.states))
	for p, s := range t.states {
		if t.index.Has(p) || s.verdict != (verdict{}) {
			states = append(states, *s)
		}
	}
	t.mu.RUnlock()
	rank := func(s state) int {
		if t.refusal(s.verdict) != nil {
			return 0
		}
		return 1
	}
	slices.SortFunc(states, func(a, b state) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(a.place.String(), b.place.String()))
	})
	return states
}

var (
	trustedMetric = prometheus.NewDesc("mtls_authz_router_trusted",
		"1: proven to strip forged certificates, by the routes of every space; 0: not. Of many domains those not trusted come first.", []string{"domain", "router"}, nil)
	domainsMetric = prometheus.NewDesc("mtls_authz_router_domains", "Domains of bound routes by state: trusted, or not.", []string{"trusted"}, nil)
	unboundMetric = prometheus.NewDesc("mtls_authz_router_unbound_routes", "Routes that are bound here and not in the router, as far as probes met them.", nil, nil)
)

// collector tells of the places when metrics are read.
type collector struct{ t *SelfTest }

// Describe implements prometheus.Collector.
func (c collector) Describe(out chan<- *prometheus.Desc) {
	out <- trustedMetric
	out <- domainsMetric
	out <- unboundMetric
}

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	count, told := map[float64]float64{}, map[place.Place]bool{}
	for _, s := range c.t.snapshot() {
		domain := place.Place{Domain: s.place.Domain, Router: s.place.Router}
		if told[domain] {
			continue // those not trusted come first
		}
		told[domain] = true
		trusted := 0.0
		if c.t.refusal(s.verdict) == nil {
			trusted = 1
		}
		count[trusted]++
		if len(told) <= maxSeries {
			out <- prometheus.MustNewConstMetric(trustedMetric, prometheus.GaugeValue, trusted, domain.Domain, domain.Router)
		}
	}
	out <- prometheus.MustNewConstMetric(domainsMetric, prometheus.GaugeValue, count[1], "true")
	out <- prometheus.MustNewConstMetric(domainsMetric, prometheus.GaugeValue, count[0], "false")
	out <- prometheus.MustNewConstMetric(unboundMetric, prometheus.GaugeValue, float64(len(c.t.unbound.Bindings())))
}

package line

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mtls-authz/mtls-authz/rego"
)

// metrics count the lines; none has a label of a caller or a route.
type metrics struct {
	decisions *prometheus.CounterVec
	durations *prometheus.HistogramVec
	decide    *prometheus.HistogramVec
	upstream  prometheus.Histogram
}

// buckets of times that hold an app's, and of those that are the gateway's own.
var (
	buckets    = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}
	ownBuckets = []float64{.000005, .00001, .000025, .00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1}
)

// newMetrics registers the collectors.
func newMetrics(cfg Config) *metrics {
	m := &metrics{
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mtls_authz_decisions_total", Help: "Requests by outcome and reason of refusal.",
		}, []string{"mtls_auth", "reason", "cache"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "mtls_authz_request_duration_seconds", Help: "Time until the answer began.", Buckets: buckets,
		}, []string{"mtls_auth"}),
		decide: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "mtls_authz_decide_duration_seconds", Help: "Time to decide, of requests that cache or policy decided.", Buckets: ownBuckets,
		}, []string{"cache"}),
		upstream: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "mtls_authz_upstream_duration_seconds", Help: "Time from the begin of leg 3 to the head of its answer.", Buckets: buckets,
		}),
	}
	serving := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "mtls_authz_requests_in_flight", Help: "Requests being served now.",
	}, func() float64 { return float64(cfg.InFlight()) })
	cfg.Metrics.MustRegister(m.decisions, m.durations, m.decide, m.upstream, serving)
	return m
}

// count counts a line, whose request took so long until its answer began.
func (m *metrics) count(l *Line, took time.Duration) {
	reason := l.Reason
	switch {
	case l.Failure != "": // what happened last, also to what report mode let pass
		reason = l.Failure
	case strings.HasPrefix(l.Policy, "policy:"):
		reason = rego.ReasonPolicyDenied // a check's own reasons are unbounded
	}
	m.decisions.WithLabelValues(l.Auth, reason, l.Cache).Inc()
	m.durations.WithLabelValues(l.Auth).Observe(took.Seconds())
	if l.Cache != "none" {
		m.decide.WithLabelValues(l.Cache).Observe(float64(l.DecideUS) / 1e6)
	}
	if l.Upstream > 0 {
		m.upstream.Observe(l.Upstream.Seconds())
	}
}

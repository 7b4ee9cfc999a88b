package line

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mtls-authz/mtls-authz/rego"
)

// Metrics count the lines; none has a label of a caller or a route.
type Metrics struct {
	decisions *prometheus.CounterVec
	durations *prometheus.HistogramVec
}

// NewMetrics registers the collectors. It asks inFlight for the requests being
// served.
func NewMetrics(registry prometheus.Registerer, inFlight func() int64) *Metrics {
	m := &Metrics{
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mtls_authz_decisions_total", Help: "Requests by outcome and reason of refusal.",
		}, []string{"mtls_auth", "reason", "cache"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "mtls_authz_request_duration_seconds", Help: "Time until the answer began.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"mtls_auth"}),
	}
	serving := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "mtls_authz_requests_in_flight", Help: "Requests being served now.",
	}, func() float64 { return float64(inFlight()) })
	registry.MustRegister(m.decisions, m.durations, serving)
	return m
}

// Count counts a line, whose request took so long until its answer began.
func (m *Metrics) Count(l *Line, took time.Duration) {
	reason := l.Reason
	if l.Failure != "" {
		reason = l.Failure
	}
	if strings.HasPrefix(l.Policy, "policy:") {
		reason = rego.ReasonPolicyDenied // a check's own reasons are unbounded
	}
	m.decisions.WithLabelValues(l.Auth, reason, l.Cache).Inc()
	m.durations.WithLabelValues(l.Auth).Observe(took.Seconds())
}

package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mtls-authz/mtls-authz/gateway/headers"
	"github.com/mtls-authz/mtls-authz/gateway/leg3"
	"github.com/mtls-authz/mtls-authz/gateway/load"
	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/rego"
)

// line is the decision line. Its names are a contract with log readers.
type line struct {
	Auth, Policy, Reason, Detail string
	App, Space, Org, Instance    string
	IssuerKeyID                  string
	Route, Binding, Mode         string
	Host, Method, Path           string
	PolicyRevision, Cache        string
	DecideUS                     int64
	RequestID, UpstreamRequestID string
	RouterRejected, written      bool
	// failure is the reason id of what failed after the decision; only the
	// metric has it.
	failure string
}

const (
	maxLoggedPath  = 1 << 10
	maxLoggedField = 256
)

func bounded(s string, most int) string {
	if len(s) > most {
		return s[:most]
	}
	return s
}

func (l *line) begin(r *http.Request) {
	l.Method = bounded(r.Method, maxLoggedField)
	l.RequestID = bounded(r.Header.Get(headers.RequestID), maxLoggedField)
	l.Auth, l.Cache = "denied", "none" // until something else is decided
}

func (l *line) setCaller(c identity.Caller) {
	l.App, l.Space, l.Org, l.Instance = c.App.String(), c.Space.String(), c.Org.String(), c.Instance
}

// note puts a refusal into the line and returns its answer. Where leg 3 failed,
// the decision stands as it was made.
func (x *exchange) note(err error) answer {
	a := answerTo(err)
	x.line.Detail = err.Error()
	if a.upstream {
		x.line.failure = a.reason
		return a
	}
	x.line.Auth, x.line.Reason, x.line.Policy = "denied", a.reason, "gateway:"+a.reason
	var refusal *identity.Refusal
	var rejected *leg3.Rejection
	switch {
	case errors.As(err, &refusal):
		x.line.IssuerKeyID = refusal.IssuerKeyID
	case errors.As(err, &rejected):
		x.line.RouterRejected, x.line.UpstreamRequestID = true, rejected.RequestID
		if rejected.Status == http.StatusGatewayTimeout { // expired; all else is 502
			a.status = rejected.Status
		}
	case errors.Is(err, ErrDenied):
		a.reason = x.decision.Reason
		x.line.Reason, x.line.Policy = x.decision.Reason, x.decision.Policy
	case errors.Is(err, ErrScope):
		x.line.Policy = "domain:scope=" + x.access.Scope.String()
	case errors.Is(err, ErrNoGrants):
		x.line.Policy = "route:no_grants"
	}
	return a
}

// record writes the decision line and counts it, once for each request.
func (x *exchange) record(status int) {
	if x.line.written {
		return
	}
	x.line.written = true
	took := x.g.Now().Sub(x.started)
	x.g.metrics.count(&x.line, took)
	x.g.Log.LogAttrs(context.Background(), slog.LevelInfo, "decision", x.line.attributes(x.id, status, took)...)
}

// attributes are the fields of the decision line, in its order.
func (l *line) attributes(id string, status int, took time.Duration) []slog.Attr {
	fields := []slog.Attr{
		slog.String("decision_id", id),
		slog.String("mtls_auth", l.Auth), slog.String("mtls_policy", l.Policy), slog.String("mtls_denied_reason", l.Reason),
		slog.String("caller_app", l.App), slog.String("caller_space", l.Space), slog.String("caller_org", l.Org),
		slog.String("caller_instance", l.Instance),
		slog.String("route", l.Route), slog.String("binding", l.Binding), slog.String("mode", l.Mode),
		slog.String("host", bounded(l.Host, maxLoggedField)), slog.String("method", l.Method), slog.String("path", bounded(l.Path, maxLoggedPath)),
		slog.Int("status", status), slog.String("policy_revision", l.PolicyRevision), slog.String("cache", l.Cache),
		slog.Int64("decide_us", l.DecideUS), slog.Int64("duration_us", took.Microseconds()),
		slog.String("request_id", l.RequestID), slog.String("upstream_request_id", bounded(l.UpstreamRequestID, maxLoggedField)),
	}
	if l.IssuerKeyID != "" {
		fields = append(fields, slog.String("issuer_key_id", bounded(l.IssuerKeyID, maxLoggedField)))
	}
	if l.RouterRejected {
		fields = append(fields, slog.Bool("router_rejected", true))
	}
	if l.Detail != "" {
		fields = append(fields, slog.String("detail", bounded(l.Detail, maxLoggedField)))
	}
	return fields
}

// end releases what the request held. A request that ends without an answer
// (the connection broke) is recorded all the same.
func (x *exchange) end() {
	headers.DeleteForgedTrailers(x.w.Header())
	if x.w.entered {
		x.g.load.Leave()
	}
	if x.w.enteredRoute != "" {
		x.g.load.LeaveRoute(x.w.enteredRoute)
	}
	x.record(499)
}

// metrics are the gateway's; none has a label of a caller or a route.
type metrics struct {
	decisions *prometheus.CounterVec
	durations *prometheus.HistogramVec
}

func newMetrics(registry prometheus.Registerer, l *load.Load) *metrics {
	m := &metrics{
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mtls_authz_decisions_total", Help: "Requests by outcome and reason of refusal.",
		}, []string{"mtls_auth", "reason", "cache"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "mtls_authz_request_duration_seconds", Help: "Time until the answer began.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"mtls_auth"}),
	}
	inFlight := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "mtls_authz_requests_in_flight", Help: "Requests being served now.",
	}, func() float64 { return float64(l.InFlight()) })
	registry.MustRegister(m.decisions, m.durations, inFlight)
	return m
}

func (m *metrics) count(l *line, took time.Duration) {
	reason := l.Reason
	if l.failure != "" {
		reason = l.failure
	}
	if strings.HasPrefix(l.Policy, "policy:") {
		reason = rego.ReasonPolicyDenied // a check's own reasons are unbounded
	}
	m.decisions.WithLabelValues(l.Auth, reason, l.Cache).Inc()
	m.durations.WithLabelValues(l.Auth).Observe(took.Seconds())
}

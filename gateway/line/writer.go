package line

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mtls-authz/mtls-authz/gateway/trace"
)

// Config configures [NewWriter].
type Config struct {
	// Log gets the lines, Metrics the collectors. Both are required.
	Log     *slog.Logger
	Metrics prometheus.Registerer
	// InFlight is asked for the requests being served. Required.
	InFlight func() int64
	// AllowedSample is the share of the lines of allowed requests that is written,
	// up to 1; 0 means all.
	AllowedSample float64
}

// A Writer writes lines and counts what they say. It is safe for concurrent use.
type Writer struct {
	log     *slog.Logger
	metrics *metrics
	sample  float64
}

// NewWriter returns a Writer, whose collectors it registers.
func NewWriter(cfg Config) *Writer {
	return &Writer{log: cfg.Log, metrics: newMetrics(cfg), sample: cfg.AllowedSample}
}

// Write counts a request that was answered with this status and took so long
// until its answer began, tells its trace, and writes its line.
func (w *Writer) Write(ctx context.Context, l *Line, status int, took time.Duration) {
	w.metrics.count(l, took)
	trace.Outcome(ctx, status, "decision_id", l.DecisionID, "mtls_auth", l.Auth, "mtls_policy", l.Policy, "mtls_denied_reason", l.Reason,
		"caller_app", l.App, "caller_space", l.Space, "caller_org", l.Org, "route", l.Route, "binding", l.Binding, "cache", l.Cache)
	var sampled []slog.Attr
	if w.sample > 0 && w.sample < 1 && l.uneventful(status) {
		if !chosen(l.DecisionID, w.sample) {
			return
		}
		sampled = []slog.Attr{slog.Float64("sample", w.sample)}
	}
	w.log.LogAttrs(context.Background(), slog.LevelInfo, "decision", append(l.attributes(status, took), sampled...)...)
}

// uneventful reports whether a request was allowed and went well: nobody misses
// one such line among many.
func (l *Line) uneventful(status int) bool {
	return l.Auth == "allowed" && l.Failure == "" && status < http.StatusInternalServerError
}

// chosen picks a share of the decision ids, which are random.
func chosen(id string, share float64) bool {
	const digits = 8
	number, err := strconv.ParseUint(id[:min(len(id), digits)], 16, 32)
	return err != nil || float64(number) < share*(1<<32)
}

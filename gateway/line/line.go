// Package line is the decision line, one JSON object for each request, and the
// metrics that count the same. The names of its fields are a contract with log
// readers; what a client could make long is bounded here, and nothing in it is a
// secret: no query, no header, no token.
package line

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/mtls-authz/mtls-authz/gateway/headers"
	"github.com/mtls-authz/mtls-authz/identity"
)

// A Line is what is known of one request. Texts may be of any length: they are
// bounded when they are written.
type Line struct {
	DecisionID                   string
	Auth, Policy, Reason, Detail string
	App, Space, Org, Instance    string
	IssuerKeyID                  string
	Route, Binding, Mode         string
	Host, Method, Path           string
	PolicyRevision, Cache        string
	DecideUS                     int64
	RequestID, UpstreamRequestID string
	RouterRejected               bool
	// Upstream is the time from the begin of leg 3 to the head of its answer, zero
	// if there was none; only the metric has it.
	Upstream time.Duration
	// Failure is the reason id of what failed after the decision, which stands as it
	// was made.
	Failure string
	// Scope is that of the route; the line has it where it is the reason.
	Scope string
	// Revision is that of the binding and its instance, to tell whether they have
	// changed since; the written line does not have it.
	Revision int64
}

const (
	maxPath  = 1 << 10
	maxField = 256
)

func bounded(s string, most int) string {
	if len(s) > most {
		return s[:most]
	}
	return s
}

// Begin is the line of a request of which nothing is decided yet: denied.
func Begin(id string, r *http.Request) Line {
	return Line{DecisionID: id, Method: r.Method, RequestID: r.Header.Get(headers.RequestID), Auth: "denied", Cache: "none"}
}

// SetCaller names a verified caller.
func (l *Line) SetCaller(c identity.Caller) {
	l.App, l.Space, l.Org, l.Instance = c.App.String(), c.Space.String(), c.Org.String(), c.Instance
}

// attributes are the fields of the decision line, in its order.
func (l *Line) attributes(status int, took time.Duration) []slog.Attr {
	fields := []slog.Attr{
		slog.String("decision_id", l.DecisionID),
		slog.String("mtls_auth", l.Auth), slog.String("mtls_policy", l.Policy), slog.String("mtls_denied_reason", l.Reason),
		slog.String("caller_app", l.App), slog.String("caller_space", l.Space), slog.String("caller_org", l.Org),
		slog.String("caller_instance", l.Instance),
		slog.String("route", l.Route), slog.String("binding", l.Binding), slog.String("mode", l.Mode),
		slog.String("host", bounded(l.Host, maxField)), slog.String("method", bounded(l.Method, maxField)), slog.String("path", bounded(l.Path, maxPath)),
		slog.Int("status", status), slog.String("policy_revision", l.PolicyRevision), slog.String("cache", l.Cache),
		slog.Int64("decide_us", l.DecideUS), slog.Int64("duration_us", took.Microseconds()),
		slog.String("request_id", bounded(l.RequestID, maxField)), slog.String("upstream_request_id", bounded(l.UpstreamRequestID, maxField)),
	}
	if l.IssuerKeyID != "" {
		fields = append(fields, slog.String("issuer_key_id", bounded(l.IssuerKeyID, maxField)))
	}
	if l.RouterRejected {
		fields = append(fields, slog.Bool("router_rejected", true))
	}
	if l.Failure != "" {
		fields = append(fields, slog.String("failure", l.Failure))
	}
	if l.Detail != "" {
		fields = append(fields, slog.String("detail", bounded(l.Detail, maxField)))
	}
	return fields
}

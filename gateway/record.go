package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"github.com/mtls-authz/mtls-authz/gateway/headers"
	"github.com/mtls-authz/mtls-authz/gateway/leg3"
	"github.com/mtls-authz/mtls-authz/identity"
)

// note puts a refusal into the line and returns its answer. Where leg 3 failed,
// the decision stands as it was made.
func (x *exchange) note(err error) answer {
	a := answerTo(err)
	x.line.Detail = err.Error()
	if a.upstream {
		x.line.Failure = a.reason
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
	if x.recorded {
		return
	}
	x.recorded = true
	took := x.g.Now().Sub(x.started)
	x.g.metrics.Count(&x.line, took)
	x.g.Log.LogAttrs(context.Background(), slog.LevelInfo, "decision", x.line.Attributes(status, took)...)
}

// end releases what the request held. A request that ends without an answer
// (the connection broke) is recorded all the same.
func (x *exchange) end() {
	if x.streamEnds != nil {
		x.streamEnds()
	}
	headers.DeleteForgedTrailers(x.w.Header())
	if x.w.entered {
		x.g.load.Leave()
	}
	if x.w.enteredRoute != "" {
		x.g.load.LeaveRoute(x.w.enteredRoute)
	}
	x.record(499)
}

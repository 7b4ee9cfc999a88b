package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"github.com/mtls-authz/mtls-authz/gateway/headers"
	"github.com/mtls-authz/mtls-authz/gateway/leg3"
	"github.com/mtls-authz/mtls-authz/gateway/refusal"
	"github.com/mtls-authz/mtls-authz/identity"
)

// note puts a refusal into the line and returns its answer. Where leg 3 failed,
// the decision stands as it was made.
func (x *exchange) note(err error) refusal.Answer {
	a := refusal.Of(err)
	x.line.Detail = err.Error()
	if a.Upstream {
		x.line.Failure = a.Reason
		return a
	}
	x.line.Auth, x.line.Reason, x.line.Policy = "denied", a.Reason, "gateway:"+a.Reason
	var untrusted *identity.Refusal
	var rejected *leg3.Rejection
	switch {
	case errors.As(err, &untrusted):
		x.line.IssuerKeyID = untrusted.IssuerKeyID
	case errors.As(err, &rejected):
		x.line.RouterRejected, x.line.UpstreamRequestID = true, rejected.RequestID
		if rejected.Status == http.StatusGatewayTimeout { // expired; all else is 502
			a.Status = rejected.Status
		}
	case errors.Is(err, refusal.ErrDenied):
		a.Reason = x.decision.Reason
		x.line.Reason, x.line.Policy = x.decision.Reason, x.decision.Policy
	case errors.Is(err, refusal.ErrScope):
		x.line.Policy = "domain:scope=" + x.access.Scope.String()
	case errors.Is(err, refusal.ErrNoGrants):
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
	if x.g.Recorded != nil {
		x.g.Recorded(&x.line, x.started)
	}
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

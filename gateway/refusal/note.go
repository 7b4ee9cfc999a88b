package refusal

import (
	"errors"
	"net/http"

	"github.com/mtls-authz/mtls-authz/gateway/leg3"
	"github.com/mtls-authz/mtls-authz/gateway/line"
	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/rego"
)

// Note puts a refusal into the line of its request and returns its answer; d is
// what the policy said, if it was asked. Where leg 3 failed, the decision stands as
// it was made.
func Note(l *line.Line, err error, d rego.Decision) Answer {
	a := Of(err)
	l.Detail = err.Error()
	if a.Upstream {
		l.Failure = a.Reason
		return a
	}
	l.Auth, l.Reason, l.Policy = "denied", a.Reason, "gateway:"+a.Reason
	var untrusted *identity.Refusal
	var rejected *leg3.Rejection
	switch {
	case errors.As(err, &untrusted):
		l.IssuerKeyID = untrusted.IssuerKeyID
	case errors.As(err, &rejected):
		l.RouterRejected, l.UpstreamRequestID = true, rejected.RequestID
		if rejected.Status == http.StatusGatewayTimeout { // expired; all else is 502
			a.Status = rejected.Status
		}
	case errors.Is(err, ErrDenied):
		a.Reason = d.Reason
		l.Reason, l.Policy = d.Reason, d.Policy
	case errors.Is(err, ErrScope):
		l.Policy = "domain:scope=" + l.Scope
	case errors.Is(err, ErrNoGrants):
		l.Policy = "route:no_grants"
	}
	return a
}

package gateway

import (
	"errors"
	"fmt"

	"github.com/mtls-authz/mtls-authz/gateway/assertion"
	"github.com/mtls-authz/mtls-authz/gateway/refusal"
	"github.com/mtls-authz/mtls-authz/gateway/request"
	"github.com/mtls-authz/mtls-authz/grants"
)

// assert signs the caller assertion, if the route asks for one and there is a
// verified caller. Whoever was promised an assertion gets no request without
// one; but report mode refuses nothing for want of a key.
func (x *exchange) assert() (err error) {
	if !x.access.Assert || x.caller.IsZero() { // nobody: only in report mode
		return nil
	}
	x.assertion, err = x.g.Assert(assertion.Request{
		DecisionID: x.id, Allowed: x.decision.Allow, Method: x.r.Method, Host: x.target.Host,
		Target: x.target.URL().RequestURI(), Route: x.access.Route.String(), Caller: x.caller,
	})
	switch {
	case errors.Is(err, assertion.ErrRequest): // such as a method of 4 KiB
		return fmt.Errorf("%w: %w", request.ErrMalformed, err)
	case err != nil && x.access.Mode != grants.Report:
		return fmt.Errorf("%w: %w", refusal.ErrNotReady, err)
	}
	return nil
}

package gateway

import (
	"github.com/mtls-authz/mtls-authz/gateway/headers"
	"github.com/mtls-authz/mtls-authz/gateway/refusal"
)

// note puts a refusal into the line and returns its answer.
func (x *exchange) note(err error) refusal.Answer { return refusal.Note(&x.line, err, x.decision) }

// record writes the decision line and counts it, once for each request.
func (x *exchange) record(status int) {
	if x.recorded {
		return
	}
	x.recorded = true
	if x.g.Recorded != nil {
		x.g.Recorded(&x.line, x.started)
	}
	x.g.lines.Write(x.r.Context(), &x.line, status, x.g.Now().Sub(x.started))
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

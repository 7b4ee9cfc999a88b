package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/mtls-authz/mtls-authz/gateway/refusal"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/rego"
)

// patience is how many times in a row the policy may give no decision about an
// open stream before it is cut.
const patience = 2

// stillAllowed returns a function that decides again for this exchange, without
// a trace, if anything has changed that its last decision rests on. What it
// keeps is its own: the exchange goes on meanwhile.
func (x *exchange) stillAllowed() func(context.Context) error {
	last, binding, failed := x, x.line.Binding, 0
	return func(ctx context.Context) error {
		again := &exchange{g: x.g, r: x.r, target: x.target, caller: x.caller}
		again.started, again.policy, again.access = x.g.Now(), x.g.Policy(), x.g.Access(binding)
		if again.access == nil || again.access.Route != last.access.Route {
			return fmt.Errorf("%w: unbound meanwhile", refusal.ErrUnknownBinding)
		}
		again.live = again.access.Live(again.started, again.policy.Site())
		if again.restsOn(last) {
			return nil
		}
		err := again.guard()
		if err == nil {
			err = again.allowed(ctx)
		}
		switch {
		case errors.Is(err, rego.ErrPolicy) && failed < patience:
			failed++ // on a busy machine, such as right after a new policy; it is asked again
			return nil
		case err != nil && again.access.Mode != grants.Report:
			return err
		}
		last, failed = again, 0
		return nil
	}
}

// restsOn reports whether a decision now rests on what that one did. The access
// tells of the scope, the live grants of what has expired.
func (x *exchange) restsOn(last *exchange) bool {
	if x.access != last.access || x.live != last.live || x.policy != last.policy {
		return false
	}
	return !x.policy.Reads().Now || x.started.Truncate(time.Minute).Equal(last.started.Truncate(time.Minute))
}

// allowed is decide without a trace.
func (x *exchange) allowed(ctx context.Context) error {
	_, err := x.ask(ctx)
	if err == nil && !x.decision.Allow {
		err = fmt.Errorf("%w: %s", refusal.ErrDenied, x.decision.Reason)
	}
	return err
}

// cutStream ends an open stream. Its decision line was written when it began.
func (x *exchange) cutStream(err error) {
	x.g.Log.Warn("stream cut", slog.String("decision_id", x.id), slog.String("route", x.line.Route),
		slog.String("binding", x.line.Binding), slog.String("detail", err.Error()))
	x.cut()
}

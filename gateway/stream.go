package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"mime"
	"net/http"
	"time"

	"github.com/mtls-authz/mtls-authz/grants"
)

// staysOpen reports whether an answer goes on for as long as both sides like.
// What just takes long, such as a download, runs to its end.
func staysOpen(res *http.Response) bool {
	media, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	return res.StatusCode == http.StatusSwitchingProtocols || media == "text/event-stream"
}

// stillAllowed returns a function that decides again for this exchange, without
// a trace, if anything has changed that its last decision rests on. What it
// keeps is its own: the exchange goes on meanwhile.
func (x *exchange) stillAllowed() func(context.Context) error {
	last, binding := x, x.line.Binding
	return func(ctx context.Context) error {
		again := &exchange{g: x.g, r: x.r, target: x.target, caller: x.caller}
		again.started, again.policy, again.access = x.g.Now(), x.g.Policy(), x.g.Access(binding)
		if again.access == nil || again.access.Route != last.access.Route {
			return fmt.Errorf("%w: unbound meanwhile", ErrUnknownBinding)
		}
		again.live = again.access.Live(again.started, again.policy.Site())
		if again.restsOn(last) {
			return nil
		}
		err := again.walk(again.guard, func() error { return again.allowed(ctx) })
		if err != nil && again.access.Mode != grants.Report {
			return err
		}
		last = again
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
	if _, err := x.ask(ctx); err != nil {
		return err
	}
	if !x.decision.Allow {
		return fmt.Errorf("%w: %s", ErrDenied, x.decision.Reason)
	}
	return nil
}

// leaver returns what takes leave of an upgraded connection; nil: an event stream
// has no word for it.
func (x *exchange) leaver(res *http.Response) func() {
	if res.StatusCode != http.StatusSwitchingProtocols {
		return nil
	}
	return func() {
		if socket := x.socket.Load(); socket != nil {
			socket.Leave()
		}
	}
}

// cutStream ends an open stream. Its decision line was written when it began.
func (x *exchange) cutStream(err error) {
	x.g.Log.Warn("stream cut", slog.String("decision_id", x.id), slog.String("route", x.line.Route),
		slog.String("binding", x.line.Binding), slog.String("detail", err.Error()))
	x.cut()
}

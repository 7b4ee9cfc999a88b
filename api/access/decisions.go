package access

import (
	"errors"
	"net/http"
	"net/url"
	"slices"

	"github.com/mtls-authz/mtls-authz/api/access/explanation"
	"github.com/mtls-authz/mtls-authz/api/envelope"
	"github.com/mtls-authz/mtls-authz/api/list"
	"github.com/mtls-authz/mtls-authz/gateway"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/rego"
	"github.com/mtls-authz/mtls-authz/rego/replay"
	"github.com/mtls-authz/mtls-authz/store"
	"github.com/mtls-authz/mtls-authz/store/sightings"
)

func (a *Access) showDecision(w http.ResponseWriter, r *http.Request) error {
	return a.Decision(w, r, Viewer{})
}

// Decision answers why a decision was made, whose id is in the path.
func (a *Access) Decision(w http.ResponseWriter, r *http.Request, v Viewer) error {
	if _, err := list.ParseParams(r.URL.RawQuery, nil); err != nil {
		return envelope.Refuse(http.StatusBadRequest, "%w", err)
	}
	id, err := list.GUID(r.PathValue("id"))
	if err != nil {
		return envelope.Missing("decision", r.PathValue("id"))
	}
	d, fromMemory, err := a.decided(r, id)
	if err != nil {
		return err
	}
	if v.Instance != "" {
		b, err := a.binding(r, d.Binding)
		if _, other := envelope.Damages(err); other != nil && !errors.Is(err, store.ErrNotFound) {
			return other
		}
		if err != nil || !v.sees(b) {
			return noDecision(id)
		}
	}
	e, err := a.past(r, d, v)
	if err != nil {
		return err
	}
	if fromMemory {
		e.Warn("from the memory of this instance of the gateway")
	}
	return answer(w, r, e)
}

// decided finds a decision in the store, or in memory.
func (a *Access) decided(r *http.Request, id string) (d sightings.Decision, fromMemory bool, err error) {
	d, err = a.Store.Sightings().Fresh(r.Context()).Denial(r.Context(), id)
	if err == nil || !errors.Is(err, store.ErrNotFound) {
		return d, false, err
	}
	if a.Recorded != nil {
		if recorded, ok := a.Recorded(id); ok {
			return a.fromMemory(r, recorded), true, nil
		}
	}
	return d, false, noDecision(id)
}

func noDecision(id string) error {
	return envelope.Refuse(http.StatusNotFound, "there is no decision %q here: the newest 10000 refusals are kept, of each caller of a route the newest 200, a few seconds after they were made; "+
		"and what this instance of the gateway has decided last", id)
}

// past explains a decision of whatever instance by what was in force then, if it
// still is.
func (a *Access) past(r *http.Request, d sightings.Decision, v Viewer) (*explanation.Explanation, error) {
	e := explanation.New(d.Outcome, d.Reason)
	e.DecisionID, e.At, e.Policy, e.Detail = d.DecisionID, &d.At, d.Policy, d.Detail
	e.Method, e.Host, e.Path, e.Route, e.Binding, e.Mode, e.Revision = d.Method, d.Host, d.Path, d.Route, d.Binding, d.Mode, d.PolicyRevision
	var who identity.Caller
	if d.App != "" {
		e.Caller = &explanation.Caller{App: d.App, Space: d.Space, Org: d.Org}
		who.Foundation = a.Foundation
		if err := errors.Join(who.App.UnmarshalText([]byte(d.App)), who.Space.UnmarshalText([]byte(d.Space)), who.Org.UnmarshalText([]byte(d.Org))); err != nil {
			return nil, err
		}
	}
	b, bound, err := a.asThen(r, d, e)
	if err != nil {
		return nil, err
	}
	var request *rego.Request
	if bound != nil {
		request = a.Explain(r.Context(), gateway.Question{
			Binding: d.Binding, Access: bound, Caller: who, Method: d.Method, URL: "https://" + d.Host + d.Path, At: d.At,
		}).Request
	}
	if err := e.Ask(r.Context(), request, a.shows(v)); err != nil {
		return nil, err
	}
	e.Remedy(b)
	return e, nil
}

// asThen is the binding of a refusal, and what applied to it if that is still in
// force; if not, the explanation says what has changed.
func (a *Access) asThen(r *http.Request, d sightings.Decision, e *explanation.Explanation) (b store.BoundRoute, bound *grants.Access, err error) {
	if d.Binding == "" {
		return b, nil, nil
	}
	b, err = a.binding(r, d.Binding)
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrDamaged) {
		e.Warn("the binding has been deleted since")
		return store.BoundRoute{}, nil, nil
	}
	if err != nil {
		return b, nil, err
	}
	mode, _ := grants.ParseMode(d.Mode) // what is no mode is enforced
	bound = a.private(b, mode)
	unlike := func(format string, args ...any) {
		bound = nil
		e.Warn(format, args...)
	}
	policy := a.Policy()
	if policy == nil || d.PolicyRevision != "" && policy.Revision() != d.PolicyRevision {
		now := "none"
		if policy != nil {
			now = policy.Revision()
		}
		unlike("the policy has changed since: then %s, now %s; POST /v1/decide tells what the request would get now", d.PolicyRevision, now)
	}
	switch {
	case d.Revision != max(b.Revision, b.Instance.Revision):
		unlike("the grants or the scope of the route have changed since; POST /v1/decide tells what the request would get now")
	case bound != nil && Names(bound, d.At, policy) != d.Names:
		unlike("what names among the grants stand for has changed since, or is not known; POST /v1/decide tells what the request would get now")
	}
	if d.Cut {
		unlike("the path was too long to be kept whole, so the grants cannot be compared with it")
	}
	return b, bound, nil
}

// fromMemory is a decision that this gateway has in memory. It has no revisions:
// what has not changed since is as it was.
func (a *Access) fromMemory(r *http.Request, m replay.Recorded) sightings.Decision {
	d := sightings.Decision{
		DecisionID: m.DecisionID, At: m.Time, Binding: m.Binding, Route: m.Route, Outcome: sightings.Denied, Policy: m.Decision.Policy, Reason: m.Decision.Reason,
		App: m.Input.Caller.App, Space: m.Input.Caller.Space, Org: m.Input.Caller.Org, Method: m.Input.Request.Method, Host: m.Input.Request.Host,
		Path: (&url.URL{Path: m.Input.Request.Path}).EscapedPath(), PolicyRevision: m.PolicyRevision, Cut: slices.Contains(m.Omitted, replay.OmittedPath),
	}
	if bound := a.Store.View().Access(m.Binding); bound != nil {
		d.Mode = bound.Mode.String()
	}
	switch {
	case m.Decision.Allow:
		d.Outcome = sightings.Allowed
	case d.Mode == grants.Report.String():
		d.Outcome = sightings.NotEnforced
	}
	if b, err := a.binding(r, m.Binding); err == nil && b.Instance.UpdatedAt.Before(m.Time) && b.CreatedAt.Before(m.Time) {
		d.Revision = max(b.Revision, b.Instance.Revision)
	}
	return d
}

package access

import (
	"bytes"
	"context"
	"encoding/hex"
	"net/http"
	"time"

	"github.com/mtls-authz/mtls-authz/api/access/explanation"
	"github.com/mtls-authz/mtls-authz/api/envelope"
	"github.com/mtls-authz/mtls-authz/gateway"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/names"
	"github.com/mtls-authz/mtls-authz/grants/parameters"
	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/rego"
	"github.com/mtls-authz/mtls-authz/store"
)

// A Viewer is whose routes somebody may ask about, and what the answer may say. The
// zero Viewer may ask about all and is told all.
type Viewer struct {
	// Instance is the service instance whose routes these are; "": all routes.
	Instance string
	// Org is that of a user, who is told the names of that org alone, and nothing of
	// the operator's policy; zero: no user, but a reader or an operator.
	Org identity.GUID
}

// shows is what an explanation may say to the viewer.
func (a *Access) shows(v Viewer) explanation.Viewer {
	if v.Org.IsZero() {
		return explanation.Viewer{Labels: a.Labels, Policy: true}
	}
	return explanation.Viewer{Labels: a.Labels.Within(v.Org)}
}

// of is the explanation of what the gateway says.
func (a *Access) of(ctx context.Context, told gateway.Explanation, b store.BoundRoute, v Viewer) (*explanation.Explanation, error) {
	l := told.Line
	e := explanation.New(l.Auth, l.Reason)
	e.Policy, e.Detail, e.Method, e.Host, e.Path = l.Policy, l.Detail, l.Method, l.Host, l.Path
	e.Route, e.Binding, e.Mode, e.Revision = l.Route, l.Binding, l.Mode, l.PolicyRevision
	if l.App != "" {
		e.Caller = &explanation.Caller{App: l.App, Space: l.Space, Org: l.Org}
	}
	if err := e.Ask(ctx, told.Request, a.shows(v)); err != nil {
		return nil, err
	}
	e.Remedy(b)
	return e, nil
}

// private is the access of a binding that no request shares. What names stand for,
// the one in force knows.
func (a *Access) private(b store.BoundRoute, mode grants.Mode) *grants.Access {
	var book *names.Book
	if inForce := a.Store.View().Access(b.ID); inForce != nil {
		book = inForce.Names
	}
	return parameters.NewAccess(parameters.Bound{
		Names: book, Binding: b.ID, Route: b.Route, Owner: b.Instance.Owner, Plan: b.Instance.Plan, Revision: max(b.Revision, b.Instance.Revision),
		Instance: b.Instance.Parameters, OfBinding: b.Parameters, ReportAllowed: mode == grants.Report,
	})
}

// Names digests what the sources by name of a route stand for; "": it has none.
func Names(bound *grants.Access, at time.Time, policy *rego.Policy) string {
	return hex.EncodeToString([]byte(bound.Live(at, policy.Site()).Resolution))
}

// answer shows an explanation as the client wants it.
func answer(w http.ResponseWriter, r *http.Request, e *explanation.Explanation) error {
	if envelope.WantsText(r) {
		return write(w, bytes.NewReader(e.Text()))
	}
	return envelope.Show(w, e)
}

// Package question is one request, made up on the command line: who calls, what,
// and what the route allows. It becomes the same request that the gateway would
// make of it, through the same parsers.
//
// It trusts nothing that was typed and says all that is wrong with it at once.
package question

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/mtls-authz/mtls-authz/gateway/target"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/mistake"
	"github.com/mtls-authz/mtls-authz/grants/parameters"
	"github.com/mtls-authz/mtls-authz/grants/route"
	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/rego"
	"github.com/mtls-authz/mtls-authz/rego/author"
)

// Config configures [New]. Fields without a default are required. Errors name
// them as the flags of "policy eval".
type Config struct {
	// App, Space and Org are the caller's guids.
	App, Space, Org string
	// Method is in upper case; URL is https://host/path.
	Method, URL string
	// Route is the bound route, host[/path]; "": the host of URL.
	Route string
	// Parameters are those of the service instance, in JSON; nil: none.
	Parameters []byte
	// Allow are further sources, such as cf:any.
	Allow []string
	// OwnerSpace and OwnerOrg are the route's; "": the caller's.
	OwnerSpace, OwnerOrg string
	// Scope is that of the service plan; "": any.
	Scope string
	// Labels are added to those of Parameters.
	Labels map[string]string
	// At is the time of the request, in RFC 3339; "": now.
	At string
}

// A Question is a request that no policy has seen yet.
type Question struct {
	caller identity.Caller
	target target.Target
	method string
	access *grants.Access
	allow  []grants.Grant
	now    time.Time
}

// fake ids of what the platform would have made.
const (
	foundation = "local"
	binding    = "policy-eval-binding"
	instance   = "policy-eval-instance"
)

// New reads what was typed.
func New(cfg Config) (*Question, error) {
	q := &Question{method: cfg.Method}
	r := &reader{}
	q.caller = identity.Caller{
		Foundation: foundation, App: r.guid("--app", cfg.App), Space: r.guid("--space", cfg.Space), Org: r.guid("--org", cfg.Org),
	}
	if !grants.IsMethod(cfg.Method) {
		r.fail("--method %q: expected a method in upper case, such as GET", cfg.Method)
	}
	q.target = r.url(cfg.URL)
	bound := parameters.Bound{
		Binding: binding, Route: r.route(cfg.Route, q.target.Host), Plan: r.scope(cfg.Scope), Instance: r.parameters(cfg), ReportAllowed: true,
		Owner: grants.Owner{
			Instance: instance, Space: r.guidOr("--owner-space", cfg.OwnerSpace, q.caller.Space), Org: r.guidOr("--owner-org", cfg.OwnerOrg, q.caller.Org),
		},
	}
	q.now = r.time(cfg.At)
	if cfg.URL != "" && len(r.errs) == 0 && (!bound.Route.MatchHost(q.target.Host) || !bound.Route.MatchPath(q.target.RawPath)) {
		r.fail("--url %q: is not on --route %q", cfg.URL, bound.Route)
	}
	if len(r.errs) > 0 {
		return nil, errors.Join(r.errs...)
	}
	q.access, q.allow = parameters.NewAccess(bound), bound.Instance.Allow
	return q, nil
}

// Ask is the request under a policy, for [author.Eval].
func (q *Question) Ask(_ context.Context, policy *rego.Policy) (author.Case, error) {
	c := author.Case{Request: &rego.Request{
		Policy: policy, Live: q.access.Live(q.now, policy.Site()), Caller: q.caller, Method: q.method,
		Host: q.target.Host, Path: q.target.Path, Segments: q.target.Segments, Now: q.now,
	}}
	for _, grant := range q.allow {
		c.Grants = append(c.Grants, grants.Rule{Grant: grant, Origin: grants.FromInstance})
	}
	for _, grant := range policy.Site().Grants {
		c.Grants = append(c.Grants, grants.Rule{Grant: grant, Origin: grants.FromOperator})
	}
	// As the gateway does where the path decides.
	if c.Request.Live.HasPaths || q.access.Route.Path != "" || policy.Reads().Path {
		c.Refused = q.target.Unambiguous()
	}
	return c, nil
}

// reader collects what is wrong.
type reader struct{ errs []error }

func (r *reader) fail(format string, args ...any) {
	r.errs = append(r.errs, fmt.Errorf(format, args...))
}

func (r *reader) guid(flag, text string) identity.GUID {
	if text == "" {
		r.fail("%s: required; expected a guid, as cf app NAME --guid prints", flag)
		return identity.GUID{}
	}
	guid, err := identity.ParseGUID(text)
	if err != nil {
		r.fail("%s: %w", flag, err)
	}
	return guid
}

func (r *reader) guidOr(flag, text string, fallback identity.GUID) identity.GUID {
	if text == "" {
		return fallback
	}
	return r.guid(flag, text)
}

func (r *reader) url(text string) target.Target {
	if text == "" {
		r.fail("--url: required; expected https://host/path")
		return target.Target{}
	}
	parsed, err := target.Parse(text)
	if err != nil {
		r.fail("--url %q: %w; the gateway answers 400", text, err)
	}
	return parsed
}

func (r *reader) route(text, host string) route.Route {
	if text == "" {
		return route.Route{Host: host}
	}
	parsed, err := route.Parse(text)
	if err != nil {
		r.fail("--route: %w", err)
	}
	return parsed
}

func (r *reader) scope(text string) grants.Scope {
	if text == "" {
		return grants.ScopeAny
	}
	scope, err := grants.ParseScope(text)
	if err != nil {
		r.fail("--scope: %w", err)
	}
	return scope
}

func (r *reader) time(text string) time.Time {
	if text == "" {
		return time.Now()
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		r.fail("--at %q: expected a time such as 2026-05-04T10:15:00Z", text)
	}
	return at
}

// parameters reads all that the route's owner gives as one document, by the
// parser of the service broker.
func (r *reader) parameters(cfg Config) parameters.Parameters {
	document := map[string]any{}
	if cfg.Parameters != nil {
		if err := json.Unmarshal(cfg.Parameters, &document); err != nil {
			r.fail("--grants: %w", mistake.OfJSON(err, "the parameters"))
			return parameters.Parameters{}
		}
	}
	if len(cfg.Allow) > 0 {
		allow, _ := document["allow"].([]any)
		for _, source := range cfg.Allow {
			allow = append(allow, source)
		}
		document["allow"] = allow
	}
	if len(cfg.Labels) > 0 {
		labels, _ := document["labels"].(map[string]any)
		if labels == nil {
			labels = map[string]any{}
		}
		for name, value := range cfg.Labels {
			labels[name] = value
		}
		document["labels"] = labels
	}
	text, err := json.Marshal(document)
	if err != nil {
		r.fail("--grants: %w", err)
		return parameters.Parameters{}
	}
	p, err := parameters.ParseInstance(text)
	if err != nil {
		r.fail("--grants, --allow, --labels: %w", err)
	}
	return p
}

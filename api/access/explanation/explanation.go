// Package explanation is why a request is decided as it is, for people: what each
// grant and each check says of it, and what would have allowed it.
//
// It decides nothing: the outcome it is told. Nothing in its text can be a command
// to a terminal.
package explanation

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mtls-authz/mtls-authz/gateway/refusal"
	"github.com/mtls-authz/mtls-authz/grants/display"
	"github.com/mtls-authz/mtls-authz/rego"
	"github.com/mtls-authz/mtls-authz/rego/explain"
	"github.com/mtls-authz/mtls-authz/store"
)

// An Explanation is why a request is decided as it is.
type Explanation struct {
	DecisionID string `json:"decision_id,omitempty"`
	// At is when it was decided, of a real request.
	At      *time.Time `json:"at,omitempty"`
	Allowed bool       `json:"allowed"`
	// GoesOn: the request reaches the route: it is allowed, or nothing is enforced.
	GoesOn bool `json:"goes_on"`
	// Outcome, Policy and Reason are mtls_auth, mtls_policy and mtls_denied_reason
	// of the decision line.
	Outcome string `json:"outcome"`
	Policy  string `json:"policy"`
	Reason  string `json:"reason,omitempty"`
	// Step of the walk at which it was refused: admit, binding, target, caller,
	// guard, decide or forward.
	Step   string `json:"step,omitempty"`
	Detail string `json:"detail,omitempty"`
	// Caller is null if nobody was verified.
	Caller   *Caller `json:"caller"`
	Method   string  `json:"method"`
	Host     string  `json:"host"`
	Path     string  `json:"path"`
	Route    string  `json:"route"`
	Binding  string  `json:"binding_guid"`
	Mode     string  `json:"mode"`
	Revision string  `json:"policy_revision"`
	// Grants are those that could have let it pass, the caller's own first, of
	// GrantsTotal. The one without because matches.
	Grants      []explain.Grant `json:"grants"`
	GrantsTotal int             `json:"grants_total"`
	Checks      []explain.Check `json:"checks"`
	// Remedies are what would have allowed it.
	Remedies []string `json:"remedies"`
	Warnings []string `json:"warnings"`
}

// A Caller is a verified one; all guids.
type Caller struct {
	App   string `json:"app"`
	Space string `json:"space"`
	Org   string `json:"org"`
	// Name is org/space/app; "": not known, or not for the viewer.
	Name string `json:"name,omitempty"`
}

// maxGrants bounds the grants of an explanation.
const maxGrants = 100

// New is of an outcome and a reason, as the decision line has them.
func New(outcome, reason string) *Explanation {
	e := &Explanation{
		Allowed: outcome == "allowed", GoesOn: outcome != "denied", Outcome: outcome, Reason: reason,
		Grants: []explain.Grant{}, Checks: []explain.Check{}, Remedies: []string{}, Warnings: []string{},
	}
	if !e.Allowed {
		e.Step = refusal.StepOf(reason)
	}
	return e
}

// Warn adds a sentence.
func (e *Explanation) Warn(format string, args ...any) {
	e.Warnings = append(e.Warnings, fmt.Sprintf(format, args...))
}

// A Viewer is who reads an explanation.
type Viewer struct {
	// Labels are the names that the viewer may see; nil: none.
	Labels display.Labels
	// Policy: the text of the operator's checks is shown.
	Policy bool
}

// ofTheRequest are the reasons of which the detail is about the request alone. Others
// name hosts of the platform, or errors of a check.
var ofTheRequest = []string{
	"malformed_request", "route_mismatch", "loop", "no_certificate", "untrusted_certificate", "identity_extraction", "scope", "no_grants", "no_matching_grant",
}

// Ask asks each grant and each check about the request.
func (e *Explanation) Ask(ctx context.Context, r *rego.Request, v Viewer) (err error) {
	labels := v.Labels
	if !v.Policy && !slices.Contains(ofTheRequest, e.Reason) {
		e.Detail = ""
	}
	if e.Caller != nil {
		e.Caller.Name = labels.App(e.Caller.App)
	}
	if r == nil || r.Caller.IsZero() { // the walk ended before they could matter
		return nil
	}
	e.Grants, err = explain.Route(r, labels, !v.Policy)
	if err != nil {
		return err
	}
	e.GrantsTotal = len(e.Grants)
	e.Grants = append([]explain.Grant{}, e.Grants[:min(len(e.Grants), maxGrants)]...)
	if v.Policy {
		e.Checks = explain.Of(r.Policy).Checks(ctx, r)
	}
	return nil
}

// general are the remedies that do not depend on the request.
var general = map[string]string{
	"not_ready":             "wait until the gateway has loaded its policy and its state; /readyz says what is missing",
	"overloaded":            "try again; the operator may raise MAX_IN_FLIGHT or add instances",
	"unknown_binding":       "bind the route: cf bind-route-service; until the platform has unbound a deleted binding, its route is refused",
	"malformed_request":     "send a request that can be read in one way only; the detail says what is not",
	"loop":                  "call the app's own route; a request may pass the gateway once, and the gateway calls nobody",
	"route_mismatch":        "bind the route that is called",
	"router_untrusted":      "the detail says what the self-test knows of the router: where a forged certificate has come through, the operator must set router.forwarded_client_cert to sanitize_set; what was not probed yet, the first request has probed; /readyz says more",
	"no_certificate":        "call the route's mTLS domain with the app's instance certificate: CF_INSTANCE_CERT and CF_INSTANCE_KEY",
	"untrusted_certificate": "present one certificate, valid now, of a CA that issues instance certificates of this foundation",
	"identity_extraction":   "present an instance certificate, which names exactly one app, space and organization",
	"policy_error":          "a check of the operator's policy failed to decide; the operator's log has the error",
	"router_rejected":       "the router did not accept the route service's signature: repeat the request; if it persists, the router's secret or clock is wrong",
}

// Remedy says what would have allowed the request.
func (e *Explanation) Remedy(b store.BoundRoute) {
	add := func(format string, args ...any) { e.Remedies = append(e.Remedies, fmt.Sprintf(format, args...)) }
	if e.Allowed {
		return
	}
	if text := general[e.Reason]; text != "" {
		add("%s", text)
		return
	}
	switch {
	case e.Caller == nil:
	case e.Reason == "scope":
		add("a scope that has space %s of organization %s in it: plan %s, the scope of the instance's parameters and of the bind's, of which the narrowest counts, around space %s of organization %s",
			e.Caller.Space, e.Caller.Org, b.Instance.Plan, b.Instance.Owner.Space, b.Instance.Owner.Org)
	case e.Reason == "no_grants", e.Reason == rego.ReasonNoMatchingGrant:
		for _, grant := range e.Grants {
			if grant.Because != "" && grant.OfCaller {
				add("the grant %s of the %s, but for this: %s", grant.Grant, grant.Origin, grant.Because)
			}
		}
		add(`a grant to the caller: cf update-service SERVICE -c '{"allow_add":["cf:app:%s"]}'`, e.Caller.App)
	}
	if name, ok := strings.CutPrefix(e.Policy, "policy:"); ok && len(e.Checks) == 0 {
		add("the check %s of the operator's policy, whose conditions the operator knows", name)
	}
	for _, check := range e.Checks {
		if !check.Holds {
			add("the check %s of the operator's policy; it comes to its end at %s", check.Name, conditions(check))
		}
	}
}

func conditions(check explain.Check) string {
	var texts []string
	for _, end := range check.Ends {
		texts = append(texts, fmt.Sprintf("%s:%d: %s", end.File, end.Line, end.Condition))
	}
	if len(texts) == 0 {
		return "allow, which is " + check.Allow
	}
	return strings.Join(texts, "; or ")
}

// Text is a page to read.
func (e *Explanation) Text() []byte {
	var text bytes.Buffer
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&text, "%-9s %s\n", name, display.Printable(value))
		}
	}
	line("decision", e.DecisionID)
	line("outcome", strings.TrimSpace(e.Outcome+" "+e.Reason))
	line("policy", e.Policy)
	line("step", e.Step)
	line("detail", e.Detail)
	if e.Caller != nil {
		line("caller", "app "+e.Caller.App+display.Beside(e.Caller.Name)+", space "+e.Caller.Space+", organization "+e.Caller.Org)
	} else {
		line("caller", "not verified")
	}
	line("request", e.Method+" https://"+e.Host+e.Path)
	line("route", e.Route+" (binding "+e.Binding+", mode "+e.Mode+")")
	for _, grant := range e.Grants {
		because := grant.Because
		if because == "" {
			because = "matches"
		}
		line("grant", string(grant.Grant)+display.Beside(grant.StandsFor, grant.Name)+" ("+grant.Origin+"): "+because)
	}
	for _, check := range e.Checks {
		holds := "holds"
		if !check.Holds {
			holds = "does not hold: " + conditions(check)
		}
		line("check", check.Name+": "+holds)
	}
	for _, remedy := range e.Remedies {
		line("remedy", remedy)
	}
	for _, warning := range e.Warnings {
		line("warning", warning)
	}
	return text.Bytes()
}

package explain

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/display"
	"github.com/mtls-authz/mtls-authz/grants/route"
	"github.com/mtls-authz/mtls-authz/rego"
)

// A Grant is one grant that could have let the request pass.
type Grant struct {
	// Grant is as parameters write it, Origin is instance, binding or operator.
	Grant  json.RawMessage `json:"grant"`
	Origin string          `json:"origin"`
	// StandsFor is the source by guid where the grant has a name.
	StandsFor string `json:"stands_for,omitempty"`
	// Name is org/space/app of the source; "": not known, or not for the viewer.
	Name string `json:"name,omitempty"`
	// Because says why it does not match; "": it matches.
	Because string `json:"because,omitempty"`
	// OfCaller: it is for the caller, whatever its conditions.
	OfCaller bool `json:"-"`
}

// Route says of each grant of the request's route whether it matches, also of those
// that are not in force, but for the operator's to other routes: they tell of those.
// labels are the names that the viewer may see; the owner of the route sees of the
// operator's what [display.ForOwner] leaves.
func Route(r *rego.Request, labels display.Labels, forOwner bool) ([]Grant, error) {
	idle := r.Live.Idle(r.Now, r.Policy.Site())
	idle.Elsewhere = slices.DeleteFunc(idle.Elsewhere, func(rule grants.Rule) bool { return rule.Origin == grants.FromOperator })
	rules := slices.Concat(r.Live.Rules, idle.Ended, idle.Elsewhere)
	for i := range rules {
		if forOwner {
			rules[i] = display.ForOwner(rules[i], r.Live.Route)
		}
	}
	list, err := explained(r, rules, labels)
	if err != nil {
		return nil, err
	}
	var nobodys []Grant
	for _, naming := range idle.Nobody {
		text, err := json.Marshal(naming.Written)
		if err != nil {
			return nil, err
		}
		nobodys = append(nobodys, Grant{Grant: text, Origin: naming.Origin.String(), Because: naming.Warning(r.Now)})
	}
	own := 0
	for own < len(list) && list[own].OfCaller {
		own++
	}
	return slices.Insert(list, own, nobodys...), nil
}

// Grants says of each grant whether it matches the request. Those to others than
// the caller come last, in their order otherwise.
func Grants(r *rego.Request, rules []grants.Rule) ([]Grant, error) { return explained(r, rules, nil) }

// explained has of a name that stands for many only the caller, or else one of them.
func explained(r *rego.Request, rules []grants.Rule, labels display.Labels) ([]Grant, error) {
	var own, others []Grant
	told := map[string]bool{}
	for _, rule := range rules {
		written := rule.Written()
		text, err := json.Marshal(written)
		if err != nil {
			return nil, err
		}
		one := Grant{Grant: text, Origin: rule.Origin.String(), Name: labels.Source(rule.Source)}
		if written.Source.Kind == grants.Named {
			one.StandsFor = rule.Source.String()
		}
		if one.Because = anotherSource(r, rule.Source); one.Because != "" {
			others = append(others, one)
			continue
		}
		one.OfCaller, one.Because = true, unmet(r, rule.Terms)
		if one.Because != "" && rule.Expired(r.Now) && !written.Expired(r.Now) {
			one.Because = "the caller bore the name until " + rule.Terms.Expires.Format(time.RFC3339)
		}
		told[one.Origin+string(text)] = true
		own = append(own, one)
	}
	others = slices.DeleteFunc(others, func(g Grant) bool {
		key := g.Origin + string(g.Grant)
		again := g.StandsFor != "" && told[key]
		told[key] = true
		return again
	})
	return append(own, others...), nil
}

func anotherSource(r *rego.Request, source grants.Source) string {
	caller := map[grants.Kind]grants.Source{
		grants.App: {Kind: grants.App, ID: r.Caller.App}, grants.Space: {Kind: grants.Space, ID: r.Caller.Space},
		grants.Org: {Kind: grants.Org, ID: r.Caller.Org}, grants.Any: {Kind: grants.Any},
	}[source.Kind]
	if caller == source && source.Kind != 0 {
		return ""
	}
	return fmt.Sprintf("not the caller's, which is %s", caller)
}

// unmet is the first condition that the request does not meet.
func unmet(r *rego.Request, terms *grants.Terms) string {
	covers := func(granted route.Route) bool { return granted.Covers(r.Live.Route) }
	matches := func(pattern route.Pattern) bool { return pattern.Match(r.Segments) }
	switch {
	case terms == nil:
		return ""
	case (grants.Grant{Terms: terms}).Expired(r.Now):
		return "it expired at " + terms.Expires.Format(time.RFC3339)
	case terms.Routes != nil && !slices.ContainsFunc(terms.Routes, covers):
		return fmt.Sprintf("the route %s is not one of %s", r.Live.Route, list(terms.Routes))
	case terms.Methods != nil && !slices.Contains(terms.Methods, r.Method):
		return fmt.Sprintf("method %s is not one of %s", r.Method, list(terms.Methods))
	case terms.Paths != nil && !slices.ContainsFunc(terms.Paths, matches):
		return fmt.Sprintf("path %s is not matched by %s", r.Path, list(terms.Paths))
	}
	return ""
}

func list[T any](values []T) string {
	return strings.Trim(strings.Join(strings.Fields(fmt.Sprint(values)), ", "), "[]")
}

package explain

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/route"
	"github.com/mtls-authz/mtls-authz/rego"
)

// A Grant is one grant that could have let the request pass.
type Grant struct {
	// Grant is as parameters write it, Origin is instance, binding or operator.
	Grant  json.RawMessage `json:"grant"`
	Origin string          `json:"origin"`
	// Because says why it does not match; "": it matches.
	Because string `json:"because,omitempty"`
}

// Grants says of each grant whether it matches the request. Those to others than
// the caller come last, in their order otherwise.
func Grants(r *rego.Request, rules []grants.Rule) ([]Grant, error) {
	var own, others []Grant
	for _, rule := range rules {
		text, err := json.Marshal(rule.Grant)
		if err != nil {
			return nil, err
		}
		explained := Grant{Grant: text, Origin: rule.Origin.String()}
		if explained.Because = anotherSource(r, rule.Source); explained.Because != "" {
			others = append(others, explained)
			continue
		}
		if rule.Terms != nil {
			explained.Because = unmet(r, rule.Terms)
		}
		own = append(own, explained)
	}
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

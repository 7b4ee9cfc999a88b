// Package parameters is what a developer gives to a service instance or a
// binding, in JSON: it reads, patches and writes it in one canonical form, and
// merges both into the effective access of a route. It trusts nothing in it, and
// every refusal names the entry in words for the developer.
package parameters

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/mistake"
	"github.com/mtls-authz/mtls-authz/grants/route"
	"github.com/mtls-authz/mtls-authz/grants/terms"
)

// Parameters are what a developer gives to a service instance or a binding, in
// canonical form. The zero value is "nothing given".
type Parameters struct {
	// Scope narrows the plan's; zero: not given.
	Scope grants.Scope
	// Mode is Report only if the instance says so.
	Mode grants.Mode
	// ReportRoutes are the routes in report mode whatever Mode says.
	ReportRoutes []route.Route
	// Assert asks for the signed caller assertion.
	Assert bool
	// Allow are the grants, in the order given.
	Allow []grants.Grant
	// Labels are the developer's claims about the route; policies may narrow
	// by them. Annotations are notes. Neither grants anything.
	Labels, Annotations map[string]string

	// given keeps apart "not given" from a default that was given. JSON does not
	// need it for any other value.
	given struct{ mode, reportRoutes, assert, allow, labels, annotations bool }
}

// document is the JSON of Parameters, in canonical order.
type document struct {
	Scope        *string            `json:"scope,omitempty"`
	Mode         *string            `json:"mode,omitempty"`
	ReportRoutes *[]string          `json:"report_routes,omitempty"`
	Assert       *bool              `json:"assert,omitempty"`
	Allow        *[]json.RawMessage `json:"allow,omitempty"`
	Labels       *map[string]string `json:"labels,omitempty"`
	Annotations  *map[string]string `json:"annotations,omitempty"`
}

const (
	maxReportRoutes = 1000
	maxDocument     = 1 << 20 // bytes, as a broker request
	maxMetadata     = 64
	maxAnnotation   = 5000
)

var (
	labelKey   = regexp.MustCompile(`^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`)
	labelValue = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$`)
)

// ParseInstance reads the parameters of a new service instance. Grants that
// have expired are not refused here: see [RefuseExpired].
func ParseInstance(raw []byte) (Parameters, error) {
	return parseNew(raw, "")
}

// ParseBinding reads the parameters of a new binding, which cannot be updated:
// only allow, scope, labels and annotations.
func ParseBinding(raw []byte) (Parameters, error) {
	return parseNew(raw, "a binding takes allow, scope, labels and annotations only; set %q on the service instance")
}

func parseNew(raw []byte, bindingHint string) (Parameters, error) {
	given, err := readObject(raw)
	if err != nil {
		return Parameters{}, err
	}
	delete(given, "status")
	for _, name := range []string{"allow_add", "allow_remove"} {
		if _, ok := given[name]; ok {
			return Parameters{}, refuse("%s is for cf update-service; write allow here", name)
		}
	}
	if err := expandAlias(given); err != nil {
		return Parameters{}, err
	}
	if bindingHint != "" {
		for _, name := range []string{"mode", "report_routes", "assert"} {
			if _, ok := given[name]; ok {
				return Parameters{}, refuse(bindingHint, name)
			}
		}
	}
	return parseObject(mergePatch(nil, given))
}

// ParseStored reads the canonical form that [Parameters.JSON] wrote.
func ParseStored(raw []byte) (Parameters, error) {
	var members map[string]json.RawMessage
	if err := decodeObject(raw, &members); err != nil || len(members) == 0 {
		return Parameters{}, err
	}
	if err := refuseUnknown(members); err != nil {
		return Parameters{}, err
	}
	return parseDocument(raw)
}

func parseObject(object map[string]any) (Parameters, error) {
	if err := refuseUnknown(object); err != nil {
		return Parameters{}, err
	}
	raw, err := json.Marshal(object)
	if err != nil {
		return Parameters{}, refuse("%v", err)
	}
	return parseDocument(raw)
}

// parseDocument reads an object of which the names are known to be exact:
// encoding/json alone would take "Allow" for "allow".
func parseDocument(raw []byte) (Parameters, error) {
	var doc document
	if err := json.Unmarshal(raw, &doc); err != nil {
		return Parameters{}, refuse("%w", mistake.OfJSON(err, "parameter"))
	}
	p, err := doc.parameters()
	if err != nil {
		return Parameters{}, refuse("%w", err)
	}
	return p, nil
}

func (d document) parameters() (p Parameters, err error) {
	if d.Scope != nil {
		if p.Scope, err = grants.ParseScope(*d.Scope); err != nil {
			return p, err
		}
	}
	if d.Mode != nil {
		if p.Mode, err = grants.ParseMode(*d.Mode); err != nil {
			return p, err
		}
		p.given.mode = true
	}
	if d.ReportRoutes != nil {
		if p.ReportRoutes, err = parseReportRoutes(*d.ReportRoutes); err != nil {
			return p, err
		}
		p.given.reportRoutes = true
	}
	if d.Assert != nil {
		p.Assert, p.given.assert = *d.Assert, true
	}
	if d.Allow != nil {
		if p.Allow, err = grants.ParseList("allow", *d.Allow); err != nil {
			return p, err
		}
		p.given.allow = true
	}
	return p, d.metadata(&p)
}

func (d document) metadata(p *Parameters) error {
	if d.Labels != nil {
		p.Labels, p.given.labels = *d.Labels, true
	}
	if d.Annotations != nil {
		p.Annotations, p.given.annotations = *d.Annotations, true
	}
	if len(p.Labels) > maxMetadata || len(p.Annotations) > maxMetadata {
		return fmt.Errorf("at most %d labels and %d annotations are allowed", maxMetadata, maxMetadata)
	}
	for _, key := range slices.Sorted(maps.Keys(p.Labels)) {
		value := p.Labels[key]
		if !labelKey.MatchString(key) || !labelValue.MatchString(value) {
			return fmt.Errorf("label %q=%q: expected letters, digits, '-', '_', '.', at most 63 characters, a DNS prefix allowed for the key", clip(key), clip(value))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(p.Annotations)) {
		if !labelKey.MatchString(key) {
			return fmt.Errorf("annotation %q: expected a key of letters, digits, '-', '_', '.', at most 63 characters, a DNS prefix allowed", clip(key))
		}
		if _, err := terms.ParseNote("annotation "+key, p.Annotations[key], maxAnnotation); err != nil {
			return err
		}
	}
	return nil
}

func parseReportRoutes(values []string) ([]route.Route, error) {
	if len(values) > maxReportRoutes {
		return nil, fmt.Errorf("report_routes has %d entries, at most %d are allowed", len(values), maxReportRoutes)
	}
	routes := make([]route.Route, 0, len(values))
	for _, value := range values {
		one, err := route.ParseExact(value)
		if err != nil {
			return nil, fmt.Errorf("report_routes: %w", err)
		}
		if !slices.Contains(routes, one) {
			routes = append(routes, one)
		}
	}
	return routes, nil
}

// RefuseExpired refuses a grant of allow that has ended before it was set.
func RefuseExpired(list []grants.Grant, now time.Time) error {
	return refuseExpired("allow", list, now)
}

func refuseExpired(name string, list []grants.Grant, now time.Time) error {
	for i, grant := range list {
		if grant.Expired(now) {
			return refuse("%s[%d]: source %q: expires %s is in the past", name, i, grant.Source, grant.Terms.Expires.Format(time.RFC3339))
		}
	}
	return nil
}

// Reports reports whether the parameters ask for report mode anywhere.
func (p Parameters) Reports() bool { return p.Mode == grants.Report || len(p.ReportRoutes) > 0 }

// JSON returns the canonical form: what was given, in one order and spelling.
func (p Parameters) JSON() json.RawMessage {
	var doc document
	if p.Scope != 0 {
		doc.Scope = ptr(p.Scope.String())
	}
	if p.given.mode || p.Mode != grants.Enforce {
		doc.Mode = ptr(p.Mode.String())
	}
	if p.given.reportRoutes || len(p.ReportRoutes) > 0 {
		doc.ReportRoutes = ptr(make([]string, len(p.ReportRoutes)))
		for i, r := range p.ReportRoutes {
			(*doc.ReportRoutes)[i] = r.String()
		}
	}
	if p.given.assert || p.Assert {
		doc.Assert = &p.Assert
	}
	if p.given.allow || len(p.Allow) > 0 {
		entries := make([]json.RawMessage, len(p.Allow))
		for i, grant := range p.Allow {
			entries[i], _ = grant.MarshalJSON() // strings cannot fail
		}
		doc.Allow = &entries
	}
	if p.given.labels || len(p.Labels) > 0 {
		doc.Labels = &p.Labels
	}
	if p.given.annotations || len(p.Annotations) > 0 {
		doc.Annotations = &p.Annotations
	}
	raw, _ := json.Marshal(doc) // as above
	return raw
}

func ptr[T any](v T) *T { return &v }

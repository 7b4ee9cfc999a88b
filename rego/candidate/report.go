package candidate

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/mtls-authz/mtls-authz/rego"
)

// A Report tells what the candidate would change. It starts anew whenever one of
// the two policies changes.
type Report struct {
	// CandidateRevision and PolicyRevision name the two policies; "": nothing has
	// been evaluated yet.
	CandidateRevision string `json:"candidate_revision"`
	PolicyRevision    string `json:"policy_revision"`
	// Since is when the report began; null with nothing evaluated.
	Since *time.Time `json:"since"`
	// Evaluated are the decisions compared, Dropped those chosen for which there
	// was no time, Errors those on which the candidate gave no decision, which
	// denies.
	Evaluated uint64 `json:"evaluated"`
	Dropped   uint64 `json:"dropped"`
	Errors    uint64 `json:"errors"`
	LastError string `json:"last_error,omitempty"`
	Counts
	// Routes are those with differences, by name; differences about routes beyond
	// the first 500 are in Unlisted.
	Routes   []RouteReport `json:"routes"`
	Unlisted uint64        `json:"unlisted"`
}

// Counts are decisions by what the candidate would change.
type Counts struct {
	WouldAllow   uint64 `json:"would_allow"`
	WouldDeny    uint64 `json:"would_deny"`
	OtherReason  uint64 `json:"other_reason"`
	OtherHeaders uint64 `json:"other_headers"`
}

func (c *Counts) add(k kind) {
	switch k {
	case same:
	case wouldAllow:
		c.WouldAllow++
	case wouldDeny:
		c.WouldDeny++
	case otherReason:
		c.OtherReason++
	case otherHeaders:
		c.OtherHeaders++
	}
}

// RouteReport is what would change for one route.
type RouteReport struct {
	// Route is host[/path] as bound.
	Route string `json:"route"`
	Counts
	// Examples are the first 20 that differ in kind, in the caller's app, space and
	// org, in the method, or in one of the two decisions.
	Examples []Example `json:"examples"`
}

// Example is one decision that would change, and how often one like it came.
type Example struct {
	// Kind is would_allow, would_deny, other_reason or other_headers.
	Kind string `json:"kind"`
	// DecisionID and Path, of at most 256 bytes, are those of the first one.
	DecisionID string    `json:"decision_id"`
	Caller     Caller    `json:"caller"`
	Method     string    `json:"method"`
	Path       string    `json:"path"`
	Active     Outcome   `json:"active"`
	Candidate  Outcome   `json:"candidate"`
	Count      uint64    `json:"count"`
	FirstSeen  time.Time `json:"first_seen"`
	LastSeen   time.Time `json:"last_seen"`
}

// Caller is who called.
type Caller struct {
	App   string `json:"app"`
	Space string `json:"space"`
	Org   string `json:"org"`
}

// Outcome is a decision, as the decision line tells it.
type Outcome struct {
	Allow  bool   `json:"allow"`
	Policy string `json:"policy"`
	Reason string `json:"reason"`
}

const (
	maxRoutes   = 500
	maxExamples = 20
	maxPath     = 256
)

// kind is how two decisions differ.
type kind uint8

const (
	same kind = iota
	wouldAllow
	wouldDeny
	otherReason
	otherHeaders
)

func (k kind) String() string {
	return [...]string{"same", "would_allow", "would_deny", "other_reason", "other_headers"}[k]
}

// result is the metric's label.
func (k kind) result() string {
	if k == otherReason || k == otherHeaders {
		return "other"
	}
	return k.String()
}

// compare tells how the candidate's decision differs: first in its outcome, then
// in what decided, then in the headers for the app.
func compare(active, candidate rego.Decision) kind {
	switch {
	case candidate.Allow && !active.Allow:
		return wouldAllow
	case active.Allow && !candidate.Allow:
		return wouldDeny
	case active.Policy != candidate.Policy || active.Reason != candidate.Reason:
		return otherReason
	case !slices.Equal(active.Headers, candidate.Headers):
		return otherHeaders
	}
	return same
}

func outcomeOf(d rego.Decision) Outcome {
	return Outcome{Allow: d.Allow, Policy: strings.Clone(d.Policy), Reason: strings.Clone(d.Reason)}
}

// routeTally is a RouteReport in the making.
type routeTally struct {
	Counts
	examples map[exampleKey]*Example
}

// exampleKey is what examples differ in.
type exampleKey struct {
	kind              kind
	caller            Caller
	method            string
	active, candidate Outcome
}

func (t *routeTally) note(d *difference) {
	t.add(d.kind)
	r := d.request
	example := Example{
		Kind: d.kind.String(), DecisionID: d.id, Method: strings.Clone(r.Method), Path: strings.Clone(r.Path[:min(len(r.Path), maxPath)]),
		Caller: Caller{r.Caller.App.String(), r.Caller.Space.String(), r.Caller.Org.String()},
		Active: outcomeOf(d.active), Candidate: outcomeOf(d.candidate), FirstSeen: d.at,
	}
	key := exampleKey{d.kind, example.Caller, example.Method, example.Active, example.Candidate}
	if t.examples[key] == nil {
		if len(t.examples) == maxExamples {
			return
		}
		t.examples[key] = &example
	}
	t.examples[key].Count++
	t.examples[key].LastSeen = d.at
}

func (t *routeTally) report(name string) RouteReport {
	r := RouteReport{Route: name, Counts: t.Counts, Examples: make([]Example, 0, len(t.examples))}
	for example := range maps.Values(t.examples) {
		r.Examples = append(r.Examples, *example)
	}
	slices.SortFunc(r.Examples, func(a, b Example) int {
		return cmp.Or(a.FirstSeen.Compare(b.FirstSeen), cmp.Compare(a.DecisionID, b.DecisionID))
	})
	return r
}

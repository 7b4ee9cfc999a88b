package replay

import (
	"slices"
	"strings"
	"time"

	"github.com/mtls-authz/mtls-authz/grants"
)

// A Recorded is one decision and what it was about: one line of JSON. All of
// its members are always there.
type Recorded struct {
	DecisionID string `json:"decision_id"`
	// Time is when the request came.
	Time time.Time `json:"time"`
	// Route is the bound route, host[/path].
	Route   string `json:"route"`
	Binding string `json:"binding"`
	// PolicyRevision names the policy that decided, as the decision line does.
	PolicyRevision string   `json:"policy_revision"`
	Decision       Decision `json:"decision"`
	// Cache tells where the decision came from: none, miss, local or shared.
	Cache string `json:"cache"`
	// Input is what the policy was given, but for what Omitted names.
	Input Input `json:"input"`
	// OperatorGrants are those of Input.Grants that came with the policy. Another
	// policy brings its own instead.
	OperatorGrants Grants `json:"operator_grants"`
	// Omitted are the paths of Input that are not whole. "grants.apps" says that
	// there were grants to other apps than the caller's; the caller's own are
	// always there.
	Omitted []string `json:"omitted"`
}

// Decision is what was decided, as [rego.Decision] has it.
type Decision struct {
	Allow   bool              `json:"allow"`
	Policy  string            `json:"policy"`
	Reason  string            `json:"reason"`
	Headers map[string]string `json:"headers"`
}

// Input is the closed input document of a decision.
type Input struct {
	Caller  Caller  `json:"caller"`
	Request Request `json:"request"`
	Route   Route   `json:"route"`
	Owner   Owner   `json:"owner"`
	Grants  Grants  `json:"grants"`
	Now     Now     `json:"now"`
}

// The members of Input.
type (
	// Caller is who called.
	Caller struct {
		Kind       string `json:"kind"`
		Foundation string `json:"foundation"`
		App        string `json:"app"`
		Space      string `json:"space"`
		Org        string `json:"org"`
		Instance   string `json:"instance"`
	}
	// Request is what the caller asked for.
	Request struct {
		Method   string   `json:"method"`
		Host     string   `json:"host"`
		Path     string   `json:"path"`
		Segments []string `json:"segments"`
	}
	// Route is the bound route.
	Route struct {
		Host    string            `json:"host"`
		Path    string            `json:"path"`
		Binding string            `json:"binding"`
		Labels  map[string]string `json:"labels"`
	}
	// Owner is the service instance that the route is bound to.
	Owner struct {
		ServiceInstance string `json:"service_instance"`
		Space           string `json:"space"`
		Org             string `json:"org"`
		Scope           string `json:"scope"`
	}
	// Grants are keyed by guid.
	Grants struct {
		Any    []Conditions            `json:"any"`
		Apps   map[string][]Conditions `json:"apps"`
		Spaces map[string][]Conditions `json:"spaces"`
		Orgs   map[string][]Conditions `json:"orgs"`
	}
	// Conditions narrow a grant.
	Conditions struct {
		Methods []string `json:"methods,omitempty"`
		Paths   []string `json:"paths,omitempty"`
	}
	// Now is the time of the request in the policy's time zone.
	Now struct {
		Minute  int    `json:"minute"`
		Weekday string `json:"weekday"`
		Date    string `json:"date"`
	}
)

// NewGrants returns no grants.
func NewGrants() Grants {
	return Grants{
		Any: []Conditions{}, Apps: map[string][]Conditions{}, Spaces: map[string][]Conditions{}, Orgs: map[string][]Conditions{},
	}
}

// of returns the grants of a kind by guid; nil for any.
func (g *Grants) of(kind grants.Kind) map[string][]Conditions {
	return map[grants.Kind]map[string][]Conditions{grants.App: g.Apps, grants.Space: g.Spaces, grants.Org: g.Orgs}[kind]
}

// Add adds a grant after those of the same source.
func (g *Grants) Add(grant grants.Grant) {
	var conditions Conditions
	if grant.Terms != nil {
		conditions.Methods = slices.Clone(grant.Terms.Methods)
		for _, path := range grant.Terms.Paths {
			conditions.Paths = append(conditions.Paths, string(path))
		}
	}
	if grant.Source.Kind == grants.Any {
		g.Any = append(g.Any, conditions)
		return
	}
	byGUID, guid := g.of(grant.Source.Kind), grant.Source.ID.String()
	byGUID[guid] = append(byGUID[guid], conditions)
}

// NowOf is the time as the clock shows it in its zone.
func NowOf(now time.Time) Now {
	return Now{
		Minute: now.Hour()*60 + now.Minute(), Weekday: strings.ToLower(now.Weekday().String()[:3]), Date: now.Format(time.DateOnly),
	}
}

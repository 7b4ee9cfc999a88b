package changes

import (
	"context"
	"errors"
	"io"
	"slices"

	"github.com/mtls-authz/mtls-authz/rego"
	"github.com/mtls-authz/mtls-authz/rego/replay"
)

// A Kind is what becomes of a request.
type Kind string

// The kinds, the gravest first.
const (
	NewAllow     Kind = "new_allow"     // denied, and now allowed
	Unknown      Kind = "unknown"       // something that is read was not recorded
	Unreadable   Kind = "unreadable"    // the line is not a recorded request
	NewDeny      Kind = "new_deny"      // allowed, and now denied
	OtherReason  Kind = "other_reason"  // decided alike, with another mtls_policy or reason
	OtherHeaders Kind = "other_headers" // allowed alike, with other headers to the app
	Unchanged    Kind = "unchanged"
)

// Kinds are all kinds, in their order.
var Kinds = []Kind{NewAllow, Unknown, Unreadable, NewDeny, OtherReason, OtherHeaders, Unchanged}

// An Example is one request of a kind.
type Example struct {
	// Line counts from 1.
	Line       int    `json:"line"`
	DecisionID string `json:"decision_id,omitempty"`
	Method     string `json:"method,omitempty"`
	// URL is host and path.
	URL   string `json:"url,omitempty"`
	App   string `json:"caller_app,omitempty"`
	Space string `json:"caller_space,omitempty"`
	Org   string `json:"caller_org,omitempty"`
	// Old and New are as in "deny policy:freeze change_freeze".
	Old string `json:"old,omitempty"`
	New string `json:"new,omitempty"`
	// Error is why it is unknown or unreadable.
	Error string `json:"error,omitempty"`
}

// A Report is what changes.
type Report struct {
	Requests int                `json:"requests"`
	Counts   map[Kind]int       `json:"counts"`
	Examples map[Kind][]Example `json:"examples"`
}

// Config configures [Find]. Fields without a default are required.
type Config struct {
	Old, New *rego.Policy
	// Inputs are JSON Lines, as package recording writes them.
	Inputs io.Reader
	// Examples bounds those of each kind; 0: none.
	Examples int
	// Progress is told of each request, by how many there were; nil: nobody.
	Progress func(requests int)
}

// Find decides each request under both policies, each with its own operator's
// grants. The error is that of ctx, or of reading.
func Find(ctx context.Context, cfg Config) (*Report, error) {
	report := &Report{Counts: map[Kind]int{}, Examples: map[Kind][]Example{}}
	before, after := replay.NewReplay(cfg.Old), replay.NewReplay(cfg.New)
	for recorded, err := range replay.Read(cfg.Inputs) {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		report.Requests++
		example := Example{Line: report.Requests}
		kind := Unreadable
		switch {
		case errors.Is(err, replay.ErrMalformed):
			example.Error = err.Error()
		case err != nil:
			return nil, err
		default:
			kind = compare(ctx, [2]*replay.Replay{before, after}, recorded, &example)
		}
		report.Counts[kind]++
		if kind != Unchanged && len(report.Examples[kind]) < cfg.Examples {
			report.Examples[kind] = append(report.Examples[kind], example)
		}
		if cfg.Progress != nil {
			cfg.Progress(report.Requests)
		}
	}
	return report, nil
}

func compare(ctx context.Context, policies [2]*replay.Replay, r replay.Recorded, example *Example) Kind {
	example.DecisionID, example.Method, example.URL = r.DecisionID, r.Input.Request.Method, r.Input.Request.Host+r.Input.Request.Path
	example.App, example.Space, example.Org = r.Input.Caller.App, r.Input.Caller.Space, r.Input.Caller.Org
	var decisions [2]rego.Decision
	for i, policy := range policies {
		decision, err := policy.Decide(ctx, r)
		// A policy that fails denies; anything else is no decision.
		if err != nil && !errors.Is(err, rego.ErrPolicy) {
			example.Error = err.Error()
			if errors.Is(err, replay.ErrMalformed) {
				return Unreadable
			}
			return Unknown
		}
		decisions[i] = decision
	}
	example.Old, example.New = words(decisions[0]), words(decisions[1])
	return kindOf(decisions[0], decisions[1])
}

func kindOf(before, after rego.Decision) Kind {
	switch {
	case !before.Allow && after.Allow:
		return NewAllow
	case before.Allow && !after.Allow:
		return NewDeny
	case before.Policy != after.Policy || before.Reason != after.Reason:
		return OtherReason
	case !slices.Equal(before.Headers, after.Headers):
		return OtherHeaders
	}
	return Unchanged
}

func words(d rego.Decision) string {
	if d.Allow {
		return "allow " + d.Policy
	}
	return "deny " + d.Policy + " " + d.Reason
}

package author

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/rego"
	"github.com/mtls-authz/mtls-authz/rego/author/page"
	"github.com/mtls-authz/mtls-authz/rego/explain"
	"github.com/mtls-authz/mtls-authz/rego/gate"
	"github.com/mtls-authz/mtls-authz/rego/replay"
)

// A Case is one request as the gateway would see it under a policy.
type Case struct {
	Request *rego.Request
	// Grants are all that could have applied to the route, expired ones too; for
	// people.
	Grants []grants.Rule
	// Refused is why the gateway would answer 400 before it asks anybody; nil: it
	// would not.
	Refused error
	// Answer decides; nil: [rego.Answer].
	Answer func(context.Context) (rego.Decision, error)
}

// EvalConfig configures [Eval].
type EvalConfig struct {
	Place
	Settings
	// Ask makes the request under the policy. Required.
	Ask func(ctx context.Context, policy *rego.Policy) (Case, error)
	// Explain says why.
	Explain bool
	// FailOnDeny makes a denial an [ErrDenied].
	FailOnDeny, JSON bool
}

// ErrDenied: the request is denied, and EvalConfig.FailOnDeny asks to fail.
var ErrDenied = errors.New("the request is denied")

// verdict is the decision as the decision line has it.
type verdict struct {
	Allow bool `json:"allow"`
	// Policy and Reason are mtls_policy and mtls_denied_reason.
	Policy  string            `json:"mtls_policy"`
	Reason  string            `json:"mtls_denied_reason,omitempty"`
	Headers map[string]string `json:"headers,omitempty"`
	// Error is why a policy gave no decision.
	Error  string          `json:"error,omitempty"`
	Input  any             `json:"input,omitempty"`
	Grants []explain.Grant `json:"grants,omitempty"`
	Checks []explain.Check `json:"checks,omitempty"`
}

// Eval decides one request as the gateway would: scope, grants, policy, Go's
// confirmation. The bundle must compile; its tests may fail.
func Eval(ctx context.Context, w io.Writer, cfg EvalConfig) error {
	b, err := cfg.read()
	if err != nil {
		return cfg.findings(w, cfg.JSON, err)
	}
	compiled, err := gate.Compile(ctx, b)
	if err != nil {
		return cfg.findings(w, cfg.JSON, err)
	}
	policy, err := rego.Untested(ctx, compiled, cfg.config())
	if err != nil {
		return err
	}
	asked, err := cfg.Ask(ctx, policy)
	if err != nil {
		return err
	}
	v, err := decide(ctx, asked)
	if err != nil {
		return err
	}
	if cfg.Explain && asked.Refused == nil {
		if v.Input, err = asked.Request.Input(); err != nil {
			return err
		}
		if v.Grants, err = explain.Grants(asked.Request, asked.Grants); err != nil {
			return err
		}
		v.Checks = explain.New(policy, compiled).Checks(ctx, asked.Request)
	}
	if cfg.JSON {
		err = page.JSON(w, v)
	} else {
		err = cfg.write(w, v)
	}
	if err == nil && !v.Allow && cfg.FailOnDeny {
		err = fmt.Errorf("%w: %s %s", ErrDenied, v.Policy, v.Reason)
	}
	return err
}

func decide(ctx context.Context, asked Case) (*verdict, error) {
	if asked.Refused != nil {
		return &verdict{Policy: "gateway:malformed_request", Reason: "malformed_request", Error: asked.Refused.Error()}, nil
	}
	answer := asked.Answer
	if answer == nil {
		answer = func(ctx context.Context) (rego.Decision, error) { return rego.Answer(ctx, asked.Request) }
	}
	decision, err := answer(ctx)
	if err != nil && !errors.Is(err, rego.ErrPolicy) {
		return nil, err
	}
	v := &verdict{Allow: decision.Allow, Policy: decision.Policy, Reason: decision.Reason, Headers: headersOf(decision)}
	if err != nil {
		v.Error = err.Error()
	}
	return v, nil
}

func headersOf(d rego.Decision) map[string]string {
	headers := map[string]string{}
	for _, header := range d.Headers {
		headers[header.Name] = header.Value
	}
	return headers
}

// Recorded asks about a recorded request. What was not recorded and is read gives
// a [replay.ErrNotRecorded].
func Recorded(r replay.Recorded) func(context.Context, *rego.Policy) (Case, error) {
	return func(_ context.Context, policy *rego.Policy) (Case, error) {
		request, err := r.Request(policy)
		if err != nil {
			return Case{}, err
		}
		return Case{
			Request: request, Grants: request.Live.Rules,
			Answer: func(ctx context.Context) (rego.Decision, error) { return replay.NewReplay(policy).Decide(ctx, r) },
		}, nil
	}
}

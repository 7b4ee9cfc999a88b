package author

import (
	"context"
	"encoding/json"
	"io"

	"github.com/mtls-authz/mtls-authz/rego"
	"github.com/mtls-authz/mtls-authz/rego/explain"
	"github.com/mtls-authz/mtls-authz/rego/gate"
	"github.com/mtls-authz/mtls-authz/rego/reads"
)

// CheckConfig configures [Check].
type CheckConfig struct {
	Place
	Settings
	JSON bool
}

// summary is what there is to know about a bundle that passed the gate.
type summary struct {
	OK bool `json:"ok"`
	// Revision is policy_revision of the decision line, BundleRevision that of
	// .manifest.
	Revision       string            `json:"policy_revision"`
	BundleRevision string            `json:"bundle_revision,omitempty"`
	Signed         string            `json:"signed,omitempty"`
	Checks         []checkSummary    `json:"checks"`
	Grants         []json.RawMessage `json:"operator_grants"`
	Tests          testCounts        `json:"tests"`
	// Path and Method: the checks read them, which makes the gateway refuse
	// requests in which they are ambiguous.
	Path       bool            `json:"reads_path"`
	Method     bool            `json:"reads_method"`
	Remembered []rememberedFor `json:"remembered"`
}

type checkSummary struct {
	Name  string   `json:"name"`
	Title string   `json:"title,omitempty"`
	Reads []string `json:"reads"`
}

// rememberedFor tells how decisions are remembered about routes whose grants
// are of one shape.
type rememberedFor struct {
	Grants string `json:"grants"`
	// Never is the builtin because of which nothing is remembered.
	Never string   `json:"never,omitempty"`
	By    []string `json:"by"`
	// Minute: only until the minute ends. Local: not shared between instances.
	Minute bool `json:"until_minute_ends"`
	Local  bool `json:"local_only"`
}

// Check takes a bundle through the whole gate, as the gateway does before it
// activates one, and writes each finding or, if there is none, what the policy
// is made of. Findings are an [ErrFindings].
func Check(ctx context.Context, w io.Writer, cfg CheckConfig) error {
	b, err := cfg.read()
	if err != nil {
		return cfg.findings(w, cfg.JSON, err)
	}
	policy, compiled, err := rego.Examine(ctx, b, cfg.config())
	if err != nil {
		return cfg.findings(w, cfg.JSON, err)
	}
	if cfg.Key != nil {
		if err := b.Follows(b.Mark()); err != nil {
			return cfg.findings(w, cfg.JSON, err)
		}
	}
	s, err := summarize(policy, compiled)
	if err != nil {
		return err
	}
	if cfg.Key != nil {
		s.Signed = cfg.Key.Algorithm()
	}
	if cfg.JSON {
		return writeJSON(w, s)
	}
	return s.write(w, cfg.Location)
}

func summarize(policy *rego.Policy, compiled *gate.Compiled) (*summary, error) {
	s := &summary{
		OK: true, Revision: policy.Revision(), BundleRevision: compiled.Bundle.Revision, Tests: countTests(compiled.Tests),
		Path: policy.Reads().Path, Method: policy.Reads().Method, Checks: []checkSummary{}, Grants: []json.RawMessage{},
	}
	titles := explain.Titles(compiled)
	for _, name := range compiled.Checks {
		s.Checks = append(s.Checks, checkSummary{name, titles[name], reads.InputOf(compiled.Compiler, "site", "check", name)})
	}
	for _, grant := range policy.Site().Grants {
		text, err := json.Marshal(grant)
		if err != nil {
			return nil, err
		}
		s.Grants = append(s.Grants, text)
	}
	s.Remembered = remembered(reads.Of(compiled.Compiler))
	return s, nil
}

// shapes are those that show how grants change the key of what is remembered.
var shapes = []string{"app", "space", "org", "any", "app+space+org+any", "app+methods", "app+paths"}

func remembered(keys *reads.Keys) []rememberedFor {
	byName := map[string]reads.Shape{}
	for shape := range reads.Shapes {
		byName[shape.String()] = shape
	}
	var list []rememberedFor
	for _, name := range shapes {
		key := keys.Of(byName[name])
		list = append(list, rememberedFor{
			Grants: name, Never: key.Clock, By: key.Paths.Strings(), Minute: key.Paths.Now(), Local: key.LocalOnly,
		})
	}
	return list
}

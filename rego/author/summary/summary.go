// Package summary tells what a policy that has passed the gate is made of: its
// checks and what they read, the operator's grants, its tests, and how its
// decisions are remembered. It trusts what the gate has let pass, and decides
// nothing.
package summary

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/mtls-authz/mtls-authz/rego"
	"github.com/mtls-authz/mtls-authz/rego/author/page"
	"github.com/mtls-authz/mtls-authz/rego/explain"
	"github.com/mtls-authz/mtls-authz/rego/gate"
	"github.com/mtls-authz/mtls-authz/rego/reads"
)

// A Summary is what there is to know about a bundle that passed the gate.
type Summary struct {
	OK bool `json:"ok"`
	// Revision is policy_revision of the decision line, BundleRevision that of
	// .manifest.
	Revision       string            `json:"policy_revision"`
	BundleRevision string            `json:"bundle_revision,omitempty"`
	Signed         string            `json:"signed,omitempty"`
	Checks         []Check           `json:"checks"`
	Grants         []json.RawMessage `json:"operator_grants"`
	Tests          Counts            `json:"tests"`
	// Path and Method: the checks read them, which makes the gateway refuse
	// requests in which they are ambiguous.
	Path       bool         `json:"reads_path"`
	Method     bool         `json:"reads_method"`
	Remembered []Remembered `json:"remembered"`
}

// A Check is one of the operator's.
type Check struct {
	Name  string   `json:"name"`
	Title string   `json:"title,omitempty"`
	Reads []string `json:"reads"`
}

// A Remembered tells how decisions are remembered about routes whose grants
// are of one shape.
type Remembered struct {
	Grants string `json:"grants"`
	// Never is the builtin because of which nothing is remembered.
	Never string   `json:"never,omitempty"`
	By    []string `json:"by"`
	// Minute: only until the minute ends. Local: not shared between instances.
	Minute bool `json:"until_minute_ends"`
	Local  bool `json:"local_only"`
}

// Of returns the summary.
func Of(policy *rego.Policy, compiled *gate.Compiled) (*Summary, error) {
	s := &Summary{
		OK: true, Revision: policy.Revision(), BundleRevision: compiled.Bundle.Revision, Tests: CountTests(compiled.Tests),
		Path: policy.Reads().Path, Method: policy.Reads().Method, Checks: []Check{}, Grants: []json.RawMessage{},
	}
	titles := explain.Titles(compiled)
	for _, name := range compiled.Checks {
		s.Checks = append(s.Checks, Check{name, titles[name], reads.InputOf(compiled.Compiler, "site", "check", name)})
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

func remembered(keys *reads.Keys) []Remembered {
	byName := map[string]reads.Shape{}
	for shape := range reads.Shapes {
		byName[shape.String()] = shape
	}
	var list []Remembered
	for _, name := range shapes {
		key := keys.Of(byName[name])
		list = append(list, Remembered{
			Grants: name, Never: key.Clock, By: key.Paths.Strings(), Minute: key.Paths.Now(), Local: key.LocalOnly,
		})
	}
	return list
}

// Counts are tests by their outcome.
type Counts struct {
	Passed  int `json:"passed"`
	Failed  int `json:"failed"`
	Skipped int `json:"skipped"`
}

// CountTests counts the tests of a report by their outcome.
func CountTests(report *gate.TestReport) (c Counts) {
	for _, result := range report.Results {
		switch result.Outcome {
		case gate.Passed:
			c.Passed++
		case gate.Skipped:
			c.Skipped++
		default:
			c.Failed++
		}
	}
	return c
}

// String is as in "3 passed, 1 skipped".
func (c Counts) String() string {
	text := fmt.Sprintf("%d passed", c.Passed)
	if c.Failed > 0 {
		text = fmt.Sprintf("%d failed, ", c.Failed) + text
	}
	if c.Skipped > 0 {
		text += fmt.Sprintf(", %d skipped", c.Skipped)
	}
	return text
}

// Write writes it for people.
func (s *Summary) Write(w io.Writer, location string) error {
	p := page.New(w)
	p.Printf("%s: the gateway would activate this bundle\n\npolicy_revision   %s\n", location, s.Revision)
	if s.BundleRevision != "" {
		p.Printf("bundle revision   %s\n", s.BundleRevision)
	}
	if s.Signed != "" {
		p.Printf("signature         verified, %s\n", s.Signed)
	}
	p.Printf("tests             %s\n", s.Tests)
	p.Printf("\nchecks: %d\n", len(s.Checks))
	for _, check := range s.Checks {
		p.Printf("  %s%s\n", check.Name, page.Prefixed(": ", check.Title))
		p.Printf("      reads %s\n", page.OrNothing(check.Reads))
	}
	p.Printf("\noperator's grants: %d\n", len(s.Grants))
	for _, grant := range s.Grants {
		p.Printf("  %s\n", grant)
	}
	p.Printf("\na decision is remembered for equal requests to one route, which are told apart by\n")
	rows := [][]string{{"GRANTS OF THE ROUTE", "WHAT TELLS REQUESTS APART"}}
	for _, r := range s.Remembered {
		rows = append(rows, []string{r.Grants, r.String()})
	}
	p.Table(rows)
	if s.Path {
		p.Printf("\nthe checks read the path: requests with an ambiguous one (//, ;, %%2f) get 400 on every route\n")
	}
	if s.Path || s.Method {
		p.Printf("\nthe checks read the path or the method: requests with a method-override header get 400 on every route\n")
	}
	return p.Err()
}

// String is what tells requests apart, and what limits remembering.
func (r Remembered) String() string {
	if r.Never != "" {
		return "never remembered: " + r.Never + " does not say the same twice"
	}
	text := page.OrNothing(r.By)
	if r.Minute {
		text += "; until the minute ends"
	}
	if r.Local {
		text += "; not shared between instances"
	}
	return text
}

package explain

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/mtls-authz/mtls-authz/rego"
	"github.com/mtls-authz/mtls-authz/rego/gate"
)

// A Check is what one of the operator's checks said.
type Check struct {
	Name  string `json:"name"`
	Title string `json:"title,omitempty"`
	Holds bool   `json:"holds"`
	// Allow is the value of allow in Rego, or undefined, or the error.
	Allow string `json:"allow"`
	// Ends are the rules of allow that did not hold, if the check does not.
	Ends []End `json:"ends,omitempty"`
}

// An End is a rule that did not hold, and the condition at which it ended.
type End struct {
	// Rule is its name within its package.
	Rule string `json:"rule"`
	// File and Line are the condition's place, and Condition its text.
	File      string `json:"file"`
	Line      int    `json:"line"`
	Condition string `json:"condition"`
	// Values are what the condition saw.
	Values []Value `json:"values,omitempty"`
	// Holds: the rule does hold, which ended another that has it under "not".
	Holds bool `json:"holds,omitempty"`
	// Because are the rules that the condition asks for.
	Because []End `json:"because,omitempty"`
}

// A Value is one name in a condition, and its value in Rego.
type Value struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// An Explainer explains requests under one policy.
type Explainer struct {
	policy *rego.Policy
	checks []string
	titles map[string]string
	// written are the rules as the author wrote them, by their place; nil: they
	// are read again where they are met.
	written map[string]*ast.Rule
}

// Of returns the explainer of a policy without what it was compiled from.
func Of(policy *rego.Policy) *Explainer { return &Explainer{policy: policy, checks: policy.Checks()} }

// New returns the explainer of a policy and what it was compiled from.
func New(policy *rego.Policy, compiled *gate.Compiled) *Explainer {
	e := &Explainer{policy: policy, checks: compiled.Checks, titles: Titles(compiled), written: map[string]*ast.Rule{}}
	for _, module := range compiled.Bundle.Modules {
		ast.WalkRules(module, func(rule *ast.Rule) bool {
			e.written[place(rule.Location)] = rule
			return false
		})
	}
	return e
}

// Titles are the titles of the checks, by name, from their METADATA.
func Titles(compiled *gate.Compiled) map[string]string {
	titles := map[string]string{}
	for _, name := range compiled.Checks {
		for _, module := range compiled.Bundle.Modules {
			if title := titleIn(module, name); title != "" {
				titles[name] = title
			}
		}
	}
	return titles
}

// titleIn is the title that a module gives to a check.
func titleIn(module *ast.Module, check string) (title string) {
	for _, annotations := range module.Annotations {
		if annotations.Scope == "package" && annotations.Title != "" && module.Package.Path.Equal(reference(check)) {
			title = annotations.Title
		}
	}
	return title
}

// reference is data.site.check.<name>.
func reference(name string, members ...string) ast.Ref {
	ref := ast.Ref{ast.DefaultRootDocument}
	for _, part := range append([]string{"site", "check", name}, members...) {
		ref = append(ref, ast.StringTerm(part))
	}
	return ref
}

func place(at *ast.Location) string {
	if at == nil {
		return ""
	}
	return fmt.Sprintf("%s:%d:%d", at.File, at.Row, at.Col)
}

// Checks asks every check about the request.
func (e *Explainer) Checks(ctx context.Context, r *rego.Request) []Check {
	checks := make([]Check, 0, len(e.checks))
	for _, name := range e.checks {
		check, t := Check{Name: name, Title: e.titles[name]}, newTracer()
		allow := reference(name, "allow")
		value, err := e.policy.Trace(ctx, r, allow, t)
		switch {
		case err != nil:
			check.Allow = err.Error()
		case value == nil:
			check.Allow = "undefined"
		default:
			check.Allow = shorten(value.String())
			check.Holds = value.Compare(ast.Boolean(true)) == 0
		}
		written := e.written
		if written == nil {
			check.Title, written = again(t.rules, name)
		}
		if !check.Holds {
			w := &writer{Explainer: e, ctx: ctx, request: r, written: written, seen: map[string]bool{}}
			isAllow := func(f *frame) bool { return f.rule.Ref().Equal(allow) }
			check.Ends = w.ends(slices.DeleteFunc(slices.Clone(t.rules), func(f *frame) bool { return !isAllow(f) }), maxDepth)
		}
		checks = append(checks, check)
	}
	return checks
}

// maxDepth is how many rules deep an explanation goes, and maxEnds how many it
// lists for one condition.
const maxDepth, maxEnds = 3, 8

// writer writes the explanation of one check.
type writer struct {
	*Explainer
	ctx     context.Context
	request *rego.Request
	written map[string]*ast.Rule
	// seen are the rules that were explained.
	seen map[string]bool
}

// ends explains rules that did not hold.
func (w *writer) ends(frames []*frame, depth int) []End {
	var ends []End
	for _, f := range frames {
		if len(ends) == maxEnds || depth == 0 {
			break
		}
		written := w.written[place(f.rule.Location)]
		if written == nil || f.rule.Default || f.held || f.failed < 0 || w.seen[place(f.rule.Location)] {
			continue
		}
		w.seen[place(f.rule.Location)] = true
		ends = append(ends, w.end(f, written, depth))
	}
	return ends
}

func (w *writer) end(f *frame, written *ast.Rule, depth int) End {
	failed := f.rule.Body[f.failed]
	condition := conditionAt(written.Body, failed.Location)
	end := End{Rule: nameOf(written), File: fileOf(condition.Location), Line: condition.Location.Row, Condition: textOf(condition)}
	// The compiler makes several expressions of one.
	from := f.failed
	for from > 0 && conditionAt(written.Body, f.rule.Body[from-1].Location) == condition {
		from--
	}
	end.Values = w.values(f, f.rule.Body[from:f.failed+1], condition)
	for i := from; i <= f.failed; i++ {
		below := f.rulesBelow(i)
		if failed.Negated {
			end.Because = append(end.Because, w.holding(below)...)
		} else {
			end.Because = append(end.Because, w.ends(below, depth-1)...)
		}
	}
	return end
}

// holding are the rules that hold, under a negation.
func (w *writer) holding(frames []*frame) []End {
	var ends []End
	for _, f := range frames {
		written := w.written[place(f.rule.Location)]
		if written == nil || !f.held || f.rule.Default || len(ends) == maxEnds || w.seen[place(f.rule.Location)] {
			continue
		}
		w.seen[place(f.rule.Location)] = true
		ends = append(ends, End{
			Rule: nameOf(written), File: fileOf(written.Location), Line: written.Location.Row, Condition: textOf(written.Body[0]), Holds: true,
		})
	}
	return ends
}

// conditionAt is the expression that an author wrote, of which the compiler made
// the one that stands there: the last that begins before it.
func conditionAt(body ast.Body, at *ast.Location) *ast.Expr {
	found := body[0]
	for _, expr := range body {
		if at != nil && expr.Location != nil && (expr.Location.Row < at.Row || expr.Location.Row == at.Row && expr.Location.Col <= at.Col) {
			found = expr
		}
	}
	return found
}

func nameOf(rule *ast.Rule) string { return rule.Head.Ref().String() }

func fileOf(at *ast.Location) string { return strings.TrimPrefix(path.Clean("/"+at.File), "/") }

// maxText bounds a condition or a value, in bytes.
const maxText = 160

func textOf(expr *ast.Expr) string {
	text := string(expr.Location.Text)
	if text == "" {
		text = expr.String()
	}
	return shorten(strings.Join(strings.Fields(text), " "))
}

func shorten(text string) string {
	if len(text) > maxText {
		return strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return text
}

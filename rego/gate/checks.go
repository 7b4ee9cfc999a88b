package gate

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/types"

	"github.com/mtls-authz/mtls-authz/policies"
	"github.com/mtls-authz/mtls-authz/rego/bundle"
)

// checks are the operator's, by name.
type checks map[string]check

// check is one package directly below site.check, with the first place of each
// of its members: allow, and perhaps reason and headers.
type check struct {
	at      *ast.Location
	members map[string]*ast.Location
}

// checkName bounds what a check may be called: the name goes into the decision
// line.
var checkName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$`)

func refuse(at *ast.Location, format string, args ...any) *bundle.Refusal {
	return bundle.Refuse(bundle.StepLayout, at, format, args...)
}

// refuseForeign refuses packages below data.mtls, which is the gateway's. The
// name of a rule continues that of its package and cannot leave it.
func refuseForeign(module *ast.Module) error {
	if hasPrefix(module.Package.Path, "mtls") {
		return refuse(module.Package.Location, "%s: everything below data.mtls belongs to the gateway; move it to another package", module.Package.Path)
	}
	return nil
}

// findChecks finds the checks by the full names of packages and rules, so that
// a check cannot hide behind another way of writing its name.
func (s *sources) findChecks() (checks, error) {
	found := checks{}
	for _, name := range slices.Sorted(maps.Keys(s.modules)) {
		module := s.modules[name]
		if err := refuseForeign(module); err != nil {
			return nil, err
		}
		if err := found.addPackage(module.Package); err != nil {
			return nil, err
		}
		for _, rule := range module.Rules {
			if err := found.addRule(rule); err != nil {
				return nil, err
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.tests)) {
		if err := refuseForeign(s.tests[name]); err != nil {
			return nil, err
		}
		for _, rule := range s.tests[name].Rules {
			if ref := rule.Ref(); len(ref) > below && hasPrefix(ref, "site", "check") && mentions(ref[below+1:], "allow", "reason", "headers") {
				return nil, refuse(rule.Location, "%s: a file *_test.rego is not part of the policy, so this would not be a check", ref).
					WithFix("move it to another file")
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(found)) {
		if found[name].members["allow"] == nil {
			return nil, refuse(found[name].at, "package site.check.%s defines no rule allow", name).
				WithFix("helpers belong outside site.check, tests into files *_test.rego")
		}
	}
	return found, nil
}

const below = 3 // len(data.site.check)

func (c checks) addPackage(p *ast.Package) error {
	if !hasPrefix(p.Path, "site", "check") || len(p.Path) == below {
		return nil
	}
	if len(p.Path) > below+1 {
		return refuse(p.Location, "package %s: expected a package directly below site.check; it would not be a check", p.Path)
	}
	return c.add(p.Path, p.Location)
}

func (c checks) add(ref ast.Ref, at *ast.Location) error {
	name, ok := ref[below].Value.(ast.String)
	if !ok || !checkName.MatchString(string(name)) {
		return refuse(at, "%s: the name of a check is 1 to 64 letters, digits, underscores, dots or hyphens", ref)
	}
	if _, ok := c[string(name)]; !ok {
		c[string(name)] = check{at, map[string]*ast.Location{}}
	}
	return nil
}

func (c checks) addRule(rule *ast.Rule) error {
	ref := rule.Ref()
	if hasPrefix(ref, "site", "grants") {
		return refuse(rule.Location, "operator's grants are data, not rules").WithFix("write them into data.json")
	}
	if !hasPrefix(ref, "site", "check") {
		return nil
	}
	if len(ref) < below+2 {
		return refuse(rule.Location, "%s: expected a rule in a package directly below site.check", ref)
	}
	if err := c.add(ref, rule.Location); err != nil {
		return err
	}
	member, ok := ref[below+1].Value.(ast.String)
	if !ok {
		return refuse(rule.Location, "%s: expected a rule in a package directly below site.check", ref)
	}
	if mentions(ref[below+2:], "allow") {
		return refuse(rule.Location, "%s: allow must be one value of the check itself; this would not be a check", ref)
	}
	switch string(member) {
	case "allow", "reason":
		if len(ref) != below+2 || rule.Head.RuleKind() != ast.SingleValue || len(rule.Head.Args) > 0 {
			return refuse(rule.Location, "%s of a check is one value, not a set, an object or a function", member)
		}
	case "headers":
		if len(rule.Head.Args) > 0 {
			return refuse(rule.Location, "headers of a check is an object, not a function")
		}
	}
	members := c[string(ref[below].Value.(ast.String))].members
	if members[string(member)] == nil {
		members[string(member)] = rule.Location
	}
	return nil
}

// mentions reports whether a part of a name is one of names.
func mentions(parts []*ast.Term, names ...string) bool {
	return slices.ContainsFunc(parts, func(term *ast.Term) bool {
		name, ok := term.Value.(ast.String)
		return ok && slices.Contains(names, string(name))
	})
}

// hasPrefix reports whether ref is data.<names> or below.
func hasPrefix(ref ast.Ref, names ...string) bool {
	if len(ref) <= len(names) {
		return false
	}
	for i, name := range names {
		if value, ok := ref[i+1].Value.(ast.String); !ok || string(value) != name {
			return false
		}
	}
	return true
}

// refuseTypes refuses members that can be of another type than they must be:
// such a check denies everything, or not what it says.
func (c checks) refuseTypes(compiler *ast.Compiler) error {
	expected := []struct {
		member, name string
		is           func(types.Type) bool
	}{
		{"allow", "true or false", func(t types.Type) bool { _, ok := t.(types.Boolean); return ok }},
		{"reason", "a string", func(t types.Type) bool { _, ok := t.(types.String); return ok }},
		{"headers", "an object", func(t types.Type) bool { _, ok := t.(*types.Object); return ok }},
	}
	for _, name := range slices.Sorted(maps.Keys(c)) {
		for _, e := range expected {
			ref := ast.MustParseRef(fmt.Sprintf("data.site.check[%q].%s", name, e.member))
			at := c[name].members[e.member]
			if at != nil && !always(compiler.TypeEnv.GetByRef(ref), e.is) {
				return bundle.Refuse(bundle.StepTypes, at, "%s of check %s: expected %s", e.member, name, e.name)
			}
		}
	}
	return nil
}

// always reports whether all that is known of t is of the type; of what
// depends on input or data nothing is known.
func always(t types.Type, is func(types.Type) bool) bool {
	if options, ok := t.(types.Any); ok {
		return !slices.ContainsFunc(options, func(t types.Type) bool { return !always(t, is) })
	}
	return t == nil || is(t)
}

// compose writes the module that brings the checks into the decision.
func (c checks) compose() (*ast.Module, error) {
	var pass, rest strings.Builder
	for _, name := range slices.Sorted(maps.Keys(c)) {
		fmt.Fprintf(&pass, "\tdata.site.check[%q].allow == true\n", name)
		fmt.Fprintf(&rest, "failing contains %q if not data.site.check[%q].allow == true\n", name, name)
		if c[name].members["reason"] != nil {
			fmt.Fprintf(&rest, "reasons[%q] := data.site.check[%q].reason\n", name, name)
		}
		if c[name].members["headers"] != nil {
			fmt.Fprintf(&rest, "headers[name] := value if some name, value in data.site.check[%q].headers\n", name)
		}
	}
	for _, document := range []string{"reasons", "headers"} {
		if !strings.Contains(rest.String(), "\n"+document+"[") {
			fmt.Fprintf(&rest, "%s := {}\n", document)
		}
	}
	source := "package mtls.site\npass if {\n" + pass.String() + "}\n" + rest.String()
	return ast.ParseModuleWithOpts(policies.SiteModule, source, ast.ParserOptions{RegoVersion: ast.RegoV1})
}

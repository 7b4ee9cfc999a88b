package rego

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/loader"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/policies"
)

// ErrBundle: the operator's bundle cannot be activated. The text names the
// file and the line where there is one.
var ErrBundle = errors.New("policy bundle refused")

// sources is what a policy is compiled from.
type sources struct {
	modules map[string]*ast.Module
	tests   map[string]*ast.Module
	data    map[string]any
	site    *grants.Site
	digest  [sha256.Size]byte
}

// readSources reads the built-in bundle and, if path is not empty, the
// operator's beside it: a directory or a .tar.gz file.
func readSources(path string) (*sources, error) {
	s := &sources{modules: map[string]*ast.Module{}, tests: map[string]*ast.Module{}, data: map[string]any{}, site: &grants.Site{}}
	hash := sha256.New()
	if err := s.readBuiltIn(func(b []byte) { sum := sha256.Sum256(b); hash.Write(sum[:]) }); err != nil {
		return nil, err
	}
	if path != "" {
		if err := s.readOperators(path, func(b []byte) { sum := sha256.Sum256(b); hash.Write(sum[:]) }); err != nil {
			return nil, err
		}
	}
	s.digest = [sha256.Size]byte(hash.Sum(nil))
	return s, nil
}

func (s *sources) readBuiltIn(digest func([]byte)) error {
	return fs.WalkDir(policies.Files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		source, err := fs.ReadFile(policies.Files, path)
		if err != nil {
			return err
		}
		digest(source)
		module, err := ast.ParseModuleWithOpts(path, string(source), ast.ParserOptions{RegoVersion: ast.RegoV1})
		s.modules[path] = module
		return err
	})
}

// readOperators reads modules, tests and data, in the order of their names so
// that the digest depends on content alone.
func (s *sources) readOperators(path string, digest func([]byte)) error {
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("%w: %w", ErrBundle, err)
	}
	loaded, err := loader.NewFileLoader().WithRegoVersion(ast.RegoV1).WithProcessAnnotation(true).AsBundle(path)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBundle, err)
	}
	for _, file := range loaded.Modules {
		if err := refuseForeign(file.Parsed); err != nil {
			return err
		}
		into := s.modules
		if strings.HasSuffix(file.Path, "_test.rego") {
			into = s.tests
		}
		into[file.Path] = file.Parsed
	}
	slices.SortFunc(loaded.Modules, func(a, b bundle.ModuleFile) int { return strings.Compare(a.Path, b.Path) })
	for _, file := range loaded.Modules {
		digest([]byte(file.Path))
		digest(file.Raw)
	}
	data, err := json.Marshal(loaded.Data) // sorts keys
	if err != nil {
		return fmt.Errorf("%w: data: %w", ErrBundle, err)
	}
	digest(data)
	s.data = loaded.Data
	if err := s.readSite(); err != nil {
		return err
	}
	return s.compose()
}

// refuseForeign refuses modules below data.mtls, which is the gateway's.
func refuseForeign(module *ast.Module) error {
	for _, rule := range module.Rules {
		if ref := ruleRef(rule); hasPrefix(ref, "mtls") {
			return fmt.Errorf("%w: %s: %s: everything below data.mtls belongs to the gateway; move it to another package", ErrBundle, rule.Location, ref)
		}
	}
	if hasPrefix(module.Package.Path, "mtls") {
		return fmt.Errorf("%w: %s: %s: everything below data.mtls belongs to the gateway; move it to another package", ErrBundle, module.Package.Location, module.Package.Path)
	}
	return nil
}

// readSite checks what the data may hold and reads the operator's grants.
func (s *sources) readSite() error {
	if _, ok := s.data["mtls"]; ok {
		return fmt.Errorf("%w: data.mtls belongs to the gateway; the bundle must not have data below it", ErrBundle)
	}
	site, _ := s.data["site"].(map[string]any)
	if _, ok := site["check"]; ok {
		return fmt.Errorf("%w: data.site.check is data, but checks are packages with a rule allow", ErrBundle)
	}
	list, ok := site["grants"]
	if !ok {
		return nil
	}
	raw, err := json.Marshal(map[string]any{"allow": list})
	if err != nil {
		return fmt.Errorf("%w: data.site.grants: %w", ErrBundle, err)
	}
	parsed, err := grants.ParseStored(raw)
	if err != nil {
		return fmt.Errorf("%w: data.site.grants: %w", ErrBundle, err)
	}
	s.site.Grants = parsed.Allow
	return nil
}

// compose writes the module that brings the operator's checks into the
// decision. Checks are found by their rules' full names, so that a check
// cannot hide behind another way of writing its package.
func (s *sources) compose() error {
	checks := map[string]map[string]bool{}
	for _, path := range slices.Sorted(maps.Keys(s.modules)) {
		for _, rule := range s.modules[path].Rules {
			ref := ruleRef(rule)
			if hasPrefix(ref, "site", "grants") {
				return fmt.Errorf("%w: %s: operator's grants are data, not rules; write them into a data file", ErrBundle, rule.Location)
			}
			if !hasPrefix(ref, "site", "check") {
				continue
			}
			name, member, ok := checkRule(ref)
			if !ok {
				return fmt.Errorf("%w: %s: %s: expected a rule in a package directly below site.check", ErrBundle, rule.Location, ref)
			}
			if checks[name] == nil {
				checks[name] = map[string]bool{}
			}
			checks[name][member] = true
		}
	}
	for name, members := range checks {
		if !members["allow"] {
			return fmt.Errorf("%w: package site.check.%s: it defines no rule allow", ErrBundle, name)
		}
	}
	if len(checks) == 0 {
		return nil
	}
	module, err := ast.ParseModuleWithOpts(policies.SiteModule, siteModule(checks), ast.ParserOptions{RegoVersion: ast.RegoV1})
	if err != nil {
		return fmt.Errorf("%w: composing the checks: %w", ErrBundle, err)
	}
	s.modules[policies.SiteModule] = module
	return nil
}

func siteModule(checks map[string]map[string]bool) string {
	var out strings.Builder
	out.WriteString("package mtls.site\n")
	optional := map[string]string{"reasons": "reason", "headers": "headers"}
	found := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(checks)) {
		fmt.Fprintf(&out, "failing contains %q if not data.site.check[%q].allow == true\n", name, name)
		for document, member := range optional {
			if checks[name][member] {
				fmt.Fprintf(&out, "%s[%q] := data.site.check[%q].%s\n", document, name, name, member)
				found[document] = true
			}
		}
	}
	for document := range optional {
		if !found[document] {
			fmt.Fprintf(&out, "%s := {}\n", document)
		}
	}
	return out.String()
}

// ruleRef is the full name of a rule, package included.
func ruleRef(rule *ast.Rule) ast.Ref { return rule.Module.Package.Path.Extend(rule.Head.Ref()) }

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

// checkRule splits data.site.check.<name>.<member>...; a rule that defines
// data.site.check or data.site.check.<name> itself is not a check's.
func checkRule(ref ast.Ref) (name, member string, ok bool) {
	const below = 3 // data.site.check
	if len(ref) < below+2 {
		return "", "", false
	}
	n, isName := ref[below].Value.(ast.String)
	m, isMember := ref[below+1].Value.(ast.String)
	return string(n), string(m), isName && isMember
}

package gate

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/mtls-authz/mtls-authz/policies"
	"github.com/mtls-authz/mtls-authz/rego/bundle"
	"github.com/mtls-authz/mtls-authz/rego/gate/bounds"
	"github.com/mtls-authz/mtls-authz/rego/gate/names"
)

// A Compiled policy is the built-in Rego and the operator's.
type Compiled struct {
	Compiler *ast.Compiler
	Bundle   *bundle.Bundle
	// Checks are the operator's, by name, sorted.
	Checks []string
	// Digest is the SHA-256 of the content of built-in Rego and bundle.
	Digest [sha256.Size]byte
	// Tests is what the bundle's tests said; nil before [Pass].
	Tests *TestReport

	sources *sources
}

// sources is what a policy is compiled from.
type sources struct {
	// modules decide and tests do not; both by a name that no bundle can choose
	// for a built-in module.
	modules, tests map[string]*ast.Module
	data           map[string]any
}

// Pass compiles the bundle and runs its tests: both must be without fault.
func Pass(ctx context.Context, b *bundle.Bundle) (*Compiled, error) {
	compiled, err := Compile(ctx, b)
	if err != nil {
		return nil, err
	}
	if compiled.Tests, err = compiled.Test(ctx, TestConfig{}); err != nil {
		return nil, err
	}
	if err := compiled.Tests.Refusal(); err != nil {
		return nil, err
	}
	return compiled, nil
}

// Compile takes every step but the tests. Errors about the bundle are
// [*bundle.Refusal].
func Compile(ctx context.Context, b *bundle.Bundle) (_ *Compiled, err error) {
	defer func() {
		if v := recover(); v != nil { // a bundle must not bring the gateway down
			err = bundle.Refuse(bundle.StepCompile, nil, "the compiler failed: %v", v)
		}
	}()
	bounds.Apply()
	s := &sources{modules: copies(b.Modules), tests: copies(b.Tests), data: b.Data}
	found, err := s.findChecks()
	if err != nil {
		return nil, err
	}
	if err := s.refuseSchemas(); err != nil {
		return nil, err
	}
	digest, err := s.addBuiltIn()
	if err != nil {
		return nil, err
	}
	digest = sha256.Sum256(append(digest[:], b.Digest[:]...))
	compiler, err := s.compileAll(ctx, found)
	if err != nil {
		return nil, err
	}
	return &Compiled{Compiler: compiler, Bundle: b, Checks: slices.Sorted(maps.Keys(found)), Digest: digest, sources: s}, nil
}

func copies(modules map[string]*ast.Module) map[string]*ast.Module {
	copied := make(map[string]*ast.Module, len(modules))
	for name, module := range modules {
		copied[name] = module.Copy()
	}
	return copied
}

// addBuiltIn adds the Rego that ships with the gateway and returns its digest.
func (s *sources) addBuiltIn() ([sha256.Size]byte, error) {
	digest := sha256.New()
	err := fs.WalkDir(policies.Files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		source, err := fs.ReadFile(policies.Files, path)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(source)
		digest.Write(sum[:])
		if !strings.HasSuffix(path, ".rego") {
			return nil
		}
		module, err := ast.ParseModuleWithOpts(path, string(source), ast.ParserOptions{RegoVersion: ast.RegoV1, ProcessAnnotation: true})
		s.modules[path] = module
		return err
	})
	return [sha256.Size]byte(digest.Sum(nil)), err
}

// compileAll compiles everything but the tests: first without the composition,
// so that errors are about what the operator wrote, then with it.
func (s *sources) compileAll(ctx context.Context, found checks) (*ast.Compiler, error) {
	compiler, err := s.compile()
	if err != nil {
		return nil, err
	}
	if err := names.Check(ctx, compiler, s.data, bundle.Prefix); err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return compiler, nil
	}
	if err := found.refuseTypes(compiler); err != nil {
		return nil, err
	}
	if s.modules[policies.SiteModule], err = found.compose(); err != nil {
		return nil, fmt.Errorf("composing the checks: %w", err)
	}
	return s.compile()
}

func (s *sources) compile() (*ast.Compiler, error) {
	compiler := s.newCompiler()
	compiler.Compile(s.modules)
	if compiler.Failed() {
		return nil, refusalOfCompiler(compiler.Errors)
	}
	return compiler, nil
}

func (s *sources) newCompiler() *ast.Compiler {
	return ast.NewCompiler().WithCapabilities(capabilities()).WithSchemas(schemas()).WithUseTypeCheckAnnotations(true).
		WithStrict(true).WithDefaultRegoVersion(ast.RegoV1).
		WithPathConflictsCheck(func(path []string) (bool, error) {
			var at any = s.data
			for _, name := range path {
				object, _ := at.(map[string]any)
				var ok bool
				if at, ok = object[name]; !ok {
					return false, nil
				}
			}
			return true, nil
		})
}

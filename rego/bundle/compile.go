package bundle

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/tester"

	"github.com/mtls-authz/mtls-authz/policies"
)

// compileAll compiles everything but the tests: first without the composition,
// so that errors are about what the operator wrote, then with it.
func (s *sources) compileAll(found checks) (*ast.Compiler, error) {
	compiler, err := s.compile()
	if err != nil {
		return nil, err
	}
	if err := s.refuseMissingData(compiler); err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return compiler, nil
	}
	if err := found.refuseTypes(compiler); err != nil {
		return nil, err
	}
	if s.modules[policies.SiteModule], err = found.compose(); err != nil {
		return nil, refuse("composing the checks: %w", err)
	}
	return s.compile()
}

func (s *sources) compile() (*ast.Compiler, error) {
	compiler := s.newCompiler()
	compiler.Compile(s.modules)
	if compiler.Failed() {
		return nil, refuse("%w", compiler.Errors)
	}
	return compiler, nil
}

func (s *sources) newCompiler() *ast.Compiler {
	return ast.NewCompiler().WithCapabilities(capabilities()).WithSchemas(inputSchema()).WithStrict(true).WithDefaultRegoVersion(ast.RegoV1).
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

// inputSchema makes a misspelt input path or a comparison of the wrong type an
// error at activation: under negation it would allow.
var inputSchema = sync.OnceValue(func() *ast.SchemaSet {
	var schema any
	text, err := policies.Files.ReadFile(policies.InputSchema)
	if err == nil {
		err = json.Unmarshal(text, &schema)
	}
	if err != nil {
		panic("bundle: embedded schema: " + err.Error()) // a build that cannot pass its tests
	}
	set := ast.NewSchemaSet()
	set.Put(ast.SchemaRootRef, schema)
	return set
})

// refuseMissingData refuses a data path that is read but neither data nor a
// rule of the bundle: under negation its absence would allow.
func (s *sources) refuseMissingData(compiler *ast.Compiler) error {
	for _, name := range slices.Sorted(maps.Keys(compiler.Modules)) {
		var missing *ast.Term
		ast.WalkTerms(compiler.Modules[name], func(term *ast.Term) bool {
			ref, ok := term.Value.(ast.Ref)
			if ok && missing == nil && ref.HasPrefix(ast.DefaultRootRef) && !s.knows(compiler, ref.ConstantPrefix()) {
				missing = term
			}
			return false
		})
		if missing != nil {
			return refuse("%s: %s is read but is neither in the bundle's data nor a rule", missing.Location, missing)
		}
	}
	return nil
}

func (s *sources) knows(compiler *ast.Compiler, ref ast.Ref) bool {
	if len(compiler.GetRulesForVirtualDocument(ref)) > 0 || len(compiler.GetRulesWithPrefix(ref)) > 0 {
		return true
	}
	var at any = s.data
	for _, term := range ref[1:] {
		var ok bool
		switch parent := at.(type) {
		case map[string]any:
			name, _ := term.Value.(ast.String)
			at, ok = parent[string(name)]
		case []any:
			number, _ := term.Value.(ast.Number)
			i, err := strconv.Atoi(string(number))
			if ok = err == nil && 0 <= i && i < len(parent); ok {
				at = parent[i]
			}
		}
		if !ok {
			return false
		}
	}
	return true
}

// testTimeout bounds each test of the operator's bundle.
const testTimeout = 5 * time.Second

// runTests runs the bundle's own tests, in whatever file they are: a bundle
// that fails them is not activated.
func (s *sources) runTests(ctx context.Context) error {
	modules := maps.Clone(s.modules)
	maps.Copy(modules, s.tests)
	store := inmem.NewFromObject(s.data)
	txn, err := store.NewTransaction(ctx, storage.TransactionParams{})
	if err != nil {
		return refuse("%w", err)
	}
	defer store.Abort(ctx, txn)
	results, err := tester.NewRunner().SetCompiler(s.newCompiler()).SetStore(store).SetModules(modules).
		SetTimeout(testTimeout).RaiseBuiltinErrors(true).RunTests(ctx, txn)
	if err != nil {
		return refuse("tests: %w", err)
	}
	var failed []string
	for result := range results {
		switch {
		case result.Error != nil:
			failed = append(failed, fmt.Sprintf("%s: test %s.%s: %v", result.Location, result.Package, result.Name, result.Error))
		case result.Fail:
			failed = append(failed, fmt.Sprintf("%s: test %s.%s fails", result.Location, result.Package, result.Name))
		}
	}
	if ctx.Err() != nil { // some tests may not have run
		return refuse("tests: %w", ctx.Err())
	}
	if len(failed) > 0 {
		slices.Sort(failed)
		return refuse("%s", strings.Join(failed, "; "))
	}
	return nil
}

// allowedBuiltins are what policies may call: pure functions that either cost
// no more than their input or look at the deadline while they work. Nothing
// reaches the network, the clock, the environment or a random source.
var allowedBuiltins = []string{
	"abs", "all", "and", "any", "array.concat", "array.flatten", "array.reverse", "array.slice", "assign", "base64.decode", "base64url.decode",
	"ceil", "concat", "contains", "count", "div", "endswith", "eq", "equal", "floor", "format_int", "gt", "gte", "indexof", "internal.member_2",
	"internal.member_3", "internal.print", "internal.test_case", "intersection", "is_array", "is_boolean", "is_null", "is_number", "is_object",
	"is_set", "is_string", "json.filter", "json.remove", "lower", "lt", "lte", "max", "min", "minus", "mul", "neq", "object.filter", "object.get",
	"object.keys", "object.remove", "object.subset", "object.union", "object.union_n", "or", "plus", "print", "product", "rem", "replace", "round",
	"sort", "split", "sprintf", "startswith", "strings.any_prefix_match", "strings.any_suffix_match", "strings.count", "strings.reverse",
	"substring", "sum", "time.parse_rfc3339_ns", "to_number", "trim", "trim_left", "trim_prefix", "trim_right", "trim_space", "trim_suffix",
	"type_name", "union", "upper",
}

func capabilities() *ast.Capabilities {
	all := ast.CapabilitiesForThisVersion()
	all.Builtins = slices.DeleteFunc(all.Builtins, func(b *ast.Builtin) bool { return !slices.Contains(allowedBuiltins, b.Name) })
	all.AllowNet = []string{}
	return all
}

package rego

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/tester"
)

// testTimeout bounds each test of the operator's bundle.
const testTimeout = 5 * time.Second

// runTests runs the bundle's own tests: a bundle that fails them is not
// activated.
func (s *sources) runTests(ctx context.Context) error {
	if len(s.tests) == 0 {
		return nil
	}
	modules := maps.Clone(s.modules)
	maps.Copy(modules, s.tests)
	store := s.store()
	txn, err := store.NewTransaction(ctx, storage.TransactionParams{})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBundle, err)
	}
	defer store.Abort(ctx, txn)
	results, err := tester.NewRunner().SetCompiler(newCompiler()).SetStore(store).SetModules(modules).
		SetTimeout(testTimeout).RunTests(ctx, txn)
	if err != nil {
		return fmt.Errorf("%w: tests: %w", ErrBundle, err)
	}
	var failed []string
	for result := range results {
		if !result.Pass() {
			failed = append(failed, fmt.Sprintf("%s: test %s.%s fails", result.Location, result.Package, result.Name))
		}
	}
	if len(failed) > 0 {
		slices.Sort(failed)
		return fmt.Errorf("%w: %s", ErrBundle, strings.Join(failed, "; "))
	}
	return nil
}

// allowedBuiltins are what policies may call: pure functions whose cost their
// input bounds. Nothing reaches the network, the clock, the environment or a
// random source, and nothing grows its output without bound.
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

package gate

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/mtls-authz/mtls-authz/rego/bundle"
)

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

// refusalOfCompiler adds to what OPA's compiler says how to mend it.
func refusalOfCompiler(errs ast.Errors) *bundle.Refusal {
	refusals := &bundle.Refusal{}
	for _, err := range errs {
		step := bundle.StepCompile
		if err.Code == ast.TypeErr {
			step = bundle.StepTypes
		}
		refusal := bundle.RefusalOf(step, err)
		if fix := fixOf(err); fix != "" {
			refusal = refusal.WithFix("%s", fix)
		}
		refusals.Findings = append(refusals.Findings, refusal.Findings...)
	}
	return refusals
}

package explain

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// values are what a condition, compiled to these expressions, has seen.
func (w *writer) values(f *frame, compiled ast.Body, condition *ast.Expr) []Value {
	var values []Value
	add := func(name string, value ast.Value) {
		if slices.ContainsFunc(values, func(v Value) bool { return v.Name == name }) {
			return
		}
		text := "undefined"
		if value != nil {
			text = shorten(value.String())
		}
		values = append(values, Value{name, text})
	}
	w.variables(f, condition, add)
	for _, expr := range compiled {
		if len(expr.With) > 0 { // it sees other values than the request's
			continue
		}
		operators := operatorsOf(expr)
		ast.WalkRefs(expr, func(ref ast.Ref) bool {
			plugged, ok := plug(ref, f.locals)
			if !ok || slices.ContainsFunc(operators, func(operator ast.Ref) bool { return operator.Equal(ref) }) {
				return false
			}
			value, err := w.policy.Trace(w.ctx, w.request, plugged, nil)
			if err == nil {
				add(strings.TrimPrefix(plugged.String(), f.rule.Module.Package.Path.String()+"."), value)
			}
			return false
		})
	}
	return values
}

// variables are those that the author named in the condition.
func (w *writer) variables(f *frame, condition *ast.Expr, add func(string, ast.Value)) {
	if f.locals == nil {
		return
	}
	ast.WalkVars(condition, func(name ast.Var) bool {
		f.locals.Iter(func(key, value ast.Value) bool {
			if local, ok := key.(ast.Var); ok && f.names[local].Name == name && !name.IsWildcard() && !name.IsGenerated() {
				add(string(name), value)
			}
			return false
		})
		return false
	})
}

// operatorsOf are the functions that an expression calls.
func operatorsOf(expr *ast.Expr) []ast.Ref {
	var operators []ast.Ref
	if expr.IsCall() {
		operators = append(operators, expr.Operator())
	}
	ast.WalkTerms(expr, func(term *ast.Term) bool {
		if call, ok := term.Value.(ast.Call); ok {
			if ref, ok := call[0].Value.(ast.Ref); ok {
				operators = append(operators, ref)
			}
		}
		return false
	})
	return operators
}

// plug puts the values of variables into a reference to input or data. It
// reports whether it then names one document.
func plug(ref ast.Ref, locals *ast.ValueMap) (ast.Ref, bool) {
	if !ref.HasPrefix(ast.InputRootRef) && !ref.HasPrefix(ast.DefaultRootRef) || len(ref) == 1 {
		return nil, false
	}
	plugged := slices.Clone(ref)
	for i, part := range plugged[1:] {
		if _, isVar := part.Value.(ast.Var); isVar && locals != nil {
			if value := locals.Get(part.Value); value != nil {
				plugged[i+1] = ast.NewTerm(value)
			}
		}
	}
	return plugged, plugged.IsGround()
}

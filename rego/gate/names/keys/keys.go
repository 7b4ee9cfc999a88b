// Package keys selects in data by keys of Rego, and writes them for people.
//
// It trusts neither data nor keys, which are the operator's. It has no errors:
// what a key does not select is missing, and the caller decides.
package keys

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// IsConstant reports whether a key is written as a value.
func IsConstant(element *ast.Term) bool {
	switch element.Value.(type) {
	case ast.String, ast.Number, ast.Boolean, ast.Null:
		return true
	}
	return false
}

// Each selects an element of every node; missing: one of them has none, or all
// of them where it is optional.
func Each(nodes []any, element *ast.Term, optional bool) (found []any, missing bool) {
	for _, node := range nodes {
		child, there := selected(node, element)
		if !there && !optional {
			return nil, true
		}
		if there {
			found = append(found, child)
		}
	}
	return found, len(nodes) > 0 && len(found) == 0
}

func selected(node any, element *ast.Term) (any, bool) {
	switch parent := node.(type) {
	case map[string]any:
		name, ok := element.Value.(ast.String)
		child, there := parent[string(name)]
		return child, ok && there
	case []any:
		number, _ := element.Value.(ast.Number)
		i, err := strconv.Atoi(string(number))
		if err != nil || i < 0 || i >= len(parent) {
			return nil, false
		}
		return parent[i], true
	}
	return nil, false
}

// Children are all elements of all nodes; what has none has none to choose.
func Children(nodes []any) (all []any) {
	for _, node := range nodes {
		switch parent := node.(type) {
		case map[string]any:
			all = slices.AppendSeq(all, maps.Values(parent))
		case []any:
			all = append(all, parent...)
		}
	}
	return all
}

// Text writes a reference without the names that the compiler gave.
func Text(ref ast.Ref) string {
	var out strings.Builder
	for i, element := range ref {
		name, isString := element.Value.(ast.String)
		v, isVar := element.Value.(ast.Var)
		switch {
		case i == 0 && isVar && v != "" && !strings.HasPrefix(string(v), "__local"):
			out.WriteString(string(v))
		case i == 0:
			out.WriteString("it")
		case isString && ast.IsVarCompatibleString(string(name)):
			out.WriteString("." + string(name))
		case isVar && (v.IsWildcard() || strings.HasPrefix(string(v), "__local")):
			out.WriteString("[…]")
		default:
			fmt.Fprintf(&out, "[%s]", element)
		}
	}
	return out.String()
}

// Plain is a key as people write it.
func Plain(element *ast.Term) string {
	if name, ok := element.Value.(ast.String); ok {
		return string(name)
	}
	return element.String()
}

// Split returns the keys in a path of a builtin that begins with json: a text
// with slashes, or a list.
func Split(builtin string, key *ast.Term) []*ast.Term {
	if !strings.HasPrefix(builtin, "json.") {
		return []*ast.Term{key}
	}
	if list, ok := key.Value.(*ast.Array); ok {
		return Elements(list)
	}
	text, ok := key.Value.(ast.String)
	if !ok {
		return []*ast.Term{key}
	}
	var keys []*ast.Term
	for name := range strings.SplitSeq(strings.TrimLeft(string(text), "/"), "/") {
		keys = append(keys, ast.StringTerm(strings.NewReplacer("~1", "/", "~0", "~").Replace(name)))
	}
	return keys
}

// Elements are what a list or set holds, and the keys of an object.
func Elements(collection ast.Value) (all []*ast.Term) {
	note := func(element *ast.Term) { all = append(all, element) }
	switch value := collection.(type) {
	case *ast.Array:
		value.Foreach(note)
	case ast.Set:
		value.Foreach(note)
	case ast.Object:
		value.Foreach(func(key, _ *ast.Term) { note(key) })
	}
	return all
}

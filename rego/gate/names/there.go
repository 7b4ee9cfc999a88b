package names

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/types"

	"github.com/mtls-authz/mtls-authz/rego/bundle"
)

// grantsRef is where the schema of the grants says what may be read: their
// members are optional.
var grantsRef = ast.MustParseRef("data.site.grants")

func refuse(format string, args ...any) *bundle.Refusal {
	return bundle.Refuse(bundle.StepNames, nil, format, args...)
}

// checkRef proves that what a reference names is there.
func (c *checker) checkRef(o origin) *bundle.Refusal {
	switch {
	case o.made:
		return c.checkMade(o)
	case o.ref[0].Equal(ast.InputRootDocument):
		return c.checkInput(o.ref)
	}
	constant := o.ref.ConstantPrefix()
	if len(c.compiler.GetRulesForVirtualDocument(constant)) > 0 {
		return nil // of what a rule says, nothing is taken here
	}
	if len(constant) == 1 || len(c.compiler.GetRulesWithPrefix(constant)) > 0 || constant.Equal(grantsRef[:2]) {
		return refuse("%s takes packages in hand; a name below them that is not there would be undefined, which under negation allows", text(o.ref)).
			WithFix("write the whole name, such as %s.lists.blocked[input.caller.app]", text(constant))
	}
	return c.checkData(o)
}

// checkMade refuses names in what was computed from data. An index is no name.
func (c *checker) checkMade(o origin) *bundle.Refusal {
	for i, element := range o.ref[1:] {
		_, isNumber := element.Value.(ast.Number)
		if isNumber || !isConstant(element) && c.runtime(o.keys[i+1], element) {
			continue
		}
		return refuse("%s: the name %s is taken from what the policy made of data, which cannot be proven to have it", text(o.ref), plain(element)).
			WithFix("write the whole name where it is read, such as data.lists.blocked[input.caller.app]")
	}
	return nil
}

// checkInput holds a reference against the type of the input.
func (c *checker) checkInput(ref ast.Ref) *bundle.Refusal {
	at := c.compiler.TypeEnv.GetByRef(ast.Ref{ref[0]})
	for i, element := range ref[1:] {
		if at == nil {
			return nil
		}
		name, ok := element.Value.(ast.String)
		if !ok {
			at = types.Values(at)
			continue
		}
		if at = types.Select(at, string(name)); at == nil {
			return refuse("%s: there is no %s", text(ref), text(ref[:i+2])).WithFix("see policies/schemas/input.json for what input holds")
		}
	}
	return nil
}

// checkData walks the reference over all data that its keys could choose.
func (c *checker) checkData(o origin) *bundle.Refusal {
	nodes, dynamic := []any{c.data}, false
	for i, element := range o.ref[1:] {
		if o.ref[:i+1].Equal(grantsRef) {
			return nil
		}
		if isConstant(element) {
			var missing bool
			nodes, missing = each(nodes, element, i >= len(o.ref)-1-o.optional)
			if missing || len(nodes) == 0 && !dynamic {
				refusal := refuse("%s is read but is neither in the bundle's data nor a rule", text(o.ref))
				if dynamic {
					if i >= len(o.ref)-1-o.optional {
						return refusal.WithFix("%q must be in at least one entry that the keys before it could choose", plain(element))
					}
					return refusal.WithFix("%q must be in every entry that the keys before it could choose", plain(element))
				}
				return refusal
			}
			continue
		}
		dynamic = true
		if !c.runtime(o.keys[i+1], element) {
			return refuse("%s: the key %s is a name that the policy itself gives, which cannot be proven to be there", text(o.ref), text(ast.Ref{element})).
				WithFix("write the name where it is read, such as %s.blocked", text(o.ref[:i+1]))
		}
		nodes = children(nodes)
	}
	return nil
}

func isConstant(element *ast.Term) bool {
	switch element.Value.(type) {
	case ast.String, ast.Number, ast.Boolean, ast.Null:
		return true
	}
	return false
}

// each selects an element of every node; missing: one of them has none, or all
// of them where it is optional.
func each(nodes []any, element *ast.Term, optional bool) (found []any, missing bool) {
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

// children are all elements of all nodes; what has none has none to choose.
func children(nodes []any) (all []any) {
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

// text writes a reference without the names that the compiler gave.
func text(ref ast.Ref) string {
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

func plain(element *ast.Term) string {
	if name, ok := element.Value.(ast.String); ok {
		return string(name)
	}
	return element.String()
}

package names

import (
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/types"

	"github.com/mtls-authz/mtls-authz/rego/bundle"
	"github.com/mtls-authz/mtls-authz/rego/gate/names/keys"
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
		return refuse("%s takes packages in hand; a name below them that is not there would be undefined, which under negation allows", keys.Text(o.ref)).
			WithFix("write the whole name, such as %s.lists.blocked[input.caller.app]", keys.Text(constant))
	}
	return c.checkData(o)
}

// checkMade refuses names in what was computed from data. An index is no name.
func (c *checker) checkMade(o origin) *bundle.Refusal {
	for i, element := range o.ref[1:] {
		_, isNumber := element.Value.(ast.Number)
		if isNumber || !keys.IsConstant(element) && c.runtime(o.keys[i+1], element) {
			continue
		}
		return refuse("%s: the name %s is taken from what the policy made of data, which cannot be proven to have it", keys.Text(o.ref), keys.Plain(element)).
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
			return refuse("%s: there is no %s", keys.Text(ref), keys.Text(ref[:i+2])).WithFix("see policies/schemas/input.json for what input holds")
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
		if keys.IsConstant(element) {
			var missing bool
			nodes, missing = keys.Each(nodes, element, i >= len(o.ref)-1-o.optional)
			if missing || len(nodes) == 0 && !dynamic {
				refusal := refuse("%s is read but is neither in the bundle's data nor a rule", keys.Text(o.ref))
				if dynamic {
					if i >= len(o.ref)-1-o.optional {
						return refusal.WithFix("%q must be in at least one entry that the keys before it could choose", keys.Plain(element))
					}
					return refusal.WithFix("%q must be in every entry that the keys before it could choose", keys.Plain(element))
				}
				return refusal
			}
			continue
		}
		dynamic = true
		if !c.runtime(o.keys[i+1], element) {
			return refuse("%s: the key %s is a name that the policy itself gives, which cannot be proven to be there", keys.Text(o.ref), keys.Text(ast.Ref{element})).
				WithFix("write the name where it is read, such as %s.blocked", keys.Text(o.ref[:i+1]))
		}
		nodes = keys.Children(nodes)
	}
	return nil
}

package names

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/mtls-authz/mtls-authz/rego/gate/names/keys"
)

const (
	// maxDepth bounds how many variables, functions and rules a value is
	// followed through, maxSteps all of its branches together. What lies beyond
	// cannot be proven.
	maxDepth = 16
	maxSteps = 4096
)

// An origin is a reference to data or input, and the rule in which the
// variables of its keys mean something.
type origin struct {
	ref ast.Ref
	// keys are the rules that the elements of ref come from, one each.
	keys []*ast.Rule
	// made: the head is no document, but something that was computed from data.
	made bool
	// optional is how many of the last keys have a default.
	optional int
}

// A path is the keys that are taken from a value, and the rule of each.
type path struct {
	elements []*ast.Term
	rules    []*ast.Rule
}

func pathIn(rule *ast.Rule, elements []*ast.Term) path {
	return path{elements, slices.Repeat([]*ast.Rule{rule}, len(elements))}
}

func (p path) from(i int) path { return path{p.elements[i:], p.rules[i:]} }

func (p path) below(before path) path {
	return path{slices.Concat(before.elements, p.elements), slices.Concat(before.rules, p.rules)}
}

// A trail follows one value to where it comes from.
type trail struct {
	*checker
	seen  map[dependency]bool
	found []origin
	steps int
}

// origins follows a value through variables, the arguments of functions, rules
// and collections to what the path is taken from in data and input. What comes
// from elsewhere has no origin.
func (c *checker) origins(rule *ast.Rule, term *ast.Term, p path) []origin {
	t := &trail{checker: c, seen: map[dependency]bool{}}
	t.follow(rule, term, p, maxDepth)
	return t.found
}

func (t *trail) follow(rule *ast.Rule, term *ast.Term, p path, depth int) {
	if ref, ok := term.Value.(ast.Ref); ok {
		t.followRef(rule, ref, p, depth)
		return
	}
	if isRoot(term) {
		t.add(ast.Ref{term}, rule, p, false)
		return
	}
	if t.steps++; len(p.elements) == 0 {
		return // no name is taken from it
	}
	if depth == 0 || t.steps > maxSteps {
		t.addMade(rule, term, p)
		return
	}
	switch value := term.Value.(type) {
	case ast.Var:
		t.followVar(rule, value, p, depth-1)
	case ast.Call:
		t.followCall(rule, value[0], value[1:], p, depth-1)
	case *ast.ArrayComprehension:
		t.follow(rule, value.Term, p.from(1), depth-1)
	case *ast.SetComprehension:
		t.follow(rule, value.Term, p.from(1), depth-1)
	case *ast.ObjectComprehension:
		if keys.IsConstant(p.elements[0]) {
			t.addMade(rule, term, p)
			return
		}
		t.follow(rule, value.Value, p.from(1), depth-1)
	default:
		t.followLiteral(rule, term, p, depth-1)
	}
}

func (t *trail) followRef(rule *ast.Rule, ref ast.Ref, p path, depth int) {
	p = p.below(pathIn(rule, ref[1:]))
	if !isRoot(ref[0]) {
		t.follow(rule, ref[0], p, depth)
		return
	}
	whole := slices.Concat(ast.Ref{ref[0]}, p.elements)
	if ref[0].Equal(ast.InputRootDocument) || len(t.compiler.GetRulesForVirtualDocument(whole.ConstantPrefix())) == 0 {
		t.add(ast.Ref{ref[0]}, rule, p, false)
		return
	}
	if t.steps++; depth == 0 || t.steps > maxSteps {
		t.addMade(rule, ast.NewTerm(ref), p.from(len(ref)-1))
		return
	}
	for _, to := range t.compiler.GetRulesDynamicWithOpts(whole, ast.RulesOptions{IncludeHiddenModules: true}) {
		for r := to; r != nil; r = r.Else {
			t.followRule(r, p, depth-1)
		}
	}
}

// followRule follows the value of a rule; the path begins at data.
func (t *trail) followRule(rule *ast.Rule, p path, depth int) {
	at := rule.Ref()[1:]
	for i, element := range at[:min(len(at), len(p.elements))] {
		if !keys.IsConstant(element) && keys.IsConstant(p.elements[i]) {
			t.addMade(rule, element, p.from(i))
			t.addMade(rule, rule.Head.Value, p.from(i))
			return
		}
	}
	switch {
	case len(p.elements) <= len(at) || len(rule.Head.Args) > 0:
	case rule.Head.RuleKind() == ast.MultiValue:
		t.follow(rule, rule.Head.Key, p.from(len(at)+1), depth)
	default:
		t.follow(rule, rule.Head.Value, p.from(len(at)), depth)
	}
}

func (t *trail) followVar(rule *ast.Rule, v ast.Var, p path, depth int) {
	at := dependency{rule, string(v)}
	if t.seen[at] {
		return
	}
	t.seen[at] = true
	defer delete(t.seen, at)
	b := t.bodies[rule]
	for _, definition := range b.definitions[v] {
		t.follow(rule, definition, p, depth)
	}
	for _, given := range t.given(rule, v) {
		t.follow(given.by, given.args[0], p, depth)
	}
	for _, made := range b.results[v] {
		t.followCall(rule, made[0], made[1:], p, depth)
	}
	for _, set := range b.members[v] {
		t.addMade(rule, set, p)
	}
}

// followCall follows the result of a function; that of a builtin has no names.
func (t *trail) followCall(rule *ast.Rule, function *ast.Term, args []*ast.Term, p path, depth int) {
	ref, _ := function.Value.(ast.Ref)
	rules := t.compiler.GetRulesExact(ref)
	for _, to := range rules {
		for r := to; r != nil; r = r.Else {
			t.follow(r, r.Head.Value, p, depth)
		}
	}
	if len(rules) == 0 && t.flow(rule, args) {
		t.add(ast.Ref{ast.VarTerm("")}, rule, p, true)
	}
}

// followLiteral follows what a list, set or object holds.
func (t *trail) followLiteral(rule *ast.Rule, term *ast.Term, p path, depth int) {
	key, rest := p.elements[0], p.from(1)
	switch value := term.Value.(type) {
	case *ast.Array:
		value.Foreach(func(element *ast.Term) { t.follow(rule, element, rest, depth) })
	case ast.Set:
		value.Foreach(func(element *ast.Term) { t.follow(rule, element, rest, depth) })
	case ast.Object:
		if member := value.Get(key); member != nil {
			t.follow(rule, member, rest, depth)
		} else if keys.IsConstant(key) {
			t.addMade(rule, term, p)
		} else {
			value.Foreach(func(_, member *ast.Term) { t.follow(rule, member, rest, depth) })
		}
	}
}

// addMade notes a path into what cannot be followed, if it came from data.
func (t *trail) addMade(rule *ast.Rule, term *ast.Term, p path) {
	if t.flow(rule, []*ast.Term{term}) {
		t.add(ast.Ref{ast.VarTerm("")}, rule, p, true)
	}
}

func (t *trail) add(head ast.Ref, rule *ast.Rule, p path, made bool) {
	t.found = append(t.found, origin{
		ref: slices.Concat(head, p.elements), keys: slices.Concat([]*ast.Rule{rule}, p.rules), made: made,
	})
}

func isRoot(term *ast.Term) bool {
	return term.Equal(ast.DefaultRootDocument) || term.Equal(ast.InputRootDocument)
}

// given returns what calls give to a parameter, one argument each.
func (c *checker) given(rule *ast.Rule, parameter ast.Var) []call {
	at := slices.IndexFunc(rule.Head.Args, func(arg *ast.Term) bool { return arg.Value.Compare(parameter) == 0 })
	if at < 0 {
		return nil
	}
	var args []call
	for _, made := range c.calls[rule.Ref().String()] {
		if at < len(made.args) {
			args = append(args, call{made.by, made.args[at : at+1]})
		}
	}
	return args
}

package reads

import (
	"maps"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/util"
)

// Any reports whether the policy can read one of these paths of the input,
// such as "request.path", beyond what is the caller's own: a policy that looks
// at input.grants.apps[input.caller.app] alone does not read "grants.apps", the
// grants of others, but it reads "grants". It says true rather than false: what
// takes a document in hand reads all of it, and a "with" makes everything read,
// because then the input may be another.
func Any(compiler *ast.Compiler, paths []string) bool {
	w := &inputWalk{compiler: compiler, visited: map[util.T]struct{}{}, read: map[string]struct{}{}}
	for _, rule := range compiler.GetRulesWithPrefix(decision) {
		w.visit(rule)
	}
	for _, path := range paths {
		if w.ownGrants && path == "grants" {
			return true
		}
		for read := range w.read {
			if read == "" || path == "" || read == path || strings.HasPrefix(read, path+".") || strings.HasPrefix(path, read+".") {
				return true
			}
		}
	}
	return false
}

// inputWalk collects what rules, and all rules that they can reach, read.
type inputWalk struct {
	compiler *ast.Compiler
	visited  map[util.T]struct{}
	// read are the documents of the input that are read; "" is all of it.
	read map[string]struct{}
	// ownGrants: the grants to the caller are read.
	ownGrants bool
}

// callers are the variables that are a guid of the caller, with the name of
// that guid: app, space or org.
type callers map[ast.Var]string

func (w *inputWalk) visit(node util.T) {
	if _, ok := w.visited[node]; ok {
		return
	}
	w.visited[node] = struct{}{}
	if rule, ok := node.(*ast.Rule); ok {
		w.look(rule.Head, nil)
		w.body(rule.Body, nil)
		if rule.Else != nil {
			w.visit(rule.Else)
		}
	} else {
		w.look(node, nil)
	}
	for next := range w.compiler.Graph.Dependencies(node) {
		w.visit(next)
	}
}

// body looks at expressions in their order. The compiler takes guids out of
// references first: local = input.caller.app; input.grants.apps[local]. From
// there on, in this body and in those within it, local is nothing else.
func (w *inputWalk) body(body ast.Body, known callers) {
	known = maps.Clone(known)
	if known == nil {
		known = callers{}
	}
	for _, expr := range body {
		if len(expr.With) > 0 {
			w.read[""] = struct{}{}
		}
		w.look(expr, known)
		if expr.Negated || !expr.IsEquality() || len(expr.Operands()) != 2 {
			continue
		}
		for i := range 2 {
			variable, isVar := expr.Operand(i).Value.(ast.Var)
			ref, isRef := expr.Operand(1 - i).Value.(ast.Ref)
			if isVar && isRef && guidOf(ref) != "" {
				known[variable] = guidOf(ref)
			}
		}
	}
}

// guidOf returns app, space or org for a reference to exactly that guid of the
// caller, else "".
func guidOf(ref ast.Ref) string {
	for _, name := range []string{"app", "space", "org"} {
		if ref.Equal(ast.Ref{ast.InputRootDocument, ast.InternedTerm("caller"), ast.InternedTerm(name)}) {
			return name
		}
	}
	return ""
}

func (w *inputWalk) look(node any, known callers) {
	ast.NewGenericVisitor(func(x any) bool {
		switch x := x.(type) {
		case ast.Body:
			w.body(x, known)
			return true
		case ast.Ref:
			w.reference(x, known)
			return true
		case ast.Var:
			if x.Equal(ast.InputRootDocument.Value) { // all of it, in hand
				w.read[""] = struct{}{}
			}
		}
		return false
	}).Walk(node)
}

func (w *inputWalk) reference(ref ast.Ref, known callers) {
	switch _, isVar := ref[0].Value.(ast.Var); {
	case !isVar:
		w.look(ref[0], known)
	case !ref[0].Equal(ast.InputRootDocument):
	case ownGrants(ref, known):
		w.ownGrants = true
	default:
		w.read[constantPath(ref)] = struct{}{}
	}
	for _, part := range ref[1:] { // the head of a reference is not all of input
		w.look(part, known)
	}
}

// constantPath names the document of the input as far as it is certain.
func constantPath(ref ast.Ref) string {
	var names []string
	for _, part := range ref[1:] {
		name, ok := part.Value.(ast.String)
		if !ok {
			break
		}
		names = append(names, string(name))
	}
	return strings.Join(names, ".")
}

// ownGrants reports whether the reference is to input.grants.apps[the caller's
// app] or below, or the same of its space or org.
func ownGrants(ref ast.Ref, known callers) bool {
	if len(ref) < 4 || !ref[1].Equal(ast.InternedTerm("grants")) {
		return false
	}
	kind, _ := ref[2].Value.(ast.String)
	var guid string
	switch key := ref[3].Value.(type) {
	case ast.Var:
		guid = known[key]
	case ast.Ref:
		guid = guidOf(key)
	}
	return guid != "" && string(kind) == guid+"s"
}

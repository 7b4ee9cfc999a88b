package reads

import (
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/util"
)

// found is what a walk has come across.
type found struct {
	paths Paths
	// document: input or input.request was taken in hand as a whole.
	document bool
	// clock is a builtin that does not say the same twice; "": there is none.
	clock string
}

func (f *found) add(other found) {
	f.paths = (f.paths | other.paths).canonical()
	f.document = f.document || other.document
	if f.clock == "" {
		f.clock = other.clock
	}
}

// walk collects what rules and all rules that they can reach read.
type walk struct {
	found
	compiler *ast.Compiler
	visited  map[util.T]struct{}
}

func newWalk(compiler *ast.Compiler) *walk {
	return &walk{compiler: compiler, visited: map[util.T]struct{}{}}
}

// visit looks at a rule, its else branches and what they depend on.
func (w *walk) visit(node util.T) {
	if _, ok := w.visited[node]; ok {
		return
	}
	w.visited[node] = struct{}{}
	ast.WalkTerms(node, w.note)
	for next := range w.compiler.Graph.Dependencies(node) {
		w.visit(next)
	}
	if rule, ok := node.(*ast.Rule); ok && rule.Else != nil {
		w.visit(rule.Else)
	}
}

// note looks at one term and reports whether it has looked at its parts too.
func (w *walk) note(term *ast.Term) bool {
	switch value := term.Value.(type) {
	case ast.Var:
		if value.Equal(ast.InputRootDocument.Value) { // input itself
			w.reads(nil)
		}
	case ast.Ref:
		switch head := value[0]; {
		case head.Equal(ast.InputRootDocument):
			w.reads(value.ConstantPrefix()[1:])
		case isVar(head):
			w.calls(value)
		default: // a composite value, perhaps with input in it
			ast.WalkTerms(head, w.note)
		}
		for _, part := range value[1:] { // the head of a reference is not all of input
			ast.WalkTerms(part, w.note)
		}
		return true
	}
	return false
}

func isVar(term *ast.Term) bool { _, ok := term.Value.(ast.Var); return ok }

// reads notes a reference to input by the constant parts that follow it.
func (w *walk) reads(parts []*ast.Term) {
	document, segment := name(parts)
	if segment >= 0 {
		w.add(found{paths: 1 << (First + Path(segment))})
		return
	}
	w.document = w.document || document == "" || document == "request"
	for p := range Whole.All() {
		if covers(document, names[p]) {
			w.add(found{paths: 1 << p})
		}
	}
}

// name returns the document that constant parts name, and the number of the
// segment if they name one that has a path of its own, else -1. What follows a
// part that is no string cannot be told and is left out.
func name(parts []*ast.Term) (document string, segment int) {
	var list []string
	for _, part := range parts {
		text, ok := part.Value.(ast.String)
		if !ok {
			break
		}
		list = append(list, string(text))
	}
	document = strings.Join(list, ".")
	if document == names[Segments] && len(parts) > len(list) {
		if number, ok := parts[len(list)].Value.(ast.Number); ok {
			if n, err := strconv.Atoi(string(number)); err == nil && 0 <= n && n <= int(Last-First) {
				return document, n
			}
		}
	}
	return document, -1
}

// calls notes builtins that do not say the same twice. OPA does not flag those
// that verify certificates, which look at the clock.
func (w *walk) calls(ref ast.Ref) {
	builtin := ast.BuiltinMap[ref.String()]
	if builtin == nil || w.clock != "" {
		return
	}
	if builtin.IsNondeterministic() || strings.HasPrefix(builtin.Name, "crypto.x509.parse_and_verify_certificates") {
		w.clock = builtin.Name
	}
}

package rego

import (
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/util"
)

// Reads tells which parts of a request the operator's checks can read. Where a
// part decides, it must be unambiguous.
type Reads struct{ Method, Path, Now bool }

// readsOf looks at every reference to input in every rule that the composition
// of the checks can reach. It over-approximates: a check that takes the whole
// request in hand reads its path, whatever it does with it. (OPA's
// dependencies.Base says less than is read where input is given to a "with",
// and does not end on some bodies.)
func readsOf(compiler *ast.Compiler) Reads {
	var reads Reads
	method, path, segments, now := ast.MustParseRef("input.request.method"), ast.MustParseRef("input.request.path"),
		ast.MustParseRef("input.request.segments"), ast.MustParseRef("input.now")
	note := func(term *ast.Term) bool {
		var ref ast.Ref
		switch value := term.Value.(type) {
		case ast.Ref:
			ref = value.ConstantPrefix()
		case ast.Var:
			ref = ast.Ref{term} // input itself
		}
		if len(ref) > 0 && ref[0].Equal(ast.InputRootDocument) {
			touches := func(part ast.Ref) bool { return ref.HasPrefix(part) || part.HasPrefix(ref) }
			reads.Method = reads.Method || touches(method)
			reads.Path = reads.Path || touches(path) || touches(segments)
			reads.Now = reads.Now || touches(now)
			return true // the head of a reference is no reference to all of input
		}
		return false
	}
	visited := map[util.T]struct{}{}
	var visit func(node util.T)
	visit = func(node util.T) {
		if _, ok := visited[node]; ok {
			return
		}
		visited[node] = struct{}{}
		ast.WalkTerms(node, note)
		for next := range compiler.Graph.Dependencies(node) {
			visit(next)
		}
	}
	for _, rule := range compiler.GetRulesWithPrefix(ast.MustParseRef("data.mtls.site")) {
		visit(rule)
	}
	return reads
}

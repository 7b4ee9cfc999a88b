package reads

import (
	"maps"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/util"
)

// InputOf returns the documents of the input that the rules of package
// data.<names>, and all rules that they can reach, read, as a policy writes them;
// "input" is all of it. It is for people: what it says is no key.
func InputOf(compiler *ast.Compiler, names ...string) []string {
	ref := ast.Ref{ast.DefaultRootDocument}
	for _, name := range names {
		ref = append(ref, ast.StringTerm(name))
	}
	w := &inputWalk{compiler: compiler, visited: map[util.T]struct{}{}, read: map[string]struct{}{}}
	for _, rule := range compiler.GetRulesWithPrefix(ref) {
		w.visit(rule)
	}
	documents := []string{}
	for _, path := range slices.Sorted(maps.Keys(w.read)) {
		if path == "" {
			documents = append(documents, "input")
			continue
		}
		documents = append(documents, "input."+path)
	}
	if w.ownGrants {
		documents = append(documents, "input.grants of the caller")
	}
	return documents
}

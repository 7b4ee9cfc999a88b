package rego

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/mtls-authz/mtls-authz/grants"
)

// Under returns the same request as the policy p would get it: p's operator's
// grants stand in the place of those of r's own policy. It does not go through
// [grants.Access.Live], which remembers one site's grants only, those of the
// policy in force.
func (r *Request) Under(p *Policy) *Request {
	under := *r
	under.Policy = p
	operators := func(rule grants.Rule) bool { return rule.Origin == grants.FromOperator }
	if p == r.Policy || len(p.Site().Grants) == 0 && !slices.ContainsFunc(r.Live.Rules, operators) {
		return &under
	}
	lists := map[grants.Origin][]grants.Grant{}
	for _, rule := range r.Live.Rules {
		lists[rule.Origin] = append(lists[rule.Origin], rule.Grant)
	}
	a := r.Live.Access
	under.Live = grants.NewAccess(&grants.Access{
		Binding: a.Binding, Route: a.Route, Owner: a.Owner, Scope: a.Scope, Mode: a.Mode, Assert: a.Assert,
		Labels: a.Labels, Revision: a.Revision,
	}, lists[grants.FromInstance], lists[grants.FromBinding]).Live(r.Now, p.Site())
	return &under
}

// Answer is what the gateway would decide about a verified caller's request:
// Go's guard, the policy, and Go's confirmation. What is no decision is the
// denial policy_error, and the error says why.
func Answer(ctx context.Context, r *Request) (Decision, error) {
	if !r.Live.Scope.Admits(r.Caller, r.Live.Owner) {
		return Decision{Policy: "domain:scope=" + r.Live.Scope.String(), Reason: "scope"}, nil
	}
	if len(r.Live.Rules) == 0 {
		return Decision{Policy: "route:no_grants", Reason: "no_grants"}, nil
	}
	decision, err := r.Policy.Decide(ctx, r)
	if err != nil {
		return Decision{Policy: "gateway:policy_error", Reason: "policy_error"}, err
	}
	return Confirm(decision, r), nil
}

// ReadsAny reports whether the policy can read one of these paths of the input,
// such as "request.path", beyond what is the caller's own: a policy that looks
// at input.grants.apps[input.caller.app] alone does not read "grants.apps", the
// grants of others, but it reads "grants". It says true rather than false: what
// takes a document in hand reads all of it, and a "with" makes everything read,
// because then the input may be another.
func (p *Policy) ReadsAny(paths []string) bool {
	w := &inputWalk{compiler: p.compiler, visited: map[util.T]struct{}{}, read: map[string]struct{}{}}
	for _, rule := range p.compiler.GetRulesWithPrefix(ast.MustParseRef("data.mtls.authz.decision")) {
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
		if ref.Equal(ast.Ref{ast.InputRootDocument, keyCaller, text(name)}) {
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
	if len(ref) < 4 || !ref[1].Equal(keyGrants) {
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

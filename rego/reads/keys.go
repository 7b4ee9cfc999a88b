package reads

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// The rules of the built-in policy that this package knows by name.
var (
	decision = ast.MustParseRef("data.mtls.authz.decision")
	granted  = ast.MustParseRef("data.mtls.authz.granted")
	site     = ast.MustParseRef("data.mtls.site")
	// known holds of every caller that Go takes for somebody: see [Keys.Of].
	known        = ast.MustParseRef("data.mtls.authz.known")
	partialKnown = ast.MustParseRef("data.partial.mtls.authz.known")
)

// deriveWithin bounds the derivation for one shape, which takes about a
// millisecond.
const deriveWithin = time.Second

// A Key tells what the decisions about routes of one shape are keyed by, beside
// the policy's digest and the binding with its unexpired grants. It is
// immutable.
type Key struct {
	// Shape is that of the grants; [Shapes] where the key is the whole input.
	Shape Shape
	Paths Paths
	// Clock is the builtin because of which nothing may be remembered, since it
	// does not say the same twice; "": decisions may be remembered.
	Clock string
	// LocalOnly: the policy takes the whole request in hand, so that entries are
	// of little use to other instances.
	LocalOnly bool
	// Narrow is nil, or why the shape could not narrow the key: it then has
	// everything that the policy can read.
	Narrow error
}

// Keys are the keys of one compiled policy: at most one for each shape, made
// when it is first asked for. It is safe for concurrent use.
type Keys struct {
	compiler *ast.Compiler
	checks   found
	// rest is everything that the decision reads but what granted does; all
	// includes that.
	rest, all found
	whole     Key
	derived   [Shapes]func() *Key
}

// Of looks at a compiled policy.
func Of(compiler *ast.Compiler) *Keys {
	k := &Keys{compiler: compiler}
	checks := newWalk(compiler)
	for _, rule := range compiler.GetRulesWithPrefix(site) {
		checks.visit(rule)
	}
	all := newWalk(compiler)
	for _, rule := range compiler.GetRulesWithPrefix(decision) {
		all.visit(rule)
	}
	k.checks, k.all = checks.found, all.found
	k.rest = k.withoutGranted()
	k.whole = Key{Shape: Shapes, Paths: Whole, Clock: k.all.clock, LocalOnly: true}
	for shape := range k.derived {
		k.derived[shape] = sync.OnceValue(func() *Key { return k.derive(Shape(shape)) })
	}
	return k
}

// withoutGranted leaves out the rules of granted where decision itself refers to
// them, and only there: a check may refer to them as well.
func (k *Keys) withoutGranted() found {
	rest := newWalk(k.compiler)
	for _, rule := range k.compiler.GetRulesWithPrefix(decision) {
		rest.visited[rule] = struct{}{}
		ast.WalkTerms(rule, rest.note)
		for next := range k.compiler.Graph.Dependencies(rule) {
			if rule, ok := next.(*ast.Rule); !ok || !rule.Ref().Equal(granted) {
				rest.visit(next)
			}
		}
	}
	return rest.found
}

// Checks are the paths that the operator's checks can read.
func (k *Keys) Checks() Paths { return k.checks.paths }

// Of returns the key for routes with grants of this shape. It is meant for
// callers that have an app, a space and an org; a decision about anybody else
// is keyed by [Keys.Whole].
func (k *Keys) Of(shape Shape) *Key { return k.derived[shape%Shapes]() }

// Whole is the key that has the whole input.
func (k *Keys) Whole() *Key { return &k.whole }

func (k *Keys) derive(shape Shape) *Key {
	reads := k.rest
	narrowed, err := k.narrow(shape)
	if err != nil {
		reads = k.all
	}
	reads.add(narrowed)
	return &Key{Shape: shape, Paths: reads.paths, Clock: k.all.clock, LocalOnly: reads.document, Narrow: err}
}

var unknowns = []*ast.Term{
	ast.MustParseTerm("input.caller"), ast.MustParseTerm("input.request"), ast.MustParseTerm("input.now"),
	ast.MustParseTerm("input.route"), ast.MustParseTerm("input.owner"),
}

// narrow evaluates granted as far as the shape of the grants decides it, and
// walks what remains.
func (k *Keys) narrow(shape Shape) (reads found, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("partial evaluation: panic: %v", v)
		}
	}()
	ctx := context.Background()
	queries, store := k.compiler.QueryCompiler(), inmem.New() // granted reads no data
	query, err := queries.Compile(ast.NewBody(ast.NewExpr(ast.NewTerm(granted))))
	if err != nil {
		return found{}, err
	}
	txn, err := store.NewTransaction(ctx)
	if err != nil {
		return found{}, err
	}
	defer store.Abort(ctx, txn)
	cancel := topdown.NewCancel()
	deadline := time.AfterFunc(deriveWithin, cancel.Cancel)
	defer deadline.Stop()
	residue, support, err := topdown.NewQuery(query).
		WithQueryCompiler(queries).WithCompiler(k.compiler).WithStore(store).WithTransaction(txn).WithCancel(cancel).
		WithInput(ast.MustParseTerm(`{"grants":` + shape.grantsJSON() + `}`)).WithUnknowns(unknowns).
		WithDisableInlining([]ast.Ref{known}).PartialRun(ctx)
	if err != nil {
		return found{}, err
	}
	return k.readsOf(residue, support)
}

// readsOf walks what partial evaluation has left, and the rules that it still
// refers to.
func (k *Keys) readsOf(residue []ast.Body, support []*ast.Module) (found, error) {
	w := newWalk(k.compiler)
	var strange error
	look := func(node any) {
		ast.WalkTerms(node, w.note)
		ast.WalkRefs(node, func(ref ast.Ref) bool {
			switch {
			case !ref.HasPrefix(ast.DefaultRootRef), ref.HasPrefix(known), ref.HasPrefix(ast.MustParseRef("data.partial")):
			case len(ref.ConstantPrefix()) < len(granted):
				strange = errors.New("partial evaluation left a reference that could be to anything: " + ref.String())
			default:
				for _, rule := range k.compiler.GetRulesDynamicWithOpts(ref, ast.RulesOptions{IncludeHiddenModules: true}) {
					w.visit(rule)
				}
			}
			return false
		})
	}
	for _, body := range residue {
		look(body)
	}
	for _, module := range support {
		for _, rule := range module.Rules {
			if !module.Package.Path.Extend(rule.Head.Ref()).Equal(partialKnown) {
				look(rule)
			}
		}
	}
	return w.found, strange
}

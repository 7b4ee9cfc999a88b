package explain

import (
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// frame is one evaluation of a body: of a rule, or of what stands in a negation
// or a comprehension.
type frame struct {
	// rule is nil where the body is not that of a rule.
	rule *ast.Rule
	// current is the expression being evaluated, by its index in the body.
	current int
	// held: the body held at least once.
	held bool
	// failed is the furthest expression that failed, -1 if none; locals are the
	// variables then, named by names.
	failed int
	locals *ast.ValueMap
	names  map[ast.Var]topdown.VarMetadata
	// below are the bodies that expressions led to, by their index.
	below map[int][]*frame
}

// tracer keeps, of everything that happens, where rules come to their end.
type tracer struct {
	frames map[uint64]*frame
	// rules in the order in which they were entered.
	rules []*frame
}

func newTracer() *tracer { return &tracer{frames: map[uint64]*frame{}} }

// Enabled is true.
func (*tracer) Enabled() bool { return true }

// Config asks for the values of variables.
func (*tracer) Config() topdown.TraceConfig { return topdown.TraceConfig{PlugLocalVars: true} }

// maxFrames bounds what is kept of a policy that goes through long lists.
const maxFrames = 10_000

// TraceEvent takes one step.
func (t *tracer) TraceEvent(event topdown.Event) {
	f := t.frames[event.QueryID]
	switch event.Op {
	case topdown.EnterOp:
		t.enter(event)
		return
	case topdown.EvalOp, topdown.RedoOp, topdown.FailOp, topdown.ExitOp:
	default:
		return
	}
	if f == nil {
		return
	}
	if event.Op == topdown.ExitOp {
		f.held = true
		return
	}
	expr, ok := event.Node.(*ast.Expr)
	if !ok {
		return
	}
	f.current = expr.Index
	if event.Op == topdown.FailOp && expr.Index >= f.failed {
		f.failed, f.locals, f.names = expr.Index, event.Locals, event.LocalMetadata
	}
}

func (t *tracer) enter(event topdown.Event) {
	if len(t.frames) >= maxFrames {
		return
	}
	f := &frame{failed: -1, below: map[int][]*frame{}}
	f.rule, _ = event.Node.(*ast.Rule)
	t.frames[event.QueryID] = f
	if f.rule != nil {
		t.rules = append(t.rules, f)
	}
	if parent := t.frames[event.ParentID]; parent != nil && parent != f {
		parent.below[parent.current] = append(parent.below[parent.current], f)
	}
}

// rulesBelow are the rules that an expression asked for.
func (f *frame) rulesBelow(index int) []*frame {
	var found []*frame
	for _, below := range f.below[index] {
		if below.rule != nil {
			found = append(found, below)
			continue
		}
		for i := range below.below {
			found = append(found, below.rulesBelow(i)...)
		}
	}
	return found
}

package rego

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/dependencies"
	oparego "github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/mtls-authz/mtls-authz/grants"
)

const (
	// query is the one document that decides.
	query = "data.mtls.authz.decision"
	// DefaultTimeout is how long one evaluation may take.
	DefaultTimeout = 50 * time.Millisecond
	// maxRememberedGrants bounds the grants kept in OPA's form, counted over
	// all routes; one takes about 500 bytes.
	maxRememberedGrants = 200_000
)

// Config configures [Compile].
type Config struct {
	// Bundle is the operator's bundle, a directory or a .tar.gz file; "": the
	// built-in policy alone.
	Bundle string
	// Timeout bounds one evaluation; 0 means DefaultTimeout.
	Timeout time.Duration
	// Zone is the time zone of input.now; nil means UTC.
	Zone *time.Location
}

// A Policy is a compiled policy: the built-in bundle and the operator's. It is
// immutable and safe for concurrent use.
type Policy struct {
	prepared oparego.PreparedEvalQuery
	timeout  time.Duration
	zone     *time.Location
	routes   *otter.Cache[*grants.Live, *routeInput]
	site     *grants.Site
	digest   [32]byte
	reads    Reads
}

// Reads tells which parts of a request the operator's checks can read. Where a
// part decides, it must be unambiguous.
type Reads struct{ Method, Path, Now bool }

// Compile reads, checks, tests and compiles the built-in bundle and the
// operator's. Errors about the operator's bundle are [ErrBundle] and name file
// and line.
func Compile(ctx context.Context, cfg Config) (*Policy, error) {
	s, err := readSources(cfg.Bundle)
	if err != nil {
		return nil, err
	}
	compiler, err := s.compile()
	if err != nil {
		return nil, err
	}
	if err := s.runTests(ctx); err != nil {
		return nil, err
	}
	p := &Policy{timeout: cfg.Timeout, zone: cfg.Zone, site: s.site, digest: s.digest}
	if p.timeout == 0 {
		p.timeout = DefaultTimeout
	}
	if p.zone == nil {
		p.zone = time.UTC
	}
	if p.reads, err = readsOf(compiler); err != nil {
		return nil, err
	}
	p.prepared, err = oparego.New(
		oparego.Query(query), oparego.Compiler(compiler), oparego.Store(s.store()), oparego.StrictBuiltinErrors(true),
	).PrepareForEval(ctx)
	if err != nil {
		return nil, fmt.Errorf("prepare %s: %w", query, err)
	}
	p.routes, err = otter.New(&otter.Options[*grants.Live, *routeInput]{
		MaximumWeight: maxRememberedGrants,
		Weigher:       func(live *grants.Live, _ *routeInput) uint32 { return uint32(len(live.Rules)) + 4 },
	})
	return p, err
}

func (s *sources) store() storage.Store { return inmem.NewFromObject(s.data) }

// compile compiles everything but the tests.
func (s *sources) compile() (*ast.Compiler, error) {
	compiler := newCompiler()
	compiler.Compile(s.modules)
	if compiler.Failed() {
		return nil, fmt.Errorf("%w: %w", ErrBundle, compiler.Errors)
	}
	return compiler, s.refuseMissingData(compiler)
}

func newCompiler() *ast.Compiler {
	return ast.NewCompiler().WithCapabilities(capabilities()).WithStrict(true).WithDefaultRegoVersion(ast.RegoV1)
}

// refuseMissingData refuses a data path that is read but neither data nor a
// rule of the bundle: under negation its absence would allow.
func (s *sources) refuseMissingData(compiler *ast.Compiler) error {
	for _, module := range compiler.Modules {
		var missing *ast.Term
		ast.WalkTerms(module, func(term *ast.Term) bool {
			ref, ok := term.Value.(ast.Ref)
			if ok && missing == nil && ref.HasPrefix(ast.DefaultRootRef) && !s.knows(compiler, ref.ConstantPrefix()) {
				missing = term
			}
			return false
		})
		if missing != nil {
			return fmt.Errorf("%w: %s: %s is read but is neither in the bundle's data nor a rule", ErrBundle, missing.Location, missing)
		}
	}
	return nil
}

func (s *sources) knows(compiler *ast.Compiler, ref ast.Ref) bool {
	if len(compiler.GetRulesForVirtualDocument(ref)) > 0 || len(compiler.GetRulesWithPrefix(ref)) > 0 {
		return true
	}
	var at any = s.data
	for _, term := range ref[1:] {
		object, ok := at.(map[string]any)
		if !ok {
			return at != nil // an index into a list: absent elements are the policy's business
		}
		name, ok := term.Value.(ast.String)
		if !ok {
			return false
		}
		if at, ok = object[string(name)]; !ok {
			return false
		}
	}
	return true
}

// readsOf asks OPA which input paths the operator's checks depend on. It
// over-approximates: a check that reads the whole request reads its path.
func readsOf(compiler *ast.Compiler) (Reads, error) {
	refs, err := dependencies.Base(compiler, ast.MustParseBody("x = data.mtls.site"))
	if err != nil {
		return Reads{}, fmt.Errorf("dependencies of the checks: %w", err)
	}
	read := func(path string) bool {
		want := ast.MustParseRef(path)
		for _, ref := range refs {
			if ref.HasPrefix(want) || want.HasPrefix(ref) {
				return true
			}
		}
		return false
	}
	return Reads{
		Method: read("input.request.method"),
		Path:   read("input.request.path") || read("input.request.segments"),
		Now:    read("input.now"),
	}, nil
}

// Site are the operator's grants.
func (p *Policy) Site() *grants.Site { return p.site }

// Reads tells what the operator's checks can read.
func (p *Policy) Reads() Reads { return p.reads }

// Digest is the SHA-256 of the content of built-in bundle and operator's.
func (p *Policy) Digest() [32]byte { return p.digest }

// Revision names the policy in logs: the first 16 bytes of the digest in
// hexadecimal.
func (p *Policy) Revision() string { return hex.EncodeToString(p.digest[:16]) }

// Zone is the time zone of input.now.
func (p *Policy) Zone() *time.Location { return p.zone }

// Decide evaluates the policy for one request. Every error is an [ErrPolicy]
// and means deny. What the policy allows is not allowed yet: see [Confirm].
func (p *Policy) Decide(ctx context.Context, r *Request) (decision Decision, err error) {
	defer func() {
		// A builtin that panics must cost one request, not the gateway.
		if v := recover(); v != nil {
			decision, err = Decision{}, fmt.Errorf("%w: panic: %v", ErrPolicy, v)
		}
	}()
	route, err := p.routes.Get(ctx, r.Live, otter.LoaderFunc[*grants.Live, *routeInput](
		func(_ context.Context, live *grants.Live) (*routeInput, error) { return newRouteInput(live), nil }))
	if err != nil {
		return Decision{}, fmt.Errorf("%w: %w", ErrPolicy, err)
	}
	cancel := topdown.NewCancel()
	deadline := time.AfterFunc(p.timeout, cancel.Cancel)
	defer deadline.Stop()
	results, err := p.prepared.Eval(ctx, oparego.EvalParsedInput(r.input(route, p.zone)), oparego.EvalExternalCancel(cancel))
	if err != nil {
		return Decision{}, errors.Join(ErrPolicy, err)
	}
	return decisionOf(results)
}

// Confirm is Go's word after the policy's, whether it was evaluated or
// remembered: an allow stands only if an unexpired grant really matches, and
// that grant names it. Neither a policy nor a cache entry can widen.
func Confirm(d Decision, r *Request) Decision {
	if !d.Allow {
		return d
	}
	rule, ok := r.Live.Match(r.Caller, r.Method, r.Segments)
	if !ok {
		return Decision{Policy: "route:" + ReasonNoMatchingGrant, Reason: ReasonNoMatchingGrant}
	}
	d.Policy = rule.Policy()
	return d
}

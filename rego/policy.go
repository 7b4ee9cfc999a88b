package rego

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/rego/bundle"
	"github.com/mtls-authz/mtls-authz/rego/gate"
	"github.com/mtls-authz/mtls-authz/rego/reads"
)

const (
	// query is the one document that decides.
	query = "decision = data.mtls.authz.decision"
	// DefaultTimeout is how long one evaluation may take.
	DefaultTimeout = 50 * time.Millisecond
	// maxRememberedGrants bounds the grants kept in OPA's form, counted over
	// all routes; one takes about 500 bytes.
	maxRememberedGrants = 200_000
)

// ErrBundle: the operator's bundle cannot be activated. The text names the
// file and the line where there is one.
var ErrBundle = bundle.ErrRefused

// Config configures [Compile].
type Config struct {
	// Bundle is the operator's bundle, a directory or a .tar.gz file; "": the
	// built-in policy alone.
	Bundle string
	// Key verifies the bundle; nil: it need not be signed.
	Key *bundle.Key
	// Timeout bounds one evaluation; 0 means DefaultTimeout.
	Timeout time.Duration
	// Zone is the time zone of input.now; nil means UTC.
	Zone *time.Location
}

// A Policy is a compiled policy: the built-in bundle and the operator's. It is
// immutable and safe for concurrent use.
type Policy struct {
	compiler *ast.Compiler
	query    ast.Body
	queries  ast.QueryCompiler
	store    storage.Store
	// txn is never ended: nothing writes to the store.
	txn     storage.Transaction
	timeout time.Duration
	zone    *time.Location
	routes  *otter.Cache[*grants.Live, *routeInput]
	site    *grants.Site
	digest  [32]byte
	keys    *reads.Keys
	checks  []string
}

// Compile reads, checks, tests and compiles the built-in bundle and the
// operator's. Errors about the operator's bundle are [ErrBundle] and name file
// and line.
func Compile(ctx context.Context, cfg Config) (*Policy, error) {
	if cfg.Bundle == "" {
		compiled, err := gate.Compile(ctx, bundle.None())
		if err != nil {
			return nil, err
		}
		return Untested(ctx, compiled, cfg)
	}
	archive, err := bundle.ReadArchive(cfg.Bundle)
	if err != nil {
		return nil, err
	}
	b, err := bundle.Read(archive, cfg.Key)
	if err != nil {
		return nil, err
	}
	return CompileBundle(ctx, b, cfg)
}

// gateTimeout bounds all steps together that a bundle takes before it is
// activated.
const gateTimeout = 30 * time.Second

// CompileBundle is [Compile] of a bundle that was read; cfg.Bundle and cfg.Key
// are not used.
func CompileBundle(ctx context.Context, b *bundle.Bundle, cfg Config) (*Policy, error) {
	p, _, err := Examine(ctx, b, cfg)
	return p, err
}

// Examine is [CompileBundle], and says what the gate has seen too.
func Examine(ctx context.Context, b *bundle.Bundle, cfg Config) (*Policy, *gate.Compiled, error) {
	ctx, cancel := context.WithTimeout(ctx, gateTimeout)
	defer cancel()
	compiled, err := gate.Pass(ctx, b)
	if err != nil {
		return nil, nil, err
	}
	p, err := Untested(ctx, compiled, cfg)
	if err != nil {
		return nil, nil, err
	}
	if err := p.guard(ctx, compiled); err != nil {
		return nil, nil, err
	}
	return p, compiled, nil
}

// Untested is the policy of a bundle that compiles, whatever its tests say and
// without the guard cases: for its author, never to be in force.
func Untested(ctx context.Context, compiled *gate.Compiled, cfg Config) (_ *Policy, err error) {
	p := &Policy{
		compiler: compiled.Compiler, queries: compiled.Compiler.QueryCompiler(),
		store:   inmem.NewFromObjectWithOpts(compiled.Bundle.Data, inmem.OptReturnASTValuesOnRead(true)),
		timeout: cfg.Timeout, zone: cfg.Zone, site: compiled.Bundle.Site, digest: compiled.Digest, checks: compiled.Checks,
		keys: reads.Of(compiled.Compiler),
	}
	if p.timeout == 0 {
		p.timeout = DefaultTimeout
	}
	if p.zone == nil {
		p.zone = time.UTC
	}
	if p.query, err = p.queries.Compile(ast.MustParseBody(query)); err != nil {
		return nil, fmt.Errorf("compile %s: %w", query, err)
	}
	if p.txn, err = p.store.NewTransaction(ctx); err != nil {
		return nil, err
	}
	p.routes, err = otter.New(&otter.Options[*grants.Live, *routeInput]{
		MaximumWeight: maxRememberedGrants,
		Weigher:       func(live *grants.Live, _ *routeInput) uint32 { return uint32(len(live.Rules)) + 4 },
	})
	return p, err
}

// Site are the operator's grants.
func (p *Policy) Site() *grants.Site { return p.site }

// Reads tells what the operator's checks can read.
func (p *Policy) Reads() Reads { return readsOf(p.keys) }

// Checks are the names of the operator's checks, sorted.
func (p *Policy) Checks() []string { return slices.Clone(p.checks) }

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
	// Making the route's input needs no context; one that has ended, because its
	// client left, would fail the requests that wait for the same route.
	route, err := p.routes.Get(context.Background(), r.Live, otter.LoaderFunc[*grants.Live, *routeInput](
		func(_ context.Context, live *grants.Live) (*routeInput, error) { return newRouteInput(live), nil }))
	if err != nil {
		return Decision{}, fmt.Errorf("%w: %w", ErrPolicy, err)
	}
	var results []ast.Value
	if err := p.evaluate(ctx, p.query, r.input(route, p.zone), func(v ast.Value) { results = append(results, v) }); err != nil {
		return Decision{}, errors.Join(ErrPolicy, err)
	}
	return decisionOf(results)
}

// evaluate gives each decision of the query to found. Results count only if no
// error follows them.
func (p *Policy) evaluate(ctx context.Context, query ast.Body, input *ast.Term, found func(ast.Value)) error {
	cancel := topdown.NewCancel()
	deadline := time.AfterFunc(p.timeout, cancel.Cancel)
	defer deadline.Stop()
	return p.newQuery(query, input).WithCancel(cancel).
		Iter(ctx, func(result topdown.QueryResult) error {
			if term := result["decision"]; term != nil {
				found(term.Value)
			}
			return nil
		})
}

func (p *Policy) newQuery(query ast.Body, input *ast.Term) *topdown.Query {
	return topdown.NewQuery(query).
		WithQueryCompiler(p.queries).WithCompiler(p.compiler).WithStore(p.store).WithTransaction(p.txn).
		WithInput(input).WithStrictBuiltinErrors(true).WithMetrics(metrics.NoOp())
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
		return Decision{Policy: "route:" + ReasonNoMatchingGrant, Reason: ReasonNoMatchingGrant, Cache: d.Cache}
	}
	d.Policy = rule.Policy()
	return d
}

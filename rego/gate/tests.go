package gate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/tester"

	"github.com/mtls-authz/mtls-authz/rego/bundle"
)

// Outcome is how a test ended.
type Outcome string

// The outcomes. Skipped is a test named todo_test_….
const (
	Passed  Outcome = "pass"
	Failed  Outcome = "fail"
	Errored Outcome = "error"
	Skipped Outcome = "skip"
)

// A TestResult is what one test of the bundle said.
type TestResult struct {
	// Package and Name are as in data.site.check.one_test and test_it.
	Package, Name string
	File          string
	Line          int
	Outcome       Outcome
	Duration      time.Duration
	// Message is the error of an Errored one; Output is what the test printed.
	Message, Output string
}

// TestConfig configures [Compiled.Test]. The zero value runs all tests.
type TestConfig struct {
	// Run is a regular expression that names the tests to run; "": all.
	Run string
	// Coverage asks for the lines that the tests reach.
	Coverage bool
}

// A TestReport is what a bundle's tests said, sorted by place.
type TestReport struct {
	Results []TestResult
	// Coverage is of the operator's files alone, by name within the bundle; nil
	// if it was not asked for.
	Coverage map[string]*cover.FileReport
}

// Refusal returns what failed, or nil.
func (r *TestReport) Refusal() error {
	var refusals []*bundle.Refusal
	for _, result := range r.Results {
		at := &ast.Location{File: result.File, Row: result.Line}
		switch result.Outcome {
		case Passed, Skipped:
		case Failed:
			refusals = append(refusals, bundle.Refuse(bundle.StepTests, at, "test %s.%s fails", result.Package, result.Name))
		case Errored:
			refusals = append(refusals, bundle.Refuse(bundle.StepTests, at, "test %s.%s: %s", result.Package, result.Name, result.Message))
		}
	}
	return bundle.Join(refusals...)
}

// testTimeout bounds each test of the operator's bundle.
const testTimeout = 5 * time.Second

// Test runs the bundle's tests, in whatever file they are, until ctx ends. The
// error is about tests that do not compile or did not all run; a test that
// fails is in the report.
func (c *Compiled) Test(ctx context.Context, cfg TestConfig) (*TestReport, error) {
	modules := copies(c.sources.modules)
	maps.Copy(modules, copies(c.sources.tests))
	store := inmem.NewFromObject(c.sources.data)
	txn, err := store.NewTransaction(ctx, storage.TransactionParams{})
	if err != nil {
		return nil, bundle.RefusalOf(bundle.StepTests, err)
	}
	defer store.Abort(ctx, txn)
	runner := tester.NewRunner().SetCompiler(c.sources.newCompiler().WithEnablePrintStatements(true)).SetStore(store).SetModules(modules).
		SetTimeout(testTimeout).RaiseBuiltinErrors(true).CapturePrintOutput(true).SetParallel(1).Filter(cfg.Run)
	var coverage *cover.Cover
	if cfg.Coverage {
		coverage = cover.New()
		runner = runner.SetCoverageQueryTracer(coverage)
	}
	results, err := runner.RunTests(ctx, txn)
	if err != nil {
		return nil, refusalOfTests(err)
	}
	report := &TestReport{}
	for result := range results {
		report.Results = append(report.Results, resultOf(result))
	}
	if ctx.Err() != nil { // some tests may not have run
		return nil, bundle.Refuse(bundle.StepTime, nil, "the tests were stopped: %v", context.Cause(ctx))
	}
	slices.SortFunc(report.Results, func(a, b TestResult) int {
		return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), strings.Compare(a.Name, b.Name))
	})
	if coverage != nil {
		report.Coverage = c.coverage(coverage)
	}
	return report, nil
}

func refusalOfTests(err error) error {
	if errs, ok := errors.AsType[ast.Errors](err); ok {
		return refusalOfCompiler(errs)
	}
	return bundle.RefusalOf(bundle.StepTests, err)
}

func resultOf(result *tester.Result) TestResult {
	r := TestResult{
		Package: result.Package, Name: result.Name, Outcome: Passed, Duration: result.Duration, Output: string(result.Output),
	}
	if result.Location != nil {
		r.File, r.Line = strings.TrimPrefix(result.Location.File, "./"), result.Location.Row
	}
	switch {
	case result.Error != nil:
		r.Outcome, r.Message = Errored, fmt.Sprint(result.Error)
	case result.Fail:
		r.Outcome = Failed
	case result.Skip:
		r.Outcome = Skipped
	}
	return r
}

// coverage keeps the operator's files that decide. OPA knows what was covered by
// the file in the location, and the rest by the name of the module.
func (c *Compiled) coverage(reached *cover.Cover) map[string]*cover.FileReport {
	modules := map[string]*ast.Module{}
	for _, module := range c.Bundle.Modules {
		modules[module.Package.Location.File] = module
	}
	report, files := reached.Report(modules), map[string]*cover.FileReport{}
	for key, module := range c.Bundle.Modules {
		files[strings.TrimPrefix(key, bundle.Prefix+"/")] = report.Files[module.Package.Location.File]
	}
	return files
}

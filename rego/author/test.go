package author

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/cover"

	"github.com/mtls-authz/mtls-authz/rego/author/page"
	"github.com/mtls-authz/mtls-authz/rego/author/summary"
	"github.com/mtls-authz/mtls-authz/rego/bundle"
	"github.com/mtls-authz/mtls-authz/rego/gate"
)

// TestConfig configures [Test].
type TestConfig struct {
	Place
	// Run is a regular expression that names the tests to run; "": all.
	Run string
	// Coverage writes which lines no test reaches; MinCoverage is the share of
	// lines, in percent, that tests must reach, 0: any.
	Coverage    bool
	MinCoverage float64
	// Verbose names each test, and how long it took.
	Verbose, JSON bool
}

// What is wrong with tests.
var (
	ErrTestsFail = errors.New("tests fail")
	ErrNoTests   = errors.New("no test ran")
	ErrCoverage  = errors.New("the tests reach too few lines")
)

// Test runs the tests of a bundle. A failing test is an [ErrTestsFail]. That no
// test ran is an [ErrNoTests], unless the bundle has nothing but data: a CI job
// whose tests have got lost must not stay green.
func Test(ctx context.Context, w io.Writer, cfg TestConfig) error {
	if _, err := regexp.Compile(cfg.Run); err != nil {
		return fmt.Errorf("--run %q: expected a regular expression: %w", cfg.Run, err)
	}
	if cfg.MinCoverage < 0 || cfg.MinCoverage > 100 {
		return fmt.Errorf("--min-coverage %g: expected a percentage from 0 to 100", cfg.MinCoverage)
	}
	b, err := cfg.read()
	if err != nil {
		return cfg.findings(w, cfg.JSON, err)
	}
	compiled, err := gate.Compile(ctx, b)
	if err != nil {
		return cfg.findings(w, cfg.JSON, err)
	}
	report, err := compiled.Test(ctx, gate.TestConfig{Run: cfg.Run, Coverage: cfg.Coverage || cfg.MinCoverage > 0})
	if err != nil {
		return cfg.findings(w, cfg.JSON, err)
	}
	verdict := cfg.judge(b, report)
	if cfg.JSON {
		err = page.JSON(w, cfg.document(report, verdict == nil))
	} else {
		err = cfg.write(w, report)
	}
	if err != nil {
		return err
	}
	return verdict
}

func (cfg TestConfig) judge(b *bundle.Bundle, report *gate.TestReport) error {
	counts := summary.CountTests(report)
	covered := totalCoverage(report)
	switch {
	case counts.Failed > 0:
		return fmt.Errorf("%s: %w: %s", cfg.Location, ErrTestsFail, counts)
	case len(report.Results) == 0 && cfg.Run != "":
		return fmt.Errorf("%s: %w: none has a name that matches --run %q", cfg.Location, ErrNoTests, cfg.Run)
	case len(report.Results) == 0 && len(b.Modules) > 0:
		return fmt.Errorf("%s: %w: write rules test_… into files *_test.rego", cfg.Location, ErrNoTests)
	case covered < cfg.MinCoverage:
		return fmt.Errorf("%s: %w: %.1f %%; --min-coverage is %g", cfg.Location, ErrCoverage, covered, cfg.MinCoverage)
	}
	return nil
}

// totalCoverage is in percent; 100 if there is nothing to cover.
func totalCoverage(report *gate.TestReport) float64 {
	covered, missed := 0, 0
	for _, file := range report.Coverage {
		covered, missed = covered+file.CoveredLines, missed+file.NotCoveredLines
	}
	if covered+missed == 0 {
		return 100
	}
	return 100 * float64(covered) / float64(covered+missed)
}

func (cfg TestConfig) write(w io.Writer, report *gate.TestReport) error {
	p := page.New(w)
	for _, result := range report.Results {
		failed := result.Outcome == gate.Failed || result.Outcome == gate.Errored
		if !failed && !cfg.Verbose {
			continue
		}
		p.Printf("%-5s %s:%d: %s.%s", strings.ToUpper(string(result.Outcome)), cfg.file(result.File), result.Line, result.Package, result.Name)
		if cfg.Verbose {
			p.Printf(" (%s)", result.Duration)
		}
		p.Printf("\n")
		for line := range strings.Lines(result.Message + "\n" + result.Output) {
			if strings.TrimSpace(line) != "" {
				p.Printf("      %s\n", strings.TrimRight(line, "\n"))
			}
		}
	}
	p.Printf("%s: %s\n", cfg.Location, summary.CountTests(report))
	if report.Coverage != nil {
		cfg.writeCoverage(p, report)
	}
	return p.Err()
}

func (cfg TestConfig) writeCoverage(p *page.Page, report *gate.TestReport) {
	rows := [][]string{{"COVERED", "FILE", "NO TEST REACHES LINES"}}
	for _, name := range slices.Sorted(maps.Keys(report.Coverage)) {
		file := report.Coverage[name]
		share := 100.0
		if total := file.CoveredLines + file.NotCoveredLines; total > 0 {
			share = 100 * float64(file.CoveredLines) / float64(total)
		}
		rows = append(rows, []string{fmt.Sprintf("%.1f %%", share), cfg.file(name), strings.Join(missedLines(report, name), ", ")})
	}
	p.Printf("\n")
	p.Table(append(rows, []string{fmt.Sprintf("%.1f %%", totalCoverage(report)), "all", ""}))
}

// missedLines are lines and ranges of lines, as in 3, 5-7.
func missedLines(report *gate.TestReport, name string) []string {
	ranges := slices.Clone(report.Coverage[name].NotCovered)
	slices.SortFunc(ranges, func(a, b cover.Range) int {
		return cmp.Or(cmp.Compare(a.Start.Row, b.Start.Row), cmp.Compare(b.End.Row, a.End.Row))
	})
	texts, last := []string{}, 0
	for _, r := range ranges {
		if r.End.Row <= last {
			continue
		}
		last = r.End.Row
		if r.Start.Row == r.End.Row {
			texts = append(texts, strconv.Itoa(r.Start.Row))
		} else {
			texts = append(texts, fmt.Sprintf("%d-%d", r.Start.Row, r.End.Row))
		}
	}
	return texts
}

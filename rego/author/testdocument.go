package author

import (
	"time"

	"github.com/mtls-authz/mtls-authz/rego/author/summary"
	"github.com/mtls-authz/mtls-authz/rego/gate"
)

// testDocument is what JSON says of tests.
type testDocument struct {
	OK bool `json:"ok"`
	summary.Counts
	Tests []testLine `json:"tests"`
	// Coverage is in percent, Missed the lines that no test reaches, by file.
	Coverage *float64            `json:"coverage,omitempty"`
	Missed   map[string][]string `json:"not_covered,omitempty"`
}

type testLine struct {
	Package string       `json:"package"`
	Name    string       `json:"name"`
	File    string       `json:"file"`
	Line    int          `json:"line"`
	Outcome gate.Outcome `json:"outcome"`
	Message string       `json:"message,omitempty"`
	Output  string       `json:"output,omitempty"`
	// Milliseconds only if Verbose asks for it, so that equal runs are equal.
	Milliseconds float64 `json:"duration_ms,omitempty"`
}

func (cfg TestConfig) document(report *gate.TestReport, ok bool) testDocument {
	d := testDocument{Counts: summary.CountTests(report), Tests: []testLine{}, OK: ok}
	for _, r := range report.Results {
		line := testLine{Package: r.Package, Name: r.Name, File: r.File, Line: r.Line, Outcome: r.Outcome, Message: r.Message, Output: r.Output}
		if cfg.Verbose {
			line.Milliseconds = float64(r.Duration) / float64(time.Millisecond)
		}
		d.Tests = append(d.Tests, line)
	}
	if report.Coverage == nil {
		return d
	}
	total := totalCoverage(report)
	d.Coverage, d.Missed = &total, map[string][]string{}
	for name := range report.Coverage {
		d.Missed[name] = missedLines(report, name)
	}
	return d
}

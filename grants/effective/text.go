package effective

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/display"
)

// maxCallersShown bounds the callers and the refusals in a text.
const maxCallersShown = 20

// Text writes a table for people. Nothing in it can be a command to a terminal.
func (a Access) Text(w io.Writer) error {
	t := &table{Writer: tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	t.row("route", a.Route)
	t.row("scope", a.Scope.words())
	t.row("owner", "space "+a.Space+", organization "+a.Org+display.Beside(a.Owner))
	t.row("binding", a.Binding+" of service instance "+a.Instance)
	t.row("mode", a.Mode)
	t.row("policy", a.Policy+a.checks())
	t.row("last used", when(a.LastUsed))
	t.row()
	t.row("WHO MAY CALL", "CONDITIONS", "ORIGIN", "EXPIRES", "LAST ALLOWED")
	for _, g := range a.Grants {
		t.row(g.Who(), g.conditions(), g.Origin, g.ends(), when(g.LastAllowed))
	}
	if len(a.Grants) == 0 {
		t.row("nobody")
	}
	if left := a.GrantsTotal - len(a.Grants); left > 0 {
		t.row(fmt.Sprintf("and %d more", left))
	}
	if len(a.Callers) > 0 {
		t.row()
		t.row("LAST CALLERS", "OUTCOME", "TIMES", "LAST", "SPACE", "ORGANIZATION")
		for _, c := range a.Callers[:min(len(a.Callers), maxCallersShown)] {
			t.row(c.Who(), c.Outcome, fmt.Sprint(c.Count), when(&c.Last), c.Space, c.Org)
		}
	}
	if len(a.Denials) > 0 {
		t.row()
		t.row("LAST REFUSALS", "REQUEST", "OUTCOME", "REASON", "TIMES", "LAST", "DECISION")
		for _, c := range a.Denials[:min(len(a.Denials), maxCallersShown)] {
			t.row(c.Who(), c.Method+" "+c.Path, c.Outcome, c.Reason, fmt.Sprint(c.Count), when(&c.Last), c.DecisionID)
		}
	}
	for i, warning := range a.Warnings {
		if i == 0 {
			t.row()
			t.row("WARNINGS")
		}
		t.line("- " + display.Printable(warning))
	}
	return t.end()
}

func (s Scope) words() string {
	if s.Scope == "" {
		return "none: nobody"
	}
	if s.From == "plan" {
		return s.Scope + " (plan " + s.Plan + ")"
	}
	return s.Scope + " (from the " + s.From + "; plan " + s.Plan + ")"
}

func (a Access) checks() string {
	if len(a.Checks) == 0 {
		return ", no checks"
	}
	return ", checks: " + strings.Join(a.Checks, ", ")
}

// written is the source as its owner wrote it, with whom it stands for.
func (g Grant) written() string {
	written := g.Grant.Source.String()
	if written == g.Source {
		return g.Source
	}
	return written + " = " + g.Source
}

// Who is the source with its name.
func (g Grant) Who() string { return g.written() + display.Beside(g.Name) }

// who names a grant in a sentence.
func (g Grant) who() string { return g.written() + " (" + g.Origin + ")" }

func (g Grant) conditions() string { return conditions(g.Grant.Terms) }

func conditions(terms *grants.Terms) string {
	if terms == nil {
		return "-"
	}
	parts := append([]string{}, strings.Join(terms.Methods, ","))
	for _, path := range terms.Paths {
		parts = append(parts, string(path))
	}
	for _, bound := range terms.Routes {
		parts = append(parts, bound.String())
	}
	if text := strings.Join(strings.Fields(strings.Join(parts, " ")), " "); text != "" {
		return text
	}
	return "-"
}

func (g Grant) ends() string {
	switch {
	case g.Never != nil:
		return "never matches"
	case g.Expired:
		return "expired " + when(g.Expires)
	case g.Expires != nil:
		return when(g.Expires)
	}
	return "-"
}

// Who names the caller.
func (c Caller) Who() string {
	if c.App == "" {
		return "(not verified)"
	}
	return "cf:app:" + c.App + display.Beside(c.Name)
}

func when(at *time.Time) string {
	if at == nil {
		return "-"
	}
	return at.UTC().Format(time.RFC3339)
}

// table aligns columns and keeps the first error.
type table struct {
	*tabwriter.Writer
	err error
}

func (t *table) row(cells ...string) {
	for i, cell := range cells {
		cells[i] = display.Printable(cmp.Or(cell, "-"))
	}
	t.line(strings.Join(cells, "\t"))
}

func (t *table) line(text string) {
	if _, err := io.WriteString(t, text+"\n"); t.err == nil {
		t.err = err
	}
}

func (t *table) end() error {
	if err := t.Flush(); t.err == nil {
		t.err = err
	}
	return t.err
}

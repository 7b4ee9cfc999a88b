package author

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode"
)

// page writes what people read, as plain text, and keeps the first error.
type page struct {
	w   io.Writer
	err error
}

func (p *page) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = io.WriteString(p.w, strings.Map(plain, fmt.Sprintf(format, args...)))
	}
}

// plain keeps what a bundle or a client chose from steering a terminal.
func plain(r rune) rune {
	if unicode.IsPrint(r) || r == '\n' || r == '\t' {
		return r
	}
	return unicode.ReplacementChar
}

// table writes rows with aligned columns, each row indented.
func (p *page) table(rows [][]string) {
	if p.err != nil {
		return
	}
	var text strings.Builder
	tabs := tabwriter.NewWriter(&text, 0, 0, 3, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(tabs, "  "+strings.Join(row, "\t"))
	}
	if p.err = tabs.Flush(); p.err != nil {
		return
	}
	for line := range strings.Lines(text.String()) {
		p.printf("%s\n", strings.TrimRight(line, " \n"))
	}
}

func (s *summary) write(w io.Writer, location string) error {
	p := &page{w: w}
	p.printf("%s: the gateway would activate this bundle\n\npolicy_revision   %s\n", location, s.Revision)
	if s.BundleRevision != "" {
		p.printf("bundle revision   %s\n", s.BundleRevision)
	}
	if s.Signed != "" {
		p.printf("signature         verified, %s\n", s.Signed)
	}
	p.printf("tests             %s\n", s.Tests)
	p.printf("\nchecks: %d\n", len(s.Checks))
	for _, check := range s.Checks {
		p.printf("  %s%s\n", check.Name, prefixed(": ", check.Title))
		p.printf("      reads %s\n", orNothing(check.Reads))
	}
	p.printf("\noperator's grants: %d\n", len(s.Grants))
	for _, grant := range s.Grants {
		p.printf("  %s\n", grant)
	}
	p.printf("\na decision is remembered for equal requests to one route, which are told apart by\n")
	rows := [][]string{{"GRANTS OF THE ROUTE", "WHAT TELLS REQUESTS APART"}}
	for _, r := range s.Remembered {
		rows = append(rows, []string{r.Grants, r.String()})
	}
	p.table(rows)
	if s.Path {
		p.printf("\nthe checks read the path: requests with an ambiguous one (//, ;, %%2f) get 400 on every route\n")
	}
	if s.Path || s.Method {
		p.printf("\nthe checks read the path or the method: requests with a method-override header get 400 on every route\n")
	}
	return p.err
}

// String is what tells requests apart, and what limits remembering.
func (r rememberedFor) String() string {
	if r.Never != "" {
		return "never remembered: " + r.Never + " does not say the same twice"
	}
	text := orNothing(r.By)
	if r.Minute {
		text += "; until the minute ends"
	}
	if r.Local {
		text += "; not shared between instances"
	}
	return text
}

func orNothing(list []string) string {
	if len(list) == 0 {
		return "nothing"
	}
	return strings.Join(list, ", ")
}

func prefixed(prefix, text string) string {
	if text == "" {
		return ""
	}
	return prefix + text
}

// Package page writes what people read: plain text, in columns where that helps,
// and JSON for their tools. It trusts no text: bundles and clients chose much of it,
// and none of it can steer a terminal.
package page

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode"
)

// A Page writes what people read, as plain text, and keeps the first error.
type Page struct {
	w   io.Writer
	err error
}

// New returns a page that is written to w.
func New(w io.Writer) *Page { return &Page{w: w} }

// Err is the first error of writing.
func (p *Page) Err() error { return p.err }

// Printf writes text; what steers a terminal is replaced.
func (p *Page) Printf(format string, args ...any) {
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

// Table writes rows with aligned columns, each row indented.
func (p *Page) Table(rows [][]string) {
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
		p.Printf("%s\n", strings.TrimRight(line, " \n"))
	}
}

// OrNothing is the list in one line, or the word nothing.
func OrNothing(list []string) string {
	if len(list) == 0 {
		return "nothing"
	}
	return strings.Join(list, ", ")
}

// Prefixed is the text after the prefix, or nothing if there is no text.
func Prefixed(prefix, text string) string {
	if text == "" {
		return ""
	}
	return prefix + text
}

// Count is as in "1 finding" or "2 findings".
func Count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// JSON writes one document.
func JSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

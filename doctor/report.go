package doctor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// A Report is what was found, in the order of the checks.
type Report struct {
	Findings []Finding `json:"findings"`
}

var (
	// ErrFail: an item fails.
	ErrFail = errors.New("not safe as it is")
	// ErrWarn: no item fails, and an item warns where warnings count.
	ErrWarn = errors.New("warnings, which count with --strict")
)

// Err is nil if no item fails and, if strict, none warns.
func (r *Report) Err(strict bool) error {
	if n := r.count(Fail); n > 0 {
		return fmt.Errorf("%w: %d fail", ErrFail, n)
	}
	if n := r.count(Warn); strict && n > 0 {
		return fmt.Errorf("%w: %d warn", ErrWarn, n)
	}
	return nil
}

func (r *Report) count(s Status) int {
	n := 0
	for _, f := range r.Findings {
		if f.Status.String() == s.String() {
			n++
		}
	}
	return n
}

// Width is how wide a table is where nobody says.
const Width = 100

// WriteText writes a table for people, so wide at most: what was found, and under it
// the fix. A word that is longer, such as a rule to copy, is not broken.
func (r *Report) WriteText(w io.Writer, width int) error {
	const status = len("skipped  ")
	item := len("ITEM")
	for _, f := range r.Findings {
		item = max(item, len(f.Item))
	}
	column := max(width-status-item-2, 40) // narrower, nobody reads it
	var out strings.Builder
	line := func(a, b, c string) {
		out.WriteString(strings.TrimRight(fmt.Sprintf("%-*s%-*s%s", status, a, item+2, b, c), " ") + "\n")
	}
	line("STATUS", "ITEM", "FOUND")
	for _, f := range r.Findings {
		found := f.Found
		if f.About != "" {
			found = f.About + ": " + found
		}
		for i, part := range wrapped(found, column) {
			if i == 0 {
				line(f.Status.String(), f.Item, part)
			} else {
				line("", "", part)
			}
		}
		if f.Fix == "" {
			continue
		}
		word := "fix: "
		if f.Status == Skipped {
			word = "instead: "
		}
		for i, part := range wrapped(word+f.Fix, column-4) {
			line("", "", strings.Repeat("  ", 1+min(i, 1))+part)
		}
	}
	fmt.Fprintf(&out, "\n%d ok, %d warn, %d fail, %d skipped\n", r.count(OK), r.count(Warn), r.count(Fail), r.count(Skipped))
	_, err := io.WriteString(w, out.String())
	return err
}

// wrapped breaks a text between words; it has one line at least.
func wrapped(text string, width int) (lines []string) {
	lines = []string{""}
	for _, word := range strings.Fields(text) {
		last := &lines[len(lines)-1]
		switch {
		case *last == "":
			*last = word
		case utf8.RuneCountInString(*last)+1+utf8.RuneCountInString(word) <= width:
			*last += " " + word
		default:
			lines = append(lines, word)
		}
	}
	return lines
}

// WriteJSON writes the findings and how many there are of each status.
func (r *Report) WriteJSON(w io.Writer) error {
	counts := map[string]int{}
	for status, name := range statusNames {
		counts[name] = r.count(status)
	}
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(struct {
		Counts map[string]int `json:"counts"`
		*Report
	}{counts, r})
}

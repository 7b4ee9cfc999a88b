package doctor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
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

// WriteText writes a table for people: what was found, and under it the fix.
func (r *Report) WriteText(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "STATUS\tITEM\tFOUND")
	for _, f := range r.Findings {
		item, found := f.Item, f.Found
		if f.About != "" {
			found = f.About + ": " + found
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", f.Status, item, found)
		if f.Fix != "" {
			word := "fix"
			if f.Status == Skipped {
				word = "instead"
			}
			fmt.Fprintf(table, "\t\t  %s: %s\n", word, f.Fix)
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%d ok, %d warn, %d fail, %d skipped\n", r.count(OK), r.count(Warn), r.count(Fail), r.count(Skipped))
	return err
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

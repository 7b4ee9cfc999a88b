// Package report shows what was measured: as a table for people, as JSON for
// programs, and as a table and bars in the documentation. It computes nothing but
// medians and quartiles, and trusts its input.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// Spread is a median and the quartiles around it.
type Spread struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
}

// SpreadOf is the spread of values; of none, zero.
func SpreadOf(values []float64) Spread {
	if len(values) == 0 {
		return Spread{}
	}
	sorted := slices.Sorted(slices.Values(values))
	at := func(q float64) float64 {
		place := q * float64(len(sorted)-1)
		low := int(place)
		high := min(low+1, len(sorted)-1)
		return sorted[low] + (sorted[high]-sorted[low])*(place-float64(low))
	}
	return Spread{Median: at(0.5), Low: at(0.25), High: at(0.75)}
}

// Row is one way of getting requests to the app.
type Row struct {
	Name string `json:"name"`
	// Throughput in requests a second.
	Throughput Spread `json:"requests_per_second"`
	// P50 and P99 of the latency at Report.Rate, in milliseconds.
	P50 Spread `json:"p50_ms"`
	P99 Spread `json:"p99_ms"`
	// CPU is the processor time for a request, in microseconds, of the processes
	// under test, Rest that of router, app and callers.
	CPU  Spread `json:"proxy_cpu_us_per_request"`
	Rest Spread `json:"rest_cpu_us_per_request"`
	// Bare and OPA are the throughput as a multiple of that of the bare proxy and
	// of nginx with OPA in the same round.
	Bare Spread `json:"throughput_ratio_to_bare"`
	OPA  Spread `json:"throughput_ratio_to_opa"`
}

// Report is all of one run.
type Report struct {
	// Date, Machine and Versions say when, where and what.
	Date     string `json:"date"`
	Machine  string `json:"machine"`
	Versions string `json:"versions"`
	// Load is the machine's load average before the run: what others did.
	Load    string `json:"load_average_before"`
	Rounds  int    `json:"rounds"`
	Callers int    `json:"callers"`
	// Rate in requests a second at which latencies were taken.
	Rate int   `json:"latency_rate"`
	Rows []Row `json:"rows"`
}

// JSON writes the report for programs.
func (r Report) JSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}

var columns = []string{"", "requests/s", "p50 ms", "p99 ms", "CPU us", "rest CPU us", "x bare", "x nginx + OPA"}

// cells are a row's texts, each figure with its quartiles if there is room.
func (row Row) cells(spread bool) []string {
	text := func(s Spread, digits int) string {
		switch {
		case s == Spread{}:
			return "-"
		case spread:
			return fmt.Sprintf("%.*f (%.*f to %.*f)", digits, s.Median, digits, s.Low, digits, s.High)
		}
		return fmt.Sprintf("%.*f", digits, s.Median)
	}
	return []string{
		row.Name, text(row.Throughput, 0), text(row.P50, 2), text(row.P99, 2),
		text(row.CPU, 0), text(row.Rest, 0), text(row.Bare, 2), text(row.OPA, 2),
	}
}

// Text writes the table for people.
func (r Report) Text(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, strings.Join(columns, "\t"))
	for _, row := range r.Rows {
		fmt.Fprintln(table, strings.Join(row.cells(false), "\t"))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w, "\n"+r.circumstances())
	return err
}

// Markdown is the table for the documentation, with quartiles.
func (r Report) Markdown() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s\n\n", r.circumstances())
	fmt.Fprintf(&text, "| %s |\n|%s\n", strings.Join(columns, " | "), strings.Repeat(" --- |", len(columns)))
	for _, row := range r.Rows {
		fmt.Fprintf(&text, "| %s |\n", strings.Join(row.cells(true), " | "))
	}
	return text.String()
}

func (r Report) circumstances() string {
	return fmt.Sprintf("%s, %s, load average %s before the run. %s. Medians (quartiles) of %d rounds; throughput and processor time with %d callers at full speed, latencies at %d requests a second.",
		r.Date, r.Machine, r.Load, r.Versions, r.Rounds, r.Callers, r.Rate)
}

// The marks between which [Replace] writes.
const (
	begin = "<!-- figures: written by make bench-peers -->\n"
	end   = "<!-- end of the figures -->\n"
)

// Replace puts the table into the text of a document, in place of the former
// one.
func (r Report) Replace(document string) (string, error) {
	before, rest, found := strings.Cut(document, begin)
	_, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		return "", fmt.Errorf("the document has no place for figures: expected the lines %q and %q", begin, end)
	}
	return before + begin + r.Markdown() + end + after, nil
}

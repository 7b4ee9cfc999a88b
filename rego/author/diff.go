package author

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/mtls-authz/mtls-authz/rego"
	"github.com/mtls-authz/mtls-authz/rego/author/changes"
	"github.com/mtls-authz/mtls-authz/rego/author/page"
)

// DiffConfig configures [Diff].
type DiffConfig struct {
	Old, New Place
	Settings
	// Inputs are recorded requests, as JSON Lines. Required.
	Inputs io.Reader
	// Examples bounds those of each kind of change.
	Examples int
	// AcceptNewAllows and AcceptUnknown take these for no error.
	AcceptNewAllows, AcceptUnknown bool
	JSON                           bool
	// Progress gets a line from time to time; nil: none.
	Progress io.Writer
}

// What keeps a difference from being accepted.
var (
	ErrNewAllows  = errors.New("requests that were denied would be allowed")
	ErrUnknown    = errors.New("of some requests it is not known what they would become")
	ErrUnreadable = errors.New("lines of the inputs are not recorded requests")
	ErrNoInputs   = errors.New("the inputs have no requests, so nothing is shown")
)

// progressEach is how many requests pass between lines of progress.
const progressEach = 10_000

// Diff decides recorded requests under two policies and writes what changes. New
// allows are an [ErrNewAllows] and what is not known, which could be one, is an
// [ErrUnknown], unless accepted.
func Diff(ctx context.Context, w io.Writer, cfg DiffConfig) error {
	var policies [2]*rego.Policy
	for i, place := range []Place{cfg.Old, cfg.New} {
		b, err := place.read()
		if err != nil {
			return place.findings(w, cfg.JSON, err)
		}
		if policies[i], _, err = rego.Examine(ctx, b, cfg.config()); err != nil {
			return place.findings(w, cfg.JSON, err)
		}
	}
	report, err := changes.Find(ctx, changes.Config{
		Old: policies[0], New: policies[1], Inputs: cfg.Inputs, Examples: cfg.Examples, Progress: cfg.progress(),
	})
	if err != nil {
		return fmt.Errorf("--inputs: %w", err)
	}
	if cfg.JSON {
		err = page.JSON(w, report)
	} else {
		err = writeChanges(w, report)
	}
	if err != nil {
		return err
	}
	return cfg.judge(report)
}

func (cfg DiffConfig) progress() func(int) {
	if cfg.Progress == nil {
		return nil
	}
	return func(requests int) {
		if requests%progressEach == 0 {
			fmt.Fprintf(cfg.Progress, "%d requests\n", requests)
		}
	}
}

func (cfg DiffConfig) judge(report *changes.Report) error {
	switch counts := report.Counts; {
	case report.Requests == 0:
		return ErrNoInputs
	case counts[changes.NewAllow] > 0 && !cfg.AcceptNewAllows:
		return fmt.Errorf("%w: %d; --accept-new-allows takes them for good", ErrNewAllows, counts[changes.NewAllow])
	case counts[changes.Unreadable] > 0:
		return fmt.Errorf("%w: %d", ErrUnreadable, counts[changes.Unreadable])
	case counts[changes.Unknown] > 0 && !cfg.AcceptUnknown:
		return fmt.Errorf("%w: %d; each could be a new allow, --accept-unknown takes them for good", ErrUnknown, counts[changes.Unknown])
	}
	return nil
}

var titles = map[changes.Kind]string{
	changes.NewAllow: "deny -> allow", changes.Unknown: "unknown", changes.Unreadable: "unreadable", changes.NewDeny: "allow -> deny",
	changes.OtherReason: "another reason or grant", changes.OtherHeaders: "other headers", changes.Unchanged: "unchanged",
}

func writeChanges(w io.Writer, report *changes.Report) error {
	p := page.New(w)
	rows := [][]string{{"REQUESTS", "CHANGE"}}
	for _, kind := range changes.Kinds {
		rows = append(rows, []string{fmt.Sprint(report.Counts[kind]), titles[kind]})
	}
	p.Table(append(rows, []string{fmt.Sprint(report.Requests), "all"}))
	for _, kind := range changes.Kinds {
		examples := report.Examples[kind]
		if len(examples) == 0 {
			continue
		}
		p.Printf("\n%s (%d of %d)\n", titles[kind], len(examples), report.Counts[kind])
		for _, e := range examples {
			writeExample(p, e)
		}
	}
	return p.Err()
}

// writeExample quotes what a client chose: a path can hold anything.
func writeExample(p *page.Page, e changes.Example) {
	if e.URL == "" {
		p.Printf("  %s\n", e.Error)
		return
	}
	p.Printf("  line %d: %s %q\n", e.Line, e.Method, e.URL)
	p.Printf("      caller app %s, space %s, org %s\n", e.App, e.Space, e.Org)
	if e.Error != "" {
		p.Printf("      %s\n", e.Error)
		return
	}
	p.Printf("      old  %s\n      new  %s\n", e.Old, e.New)
}

package bundle

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// ErrRefused: the operator's bundle cannot be activated. The error is a
// [*Refusal], which lists why.
var ErrRefused = errors.New("policy bundle refused")

// A Step is a part of what a bundle must pass before it is activated.
type Step string

// The steps, in the order in which they are taken.
const (
	StepRead      Step = "read"      // size, names, kinds of files
	StepSignature Step = "signature" // who made it, and that it is not an old one
	StepParse     Step = "parse"
	StepLayout    Step = "layout" // what lies where: packages, checks, roots
	StepGrants    Step = "grants" // the operator's grants
	StepCompile   Step = "compile"
	StepTypes     Step = "types"
	StepNames     Step = "names" // each name that is read is there
	StepTests     Step = "tests"
	StepGuards    Step = "guards" // what must hold of every policy
	StepTime      Step = "time"   // a limit of time, which a busy machine may miss
)

// A Finding is one reason why a bundle is refused.
type Finding struct {
	// File is the name within the bundle, "" if the finding is about no file;
	// Line and Column count from 1, 0 if unknown.
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
	Step   Step   `json:"step"`
	// Message says what is wrong, Fix what to do about it; Fix may be empty.
	Message string `json:"message"`
	Fix     string `json:"fix,omitempty"`
}

// String returns "file:line: message; fix".
func (f Finding) String() string {
	text := f.Message
	if f.Fix != "" {
		text += "; " + f.Fix
	}
	switch {
	case f.File == "":
		return text
	case f.Line == 0:
		return f.File + ": " + text
	default:
		return fmt.Sprintf("%s:%d: %s", f.File, f.Line, text)
	}
}

// A Refusal is why a bundle is refused: at least one finding. It is an
// [ErrRefused].
type Refusal struct{ Findings []Finding }

// Error returns all findings in one line.
func (r *Refusal) Error() string {
	texts := make([]string, len(r.Findings))
	for i, finding := range r.Findings {
		texts[i] = finding.String()
	}
	return ErrRefused.Error() + ": " + strings.Join(texts, "; ")
}

// Unwrap makes every refusal an [ErrRefused].
func (r *Refusal) Unwrap() error { return ErrRefused }

// Temporary reports whether the same bundle may pass at another time: only a
// limit of time was missed.
func (r *Refusal) Temporary() bool {
	return !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Step != StepTime })
}

// Refuse makes a refusal of one finding.
func Refuse(step Step, at *ast.Location, format string, args ...any) *Refusal {
	finding := Finding{Step: step, Message: fmt.Sprintf(format, args...)}
	if at != nil {
		finding.File, finding.Line, finding.Column = strings.TrimPrefix(path.Clean("/"+at.File), "/"), at.Row, at.Col
	}
	return &Refusal{[]Finding{finding}}
}

// WithFix adds to each finding what to do about it.
func (r *Refusal) WithFix(format string, args ...any) *Refusal {
	for i := range r.Findings {
		r.Findings[i].Fix = fmt.Sprintf(format, args...)
	}
	return r
}

// RefusalOf makes a refusal of any error: of OPA's errors one finding each,
// with their places.
func RefusalOf(step Step, err error) *Refusal {
	if refusal, ok := errors.AsType[*Refusal](err); ok {
		return refusal
	}
	list, ok := errors.AsType[ast.Errors](err)
	if one, single := errors.AsType[*ast.Error](err); single && !ok {
		list, ok = ast.Errors{one}, true
	}
	if !ok {
		return Refuse(step, nil, "%v", err)
	}
	refusal := &Refusal{}
	for _, e := range list {
		refusal.Findings = append(refusal.Findings, Refuse(step, e.Location, "%s: %s", e.Code, e.Message).Findings...)
	}
	return refusal
}

// Join puts refusals together, or returns nil if there are none.
func Join(refusals ...*Refusal) error {
	all := &Refusal{}
	for _, refusal := range refusals {
		if refusal != nil {
			all.Findings = append(all.Findings, refusal.Findings...)
		}
	}
	if len(all.Findings) == 0 {
		return nil
	}
	return all
}

// At gives each finding a place.
func (r *Refusal) At(location *ast.Location) *Refusal {
	for i := range r.Findings {
		at := Refuse(r.Findings[i].Step, location, "%s", r.Findings[i].Message).Findings[0]
		at.Fix = r.Findings[i].Fix
		r.Findings[i] = at
	}
	return r
}

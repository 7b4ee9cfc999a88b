package candidate

import (
	"cmp"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/mtls-authz/mtls-authz/rego"
)

// tally counts what the candidate would change while both policies stay.
type tally struct {
	active, candidate *rego.Policy
	since             time.Time
	evaluated, errors uint64
	lastError         string
	counts            Counts
	routes            map[string]*routeTally
	unlisted          uint64
	lines             map[lineKey]*pendingLine
	unlogged          uint64
}

// difference is a decision on which the candidate was evaluated.
type difference struct {
	observed
	kind              kind
	active, candidate rego.Decision
	at                time.Time
}

// lineKey is what log lines differ in.
type lineKey struct {
	route             string
	kind              kind
	active, candidate Outcome
}

// pendingLine is a line that is still to be logged.
type pendingLine struct {
	count uint64
	id    string
}

const (
	// maxLines bounds the lines of a minute: the reasons of checks are unbounded.
	maxLines     = 500
	maxErrorText = 512
)

func newTally(active, candidate *rego.Policy, since time.Time) *tally {
	return &tally{
		active: active, candidate: candidate, since: since,
		routes: map[string]*routeTally{}, lines: map[lineKey]*pendingLine{},
	}
}

// compares reports whether the tally is of this candidate: by its content, since
// it may have been loaded again unchanged.
func (t *tally) compares(candidate *rego.Policy) bool {
	return t.candidate != nil && t.candidate.Digest() == candidate.Digest()
}

func (t *tally) note(d difference, err error) {
	t.evaluated++
	if err != nil {
		t.errors++
		text := err.Error()
		t.lastError = text[:min(len(text), maxErrorText)]
	}
	if d.kind == same {
		return
	}
	t.counts.add(d.kind)
	t.noteLine(&d)
	name := d.request.Live.Route.String()
	if t.routes[name] == nil {
		if len(t.routes) == maxRoutes {
			t.unlisted++
			return
		}
		t.routes[name] = &routeTally{examples: map[exampleKey]*Example{}}
	}
	t.routes[name].note(&d)
}

func (t *tally) noteLine(d *difference) {
	key := lineKey{d.request.Live.Route.String(), d.kind, outcomeOf(d.active), outcomeOf(d.candidate)}
	if t.lines[key] == nil {
		if len(t.lines) == maxLines {
			t.unlogged++
			return
		}
		t.lines[key] = &pendingLine{id: d.id}
	}
	t.lines[key].count++
}

// takeLines returns the lines to be logged, by route.
func (t *tally) takeLines() [][]slog.Attr {
	var lines [][]slog.Attr
	keys := slices.SortedFunc(maps.Keys(t.lines), func(a, b lineKey) int {
		return cmp.Or(cmp.Compare(a.route, b.route), cmp.Compare(a.kind, b.kind), cmp.Compare(t.lines[a].id, t.lines[b].id))
	})
	for _, key := range keys {
		lines = append(lines, []slog.Attr{
			slog.String("candidate_revision", t.candidate.Revision()), slog.String("policy_revision", t.active.Revision()),
			slog.String("route", key.route), slog.String("kind", key.kind.String()),
			slog.String("mtls_policy", key.active.Policy), slog.String("mtls_denied_reason", key.active.Reason),
			slog.String("candidate_policy", key.candidate.Policy), slog.String("candidate_reason", key.candidate.Reason),
			slog.Uint64("count", t.lines[key].count), slog.String("decision_id", t.lines[key].id),
		})
	}
	if t.unlogged > 0 {
		lines = append(lines, []slog.Attr{slog.String("kind", "more"), slog.Uint64("count", t.unlogged)})
	}
	clear(t.lines)
	t.unlogged = 0
	return lines
}

func (t *tally) report() Report {
	r := Report{
		Evaluated: t.evaluated, Errors: t.errors, LastError: t.lastError,
		Counts: t.counts, Unlisted: t.unlisted, Routes: []RouteReport{},
	}
	if t.active != nil {
		since := t.since
		r.CandidateRevision, r.PolicyRevision, r.Since = t.candidate.Revision(), t.active.Revision(), &since
	}
	for _, name := range slices.Sorted(maps.Keys(t.routes)) {
		r.Routes = append(r.Routes, t.routes[name].report(name))
	}
	return r
}

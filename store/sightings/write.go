package sightings

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"slices"
	"strings"

	"github.com/mtls-authz/mtls-authz/store/database"
)

// Bounds in the database; of each, the newest stay.
const (
	// callersOfBinding bounds the callers of a binding with one outcome, and
	// apart from them its refusals that differ; refusalsOfCaller those of one
	// caller.
	callersOfBinding, refusalsOfCaller = 100, 20
	// denialsKept bounds the refusals that can be explained, denialsOfBinding
	// those of a binding, denialsOfCaller those of a caller there. Of all, the
	// owners with the most lose first.
	denialsKept, denialsOfBinding, denialsOfCaller = 10_000, 1000, 200
	// rowsAtOnce is how many rows are locked at once.
	rowsAtOnce = 500
)

// batch is what is on its way to the database.
type batch struct {
	rows    []row
	denials []Decision
}

// row is one of the table sightings.
type row struct {
	binding string
	key
	refusal
	space, org string
}

// Write writes what is noted. Its error is a [database.ErrUnavailable]: what was
// not written is kept for the next time.
func (s *Sightings) Write(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	select {
	case s.writing <- struct{}{}:
		defer func() { <-s.writing }()
	case <-ctx.Done():
		return database.Unavailable(ctx.Err())
	}
	if err := s.writeUnwritten(ctx); err != nil {
		return err
	}
	s.unwritten = s.take()
	return s.writeUnwritten(ctx)
}

func (s *Sightings) writeUnwritten(ctx context.Context) error {
	left := &s.unwritten
	for len(left.denials) > 0 {
		part := left.denials[:min(len(left.denials), rowsAtOnce)]
		last := len(part) == len(left.denials)
		if err := s.write(ctx, len(part), func(tx *sql.Tx) error { return writeDenials(ctx, tx, part, last) }); err != nil {
			return err
		}
		left.denials = left.denials[len(part):]
	}
	for len(left.rows) > 0 {
		part := left.rows[:min(len(left.rows), rowsAtOnce)]
		if err := s.write(ctx, len(part), func(tx *sql.Tx) error { return writeRows(ctx, tx, part) }); err != nil {
			return err
		}
		left.rows = left.rows[len(part):]
	}
	return nil
}

// write writes a part. One that the database will never take is dropped: it must not
// keep all that comes later from being written.
func (s *Sightings) write(ctx context.Context, rows int, write func(*sql.Tx) error) error {
	err := s.db.WriteInTurn(ctx, s.cfg.Turn, write)
	if err != nil && database.Refused(err) {
		s.dropped.Add(int64(rows))
		return nil
	}
	return err
}

// take takes out what is noted, its rows in one order, so that gateways that write
// at once do not stop each other.
func (s *Sightings) take() (b batch) {
	for i := range s.noted {
		shard := &s.noted[i]
		shard.mu.Lock()
		bindings := shard.bindings
		shard.bindings = nil
		shard.mu.Unlock()
		for binding, callers := range bindings {
			for key, c := range callers {
				s.callers.leave(c.owner, 1)
				s.denied.leave(c.owner, len(c.denials))
				b.add(binding, key, c)
			}
		}
	}
	slices.SortFunc(b.rows, compareRows)
	b.rows = slices.CompactFunc(b.rows, func(a, b row) bool { return compareRows(a, b) == 0 }) // a statement takes a row once
	return b
}

func compareRows(a, b row) int {
	return cmp.Or(cmp.Compare(a.binding, b.binding), cmp.Compare(a.app, b.app), cmp.Compare(a.outcome, b.outcome),
		cmp.Compare(a.reason, b.reason), cmp.Compare(a.method, b.method), cmp.Compare(a.path, b.path))
}

func (b *batch) add(binding string, k key, c *caller) {
	b.denials = append(b.denials, c.denials...)
	if binding == "" { // nobody asks what came to no binding, but for one decision
		return
	}
	b.rows = append(b.rows, row{binding, k, refusal{count: c.count}, c.space, c.org})
	for _, one := range c.distinct {
		b.rows = append(b.rows, row{binding, k, one, c.space, c.org})
	}
}

// upsert takes rows for its %. Both databases name the columns of VALUES column1
// and on. Bindings that are not there any more have no row.
const upsert = `INSERT INTO sightings (binding_id, app, outcome, reason, method, path, space, org, decision_id, times, first_at, last_at)
	SELECT column1, column2, column3, column4, column5, column6, column7, column8, column9, column10, column11, column12 FROM (VALUES %) AS seen
	WHERE EXISTS (SELECT 1 FROM bindings WHERE id = column1)
	ORDER BY column1, column2, column3, column4, column5, column6
	ON CONFLICT (binding_id, app, outcome, reason, method, path) DO UPDATE SET
		space = excluded.space, org = excluded.org,
		decision_id = CASE WHEN excluded.last_at < sightings.last_at THEN sightings.decision_id ELSE excluded.decision_id END, times = sightings.times + excluded.times,
		first_at = CASE WHEN excluded.first_at < sightings.first_at THEN excluded.first_at ELSE sightings.first_at END,
		last_at = CASE WHEN excluded.last_at > sightings.last_at THEN excluded.last_at ELSE sightings.last_at END`

// prune takes bindings for its %.
const prune = `DELETE FROM sightings WHERE (binding_id, app, outcome, reason, method, path) IN (
	SELECT binding_id, app, outcome, reason, method, path FROM (
		SELECT binding_id, app, outcome, reason, method, path, reason <> '' AS refused,
			ROW_NUMBER() OVER (PARTITION BY binding_id, reason <> '', CASE reason WHEN '' THEN outcome ELSE '' END ORDER BY last_at DESC, app) AS place,
			ROW_NUMBER() OVER (PARTITION BY binding_id, app, reason <> '' ORDER BY last_at DESC) AS of_caller
		FROM sightings WHERE binding_id IN (%)) AS placed
	WHERE place > $1 OR refused AND of_caller > $2)`

func writeRows(ctx context.Context, tx *sql.Tx, rows []row) error {
	var q database.Query
	values := make([]string, len(rows))
	bindings := make([]string, len(rows))
	for i, r := range rows {
		bindings[i] = r.binding
		values[i] = q.Row("TEXT", r.binding, r.app, r.outcome, r.reason, r.method, r.path, r.space, r.org, r.decision) + ", " + q.Row("BIGINT", r.times, r.first, r.last)
		values[i] = "(" + values[i] + ")"
	}
	if _, err := tx.ExecContext(ctx, strings.Replace(upsert, "%", strings.Join(values, ", "), 1), q.Args...); err != nil {
		return err
	}
	q = database.Query{Args: []any{callersOfBinding, refusalsOfCaller}}
	_, err := tx.ExecContext(ctx, strings.Replace(prune, "%", q.List(slices.Compact(bindings)), 1), q.Args...)
	return err
}

// insertDenials takes rows for its %.
const insertDenials = `INSERT INTO denials (decision_id, binding_id, app, owner, content, made_at) VALUES % ON CONFLICT (decision_id) DO NOTHING`

// pruneDenials takes bindings for its %.
const pruneDenials = `DELETE FROM denials WHERE decision_id IN (
	SELECT decision_id FROM (
		SELECT decision_id, ROW_NUMBER() OVER (PARTITION BY binding_id ORDER BY made_at DESC, decision_id) AS place,
			ROW_NUMBER() OVER (PARTITION BY binding_id, app ORDER BY made_at DESC, decision_id) AS of_caller
		FROM denials WHERE binding_id IN (%)) AS placed
	WHERE place > $1 OR of_caller > $2)`

// shareDenials keeps of each owner its newest, so many that all together fit.
const shareDenials = `DELETE FROM denials WHERE decision_id IN (
	SELECT decision_id FROM (
		SELECT decision_id, made_at, ROW_NUMBER() OVER (PARTITION BY owner ORDER BY made_at DESC, decision_id) AS place FROM denials) AS placed
	ORDER BY place, made_at DESC, decision_id LIMIT 100000 OFFSET $1)`

// writeDenials writes a part; with the last one it looks whether all are too many.
func writeDenials(ctx context.Context, tx *sql.Tx, denials []Decision, last bool) error {
	var q database.Query
	values, bindings := make([]string, len(denials)), make([]string, len(denials))
	for i := range denials {
		d := &denials[i]
		content, err := json.Marshal(d)
		if err != nil {
			return err
		}
		bindings[i] = d.Binding
		values[i] = "(" + q.Row("TEXT", d.DecisionID, d.Binding, d.App, d.Owner, string(content)) + ", " + q.Row("BIGINT", d.At.UnixMilli()) + ")"
	}
	_, err := tx.ExecContext(ctx, strings.Replace(insertDenials, "%", strings.Join(values, ", "), 1), q.Args...)
	if err != nil {
		return err
	}
	slices.Sort(bindings)
	q = database.Query{Args: []any{denialsOfBinding, denialsOfCaller}}
	if _, err = tx.ExecContext(ctx, strings.Replace(pruneDenials, "%", q.List(slices.Compact(bindings)), 1), q.Args...); err != nil || !last {
		return err
	}
	total, err := database.ReadNumber(ctx, tx, `SELECT COUNT(*) FROM denials`)
	if err == nil && total > denialsKept {
		_, err = tx.ExecContext(ctx, shareDenials, denialsKept)
	}
	return err
}

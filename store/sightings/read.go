package sightings

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/mtls-authz/mtls-authz/store/database"
)

// A Sighting is a caller of a binding, and what became of its requests.
type Sighting struct {
	Binding string
	// App, Space and Org are guids; "": nobody was verified.
	App, Space, Org string
	Outcome         string
	// Reason, Method and Path are of refusals that are the same; "" of the row
	// that counts all with this outcome.
	Reason, Method, Path string
	// Times is how often, as far as it was noted; First and Last are to the
	// millisecond.
	Times       int64
	First, Last time.Time
}

// columns are those that scan takes.
const columns = `binding_id, app, space, org, outcome, reason, method, path, times, first_at, last_at`

func scan(row *sql.Rows) func() (Sighting, error) {
	var s Sighting
	var first, last int64
	err := row.Scan(&s.Binding, &s.App, &s.Space, &s.Org, &s.Outcome, &s.Reason, &s.Method, &s.Path, &s.Times, &first, &last)
	s.First, s.Last = time.UnixMilli(first).UTC(), time.UnixMilli(last).UTC()
	return func() (Sighting, error) { return s, err }
}

// read writes what is noted here first, so that nobody misses his own request.
// That may fail while the database is busy with a change: then it is there a
// little later.
func read[T any](ctx context.Context, s *Sightings, scan database.Scanner[T], text string, args ...any) ([]T, error) {
	_ = s.Write(ctx)
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	list, damaged, err := database.ReadAll(ctx, s.db, scan, text, args...)
	if err == nil && len(damaged) > 0 {
		err = database.Unavailable(damaged[0])
	}
	return list, err
}

// Callers are the callers of bindings, the newest first: of each binding a hundred
// with each outcome at most. With it come no single refusals.
func (s *Sightings) Callers(ctx context.Context, bindings ...string) ([]Sighting, error) {
	if len(bindings) == 0 {
		return nil, nil
	}
	var q database.Query
	return read(ctx, s, scan, `SELECT `+columns+` FROM sightings WHERE binding_id IN (`+q.List(bindings)+`) AND reason = '' ORDER BY last_at DESC, app`, q.Args...)
}

// Refusals are the last refusals of bindings that differ, the newest first.
func (s *Sightings) Refusals(ctx context.Context, most int, bindings ...string) ([]Sighting, error) {
	if len(bindings) == 0 {
		return nil, nil
	}
	var q database.Query
	text := `SELECT ` + columns + ` FROM sightings WHERE binding_id IN (` + q.List(bindings) + `) AND reason <> '' ORDER BY last_at DESC, app, path LIMIT ` + q.Row("BIGINT", most)
	return read(ctx, s, scan, text, q.Args...)
}

// Totals count the callers of bindings: one row for each outcome of a binding,
// without a caller.
func (s *Sightings) Totals(ctx context.Context, bindings ...string) ([]Sighting, error) {
	if len(bindings) == 0 {
		return nil, nil
	}
	var q database.Query
	return read(ctx, s, scan, `SELECT binding_id, '', '', '', outcome, '', '', '', CAST(SUM(times) AS BIGINT), MIN(first_at), MAX(last_at)
		FROM sightings WHERE binding_id IN (`+q.List(bindings)+`) AND reason = '' GROUP BY binding_id, outcome`, q.Args...)
}

// A Home is where an app or a space was when it last called.
type Home struct{ ID, Space, Org string }

// Homes are those of apps, and of spaces, by guid: what verified callers of any
// route have shown. Who has never called is not among them.
func (s *Sightings) Homes(ctx context.Context, apps, spaces []string) (map[string]Home, error) {
	homes := map[string]Home{}
	for column, ids := range map[string][]string{"app": apps, "space": spaces} {
		for len(ids) > 0 {
			part := ids[:min(len(ids), rowsAtOnce)]
			ids = ids[len(part):]
			var q database.Query
			text := strings.ReplaceAll(`SELECT id, space, org FROM (
				SELECT % AS id, space, org, ROW_NUMBER() OVER (PARTITION BY % ORDER BY last_at DESC) AS place FROM sightings WHERE % IN (`, "%", column) +
				q.List(part) + `)) AS seen WHERE place = 1 AND space <> '' AND org <> ''`
			list, err := read(ctx, s, scanHome, text, q.Args...)
			if err != nil {
				return nil, err
			}
			for _, home := range list {
				homes[home.ID] = home
			}
		}
	}
	return homes, nil
}

func scanHome(row *sql.Rows) func() (Home, error) {
	var h Home
	err := row.Scan(&h.ID, &h.Space, &h.Org)
	return func() (Home, error) { return h, err }
}

// Denial is a refusal by its decision id, or [database.ErrNotFound].
func (s *Sightings) Denial(ctx context.Context, decisionID string) (Decision, error) {
	list, err := read(ctx, s, scanDenial, `SELECT decision_id, made_at, binding_id, app, content FROM denials WHERE decision_id = $1`, decisionID)
	if err == nil && len(list) == 0 {
		err = database.ErrNotFound
	}
	if err != nil {
		return Decision{}, err
	}
	return list[0], nil
}

func scanDenial(row *sql.Rows) func() (Decision, error) {
	var d Decision
	var at int64
	var content string
	err := row.Scan(&d.DecisionID, &at, &d.Binding, &d.App, &content)
	d.At = time.UnixMilli(at).UTC()
	return func() (Decision, error) {
		if err == nil {
			err = json.Unmarshal([]byte(content), &d)
		}
		if err != nil {
			return Decision{}, database.Damage("denial", d.DecisionID, fmt.Errorf("content: %w", err))
		}
		return d, nil
	}
}

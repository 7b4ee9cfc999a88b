package resolution

import (
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"github.com/mtls-authz/mtls-authz/grants/names"
	"github.com/mtls-authz/mtls-authz/identity"
)

// reference is a [names.Reference] in JSON; it has one spelling.
type reference struct {
	Org    string     `json:"org"`
	Space  string     `json:"space,omitempty"`
	Kind   names.Kind `json:"kind"`
	In     string     `json:"in,omitempty"`
	App    string     `json:"app,omitempty"`
	Labels string     `json:"labels,omitempty"`
}

func referenceText(r names.Reference) string {
	raw, _ := json.Marshal(reference{r.Org.String(), r.Space.String(), r.Name.Kind, r.Name.Space, r.Name.App, r.Name.Labels}) // strings cannot fail
	return string(raw)
}

func parseReference(text string) (names.Reference, error) {
	var doc reference
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		return names.Reference{}, err
	}
	r := names.Reference{Name: names.Name{Kind: doc.Kind, Space: doc.In, App: doc.App, Labels: doc.Labels}}
	var err error
	if r.Org, err = identity.ParseGUID(doc.Org); err == nil && doc.Space != "" {
		r.Space, err = identity.ParseGUID(doc.Space)
	}
	if err == nil && referenceText(r) != text {
		err = errors.New("not in its one spelling")
	}
	return r, err
}

// found is a [names.Resolution] in JSON. Times are Unix milliseconds, 0: none.
type found struct {
	Holders []holder `json:"holders,omitempty"`
	Missing int64    `json:"missing,omitempty"`
	Trimmed bool     `json:"trimmed,omitempty"`
}

type holder struct {
	ID    string `json:"id"`
	Until int64  `json:"until,omitempty"`
}

func foundText(r names.Resolution) string {
	doc := found{Missing: millis(r.Missing), Trimmed: r.Trimmed}
	for _, h := range r.Holders {
		doc.Holders = append(doc.Holders, holder{h.ID.String(), millis(h.Until)})
	}
	raw, _ := json.Marshal(doc) // as above
	return string(raw)
}

func parseFound(text string) (names.Resolution, error) {
	var doc found
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		return names.Resolution{}, err
	}
	r := names.Resolution{Missing: timeOf(doc.Missing), Trimmed: doc.Trimmed}
	for _, h := range doc.Holders {
		id, err := identity.ParseGUID(h.ID)
		if err != nil {
			return names.Resolution{}, err
		}
		r.Holders = append(r.Holders, names.Holder{ID: id, Until: timeOf(h.Until)})
	}
	return r, nil
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func timeOf(millis int64) time.Time {
	if millis == 0 {
		return time.Time{}
	}
	return time.UnixMilli(millis).UTC()
}

// forgotten stands in the place of what a name stands for, once nobody uses it.
const forgotten = ""

type row struct {
	reference names.Reference
	found     names.Resolution
	forgotten bool
}

// scan is a [database.Scanner]. What does not parse is as if it were forgotten: it
// stands for nobody.
func scan(rows *sql.Rows) func() (row, error) {
	var reference, found string
	err := rows.Scan(&reference, &found)
	return func() (one row, _ error) {
		if err == nil {
			one.reference, err = parseReference(reference)
		}
		var damaged error
		one.found, damaged = parseFound(found)
		one.forgotten = damaged != nil
		return one, err
	}
}

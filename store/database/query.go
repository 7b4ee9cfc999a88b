package database

import (
	"fmt"
	"strings"
)

// A Query collects the parameters of a statement, and numbers them. The zero
// Query has none.
type Query struct{ Args []any }

// Row adds values of one type, which PostgreSQL must be told, and returns their
// places with commas between them.
func (q *Query) Row(kind string, values ...any) string {
	places := make([]string, len(values))
	for i, value := range values {
		q.Args = append(q.Args, value)
		places[i] = fmt.Sprintf("CAST($%d AS %s)", len(q.Args), kind)
	}
	return strings.Join(places, ", ")
}

// List adds texts.
func (q *Query) List(values []string) string {
	args := make([]any, len(values))
	for i, value := range values {
		args[i] = value
	}
	return q.Row("TEXT", args...)
}

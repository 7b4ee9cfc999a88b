package store

import (
	"context"
	"database/sql"
	"fmt"
)

// querier is a database or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// damaged is a row that does not parse: an [ErrDamaged] and, to whoever only
// asks whether the database did its work, an [ErrUnavailable].
type damaged struct{ error }

func (d *damaged) Is(target error) bool { return target == ErrDamaged || target == ErrUnavailable }

func damage(what, id string, err error) error {
	return &damaged{fmt.Errorf("%s %q in the database is damaged: %w", what, id, err)}
}

// readAll reads every row that scan understands and sets the damaged ones
// aside, so that one does not stop the others. Its error means that the rows
// are not complete.
func readAll[T any](ctx context.Context, q querier, scan func(*sql.Rows) (T, error), query string, args ...any) (list []T, broken []error, err error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, nil, unavailable(err)
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	for rows.Next() {
		one, err := scan(rows)
		if err != nil {
			broken = append(broken, err)
			continue
		}
		list = append(list, one)
	}
	if err := rows.Err(); err != nil {
		return nil, nil, unavailable(err)
	}
	return list, broken, nil
}

// readOne reads the only row, or returns [ErrNotFound].
func readOne[T any](ctx context.Context, q querier, scan func(*sql.Rows) (T, error), query, id string) (one T, err error) {
	list, broken, err := readAll(ctx, q, scan, query, id)
	switch {
	case err != nil:
		return one, err
	case len(broken) > 0:
		return one, broken[0]
	case len(list) == 0:
		return one, ErrNotFound
	}
	return list[0], nil
}

// unavailable marks an error of the database.
func unavailable(err error) error { return fmt.Errorf("%w: %w", ErrUnavailable, err) }

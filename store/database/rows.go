package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
)

var (
	// ErrNotFound: there is no such row.
	ErrNotFound = errors.New("not found")
	// ErrUnavailable: the database did not do what it was asked, or not in
	// time. Nothing was changed, unless it went away during the commit.
	ErrUnavailable = errors.New("the state store is not available")
	// ErrDamaged: the row is there and does not parse. It is an ErrUnavailable
	// too.
	ErrDamaged = errors.New("damaged in the database")
)

// A Querier is a database or a transaction.
type Querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// A Scanner takes the columns of a row. Parsing them takes longer than reading
// them, and does not need the connection.
type Scanner[T any] func(*sql.Rows) func() (T, error)

// damaged is a row that does not parse: an [ErrDamaged] and, to whoever only
// asks whether the database did its work, an [ErrUnavailable].
type damaged struct{ error }

func (d *damaged) Is(target error) bool { return target == ErrDamaged || target == ErrUnavailable }

// Damage makes the error of a row that does not parse, an [ErrDamaged].
func Damage(what, id string, err error) error {
	return &damaged{fmt.Errorf("%s %q in the database is damaged: %w", what, id, err)}
}

// chunk is how many rows are held unparsed; these are parsed in parallel.
const chunk = 5000

// ReadAll reads every row that can be parsed and sets the damaged ones aside, so
// that one does not stop the others. Its error means that the rows are not
// complete.
func ReadAll[T any](ctx context.Context, q Querier, scan Scanner[T], query string, args ...any) (list []T, broken []error, err error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, nil, Unavailable(err)
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	var unparsed []func() (T, error)
	parse := func() {
		parsed, errs := make([]T, len(unparsed)), make([]error, len(unparsed))
		InParallel(len(unparsed), func(i int) { parsed[i], errs[i] = unparsed[i]() })
		for i, err := range errs {
			if err != nil {
				broken = append(broken, err)
				continue
			}
			list = append(list, parsed[i])
		}
		unparsed = unparsed[:0]
	}
	for rows.Next() {
		if unparsed = append(unparsed, scan(rows)); len(unparsed) == chunk {
			parse()
		}
	}
	if err := rows.Err(); err != nil {
		return nil, nil, Unavailable(err)
	}
	parse()
	return list, broken, nil
}

// InParallel calls f for 0 to n-1, on all processors if there is much to do.
func InParallel(n int, f func(int)) {
	workers := min(runtime.GOMAXPROCS(0), n/64+1)
	var running sync.WaitGroup
	for w := range workers {
		running.Go(func() {
			for i := w; i < n; i += workers {
				f(i)
			}
		})
	}
	running.Wait()
}

// ReadOne reads the only row, or returns [ErrNotFound].
func ReadOne[T any](ctx context.Context, q Querier, scan Scanner[T], query string, args ...any) (one T, err error) {
	list, broken, err := ReadAll(ctx, q, scan, query, args...)
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

// ReadNumber reads one number.
func ReadNumber(ctx context.Context, q Querier, query string, args ...any) (int64, error) {
	return ReadOne(ctx, q, func(row *sql.Rows) func() (int64, error) {
		var number int64
		err := row.Scan(&number)
		return func() (int64, error) { return number, err }
	}, query, args...)
}

// Unavailable marks an error of the driver as [ErrUnavailable].
func Unavailable(err error) error { return fmt.Errorf("%w: %w", ErrUnavailable, err) }

// Refused reports whether an error is the database's word that it will never do
// what it was asked: it has understood the statement, and its values are not for it.
func Refused(err error) bool {
	var refused *pgconn.PgError
	return errors.As(err, &refused) && slices.Contains(never, refused.Code[:min(2, len(refused.Code))])
}

// never are the classes of PostgreSQL's errors (Appendix A) that come again:
// cardinality, data, integrity, syntax and access rules.
var never = []string{"21", "22", "23", "42"}

package store

import (
	"context"
	"errors"
	"strconv"

	"github.com/mtls-authz/mtls-authz/store/database"
	"github.com/mtls-authz/mtls-authz/store/record"
)

// Page is a part of a list.
type Page struct {
	// Number counts from 1, Size is the most that is returned. Defaults: 1, 50.
	Number, Size int
}

// Filter selects from a list by what is not empty.
type Filter struct {
	// ID is the id of an instance or a binding, InstanceID an instance and all
	// its bindings.
	ID, InstanceID string
}

// Audit returns a page of the audit, newest first, and how many entries there
// are in all.
func (s *Store) Audit(ctx context.Context, f Filter, p Page) (list []Entry, total int, err error) {
	return readPage(ctx, s, scanEntry, p, entryColumns,
		`FROM audit WHERE ($1 = '' OR id = $1) AND ($2 = '' OR instance_id = $2)`, `ORDER BY revision DESC, part DESC`, f.ID, f.InstanceID)
}

// Instances returns a page of all instances, oldest first, and how many there
// are. If some of the page are damaged, it returns the others together with an
// error that is [ErrDamaged].
func (s *Store) Instances(ctx context.Context, p Page) (list []Instance, total int, err error) {
	return readPage(ctx, s, record.ScanInstance, p, record.InstanceColumns, `FROM instances`, `ORDER BY created_at, id`)
}

// AllBindings does for bindings what Instances does for instances.
func (s *Store) AllBindings(ctx context.Context, p Page) (list []Binding, total int, err error) {
	return readPage(ctx, s, record.ScanBinding, p, record.BindingColumns, `FROM bindings`, `ORDER BY created_at, id`)
}

func readPage[T any](ctx context.Context, s *Store, scan database.Scanner[T], p Page, columns, from, order string, args ...any) ([]T, int, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	tx, err := s.db.Snapshot(ctx)
	if err != nil {
		return nil, 0, database.Unavailable(err)
	}
	defer func() { _ = tx.Rollback() }() // only read
	total, err := database.ReadNumber(ctx, tx, `SELECT COUNT(*) `+from, args...)
	if err != nil {
		return nil, 0, err
	}
	if p.Size < 1 {
		p.Size = 50
	}
	list, broken, err := database.ReadAll(ctx, tx, scan, `SELECT `+columns+` `+from+` `+order+` LIMIT `+strconv.Itoa(p.Size)+` OFFSET `+strconv.Itoa((max(p.Number, 1)-1)*p.Size), args...)
	return list, int(total), errors.Join(append(broken, err)...)
}

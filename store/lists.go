package store

import (
	"context"
	"database/sql"

	"github.com/mtls-authz/mtls-authz/store/database"
	"github.com/mtls-authz/mtls-authz/store/list"
)

// What lists are asked for, and what is in them.
type (
	// Page is a part of a list.
	Page = list.Page
	// InstanceFilter selects service instances.
	InstanceFilter = list.InstanceFilter
	// BindingFilter selects bindings.
	BindingFilter = list.BindingFilter
	// AuditFilter selects entries of the audit.
	AuditFilter = list.AuditFilter
	// BoundRoute is a binding with what is known around it.
	BoundRoute = list.BoundRoute
	// BoundID is a binding by its id.
	BoundID = list.BoundID
)

// Instances returns a page of the instances that the filter selects, by when
// they were made, and how many it selects in all, both at one moment. If some of
// the page are damaged, it returns the others together with an error that is
// [ErrDamaged].
func (s *Store) Instances(ctx context.Context, f InstanceFilter, p Page) (found []Instance, total int, err error) {
	err = s.snapshot(ctx, func(ctx context.Context, tx *sql.Tx) (err error) {
		found, total, err = list.Instances(ctx, tx, f, p)
		return err
	})
	return found, total, err
}

// AllBindings does for bindings what Instances does for instances. What other
// gateways have allowed in the last half minute may not count as used yet.
func (s *Store) AllBindings(ctx context.Context, f BindingFilter, p Page) (found []BoundRoute, total int, err error) {
	if !f.UnusedSince.IsZero() { // the database must know all that is known here
		if err := s.uses.Write(ctx); err != nil {
			return nil, 0, err
		}
	}
	err = s.snapshot(ctx, func(ctx context.Context, tx *sql.Tx) (err error) {
		found, total, err = list.Bindings(ctx, tx, f, p)
		return err
	})
	return s.used(found), total, err
}

// Around is what is known around bindings of one instance.
func (s *Store) Around(ctx context.Context, instance Instance, bindings []Binding) (found []BoundRoute, err error) {
	err = s.snapshot(ctx, func(ctx context.Context, tx *sql.Tx) (err error) {
		found, err = list.Around(ctx, tx, map[string]Instance{instance.ID: instance}, bindings)
		return err
	})
	return s.used(found), err
}

// used adds uses that are not written yet.
func (s *Store) used(found []BoundRoute) []BoundRoute {
	for i := range found {
		if last := s.uses.Last(found[i].ID); last.After(found[i].LastUsed) {
			found[i].LastUsed = last
		}
	}
	return found
}

// BindingIDs does the same and reads of each binding only its id and route: however
// large parameters are, a page of it is small.
func (s *Store) BindingIDs(ctx context.Context, f BindingFilter, p Page) (found []BoundID, total int, err error) {
	err = s.snapshot(ctx, func(ctx context.Context, tx *sql.Tx) (err error) {
		found, total, err = list.IDs(ctx, tx, f, p)
		return err
	})
	return found, total, err
}

// Audit does for the audit what Instances does for instances, by revision: a
// clock may step back, revisions do not.
func (s *Store) Audit(ctx context.Context, f AuditFilter, p Page) (found []Entry, total int, err error) {
	err = s.snapshot(ctx, func(ctx context.Context, tx *sql.Tx) (err error) {
		found, total, err = list.Audit(ctx, tx, f, p)
		return err
	})
	return found, total, err
}

// snapshot reads one moment of the database.
func (s *Store) snapshot(ctx context.Context, read func(context.Context, *sql.Tx) error) error {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	tx, err := s.db.Snapshot(ctx)
	if err != nil {
		return database.Unavailable(err)
	}
	defer func() { _ = tx.Rollback() }() // only read
	return read(ctx, tx)
}

package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/mtls-authz/mtls-authz/store/record"
)

// Instance returns a service instance, or [ErrNotFound].
func (s *Store) Instance(ctx context.Context, id string) (Instance, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	return record.ReadInstance(ctx, s.db, id)
}

// CreateInstance stores a new instance. If the id is there with the same
// content, it reports created = false; with other content, [ErrExists]. An id
// that was deleted in the last hour is [ErrDeleted].
func (s *Store) CreateInstance(ctx context.Context, cause Cause, i Instance) (created bool, err error) {
	return s.change(ctx, cause, i.ID, func(ctx context.Context, t *transaction) error {
		existing, err := record.ReadInstance(ctx, t, i.ID)
		if err == nil {
			if !existing.Same(i) {
				return fmt.Errorf("service instance %q %w", i.ID, ErrExists)
			}
			return errUnchanged
		}
		if !errors.Is(err, ErrNotFound) {
			return err
		}
		if err := t.refuseDeleted(ctx, record.KindInstance, i.ID); err != nil {
			return err
		}
		now := t.now.UnixMilli()
		err = t.exec(ctx, `INSERT INTO instances (`+record.InstanceColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
			i.ID, i.PlanID, i.Plan.String(), i.Owner.Org.String(), i.Owner.Space.String(), string(i.Parameters.JSON()), t.revision, now, cause.By, now, cause.By)
		if err != nil {
			return err
		}
		// What cannot be read back must not be acknowledged.
		stored, err := record.ReadInstance(ctx, t, i.ID)
		if err != nil {
			return err
		}
		return t.audit(ctx, Entry{Action: "create", Kind: record.KindInstance, ID: i.ID, After: stored.Content()})
	})
}

// UpdateInstance replaces plan and parameters of an instance by what f makes of
// it, in one transaction. An error of f leaves everything as it was.
func (s *Store) UpdateInstance(ctx context.Context, cause Cause, id string, f func(Instance) (Instance, error)) error {
	_, err := s.change(ctx, cause, id, func(ctx context.Context, t *transaction) error {
		current, err := record.ReadInstance(ctx, t, id)
		if err != nil {
			return err
		}
		next, err := f(current)
		if err != nil {
			return err
		}
		if next.PlanID == current.PlanID && next.Plan == current.Plan && record.SameParameters(next.Parameters, current.Parameters) {
			return errUnchanged
		}
		err = t.exec(ctx, `UPDATE instances SET plan_id = $1, plan_scope = $2, parameters = $3, revision = $4, updated_at = $5, updated_by = $6 WHERE id = $7`,
			next.PlanID, next.Plan.String(), string(next.Parameters.JSON()), t.revision, t.now.UnixMilli(), cause.By, id)
		if err != nil {
			return err
		}
		stored, err := record.ReadInstance(ctx, t, id)
		if err != nil {
			return err
		}
		return t.audit(ctx, Entry{Action: "update", Kind: record.KindInstance, ID: id, Before: current.Content(), After: stored.Content()})
	})
	return err
}

// DeleteInstance deletes an instance and whatever is still bound to it, or
// returns [ErrNotFound]. In both cases the id is not taken again for an hour.
func (s *Store) DeleteInstance(ctx context.Context, cause Cause, id string) error {
	return s.remove(ctx, cause, record.KindInstance, id, id)
}

package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/mtls-authz/mtls-authz/store/record"
)

// Binding returns a binding of an instance, or [ErrNotFound].
func (s *Store) Binding(ctx context.Context, instanceID, id string) (Binding, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	b, err := record.ReadBinding(ctx, s.db, id)
	if err == nil && b.InstanceID != instanceID {
		return Binding{}, ErrNotFound
	}
	return b, err
}

// Bindings returns the bindings of an instance, oldest first. If some are
// damaged, it returns the others together with an error that is [ErrDamaged].
func (s *Store) Bindings(ctx context.Context, instanceID string) ([]Binding, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	list, broken, err := record.ReadBindings(ctx, s.db, instanceID)
	return list, errors.Join(append(broken, err)...)
}

// CreateBinding stores a new binding and returns what is stored. If the id is
// there with the same content, it returns that with created = false, and the
// url that was given then; with other content, [ErrExists]. A missing instance
// is [ErrNotFound], an id that was deleted in the last hour [ErrDeleted].
func (s *Store) CreateBinding(ctx context.Context, cause Cause, b Binding) (stored Binding, created bool, err error) {
	created, err = s.change(ctx, cause, b.InstanceID, func(ctx context.Context, t *transaction) error {
		if _, err := record.ReadInstance(ctx, t, b.InstanceID); err != nil {
			return err
		}
		existing, err := record.ReadBinding(ctx, t, b.ID)
		if err == nil {
			if !existing.Same(b) {
				return fmt.Errorf("service binding %q %w", b.ID, ErrExists)
			}
			stored = existing
			return errUnchanged
		}
		if !errors.Is(err, ErrNotFound) {
			return err
		}
		if err := t.refuseDeleted(ctx, record.KindBinding, b.ID); err != nil {
			return err
		}
		err = t.exec(ctx, `INSERT INTO bindings (`+record.BindingColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
			b.ID, b.InstanceID, b.Route.String(), string(b.Parameters.JSON()), b.URL, t.revision, t.now.UnixMilli(), cause.By)
		if err != nil {
			return err
		}
		// What cannot be read back must not be acknowledged.
		if stored, err = record.ReadBinding(ctx, t, b.ID); err != nil {
			return err
		}
		return t.audit(ctx, Entry{Action: "create", Kind: record.KindBinding, ID: b.ID, After: stored.Content()})
	})
	return stored, created, err
}

// DeleteBinding deletes a binding of an instance, of whatever instance if
// instanceID is "", or returns [ErrNotFound]. In both cases the id is not taken
// again for an hour.
func (s *Store) DeleteBinding(ctx context.Context, cause Cause, instanceID, id string) error {
	return s.remove(ctx, cause, record.KindBinding, instanceID, id)
}

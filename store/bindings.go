package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/mtls-authz/mtls-authz/grants"
)

const bindingColumns = `id, instance_id, route, parameters, url, revision, created_at, created_by`

// Binding returns a binding of an instance, or [ErrNotFound].
func (s *Store) Binding(ctx context.Context, instanceID, id string) (Binding, error) {
	b, err := readBinding(ctx, s.db, id)
	if err == nil && b.InstanceID != instanceID {
		return Binding{}, ErrNotFound
	}
	return b, err
}

// Bindings returns the bindings of an instance, oldest first.
func (s *Store) Bindings(ctx context.Context, instanceID string) ([]Binding, error) {
	return readBindings(ctx, s.db, instanceID)
}

func readBinding(ctx context.Context, q querier, id string) (Binding, error) {
	return scanBinding(q.QueryRowContext(ctx, `SELECT `+bindingColumns+` FROM bindings WHERE id = $1`, id))
}

func readBindings(ctx context.Context, q querier, instanceID string) ([]Binding, error) {
	rows, err := q.QueryContext(ctx, `SELECT `+bindingColumns+` FROM bindings WHERE instance_id = $1 ORDER BY revision`, instanceID)
	if err != nil {
		return nil, unavailable(err)
	}
	defer rows.Close()
	var list []Binding
	for rows.Next() {
		b, err := scanBinding(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, b)
	}
	if err := rows.Err(); err != nil {
		return nil, unavailable(err)
	}
	return list, nil
}

func scanBinding(row scanner) (Binding, error) {
	var b Binding
	var route string
	var parameters []byte
	var created int64
	if err := row.Scan(&b.ID, &b.InstanceID, &route, &parameters, &b.URL, &b.Revision, &created, &b.CreatedBy); err != nil {
		return Binding{}, unavailable(err)
	}
	b.CreatedAt = time.UnixMilli(created).UTC()
	var routeErr, parametersErr error
	b.Route, routeErr = grants.ParseRoute(route)
	b.Parameters, parametersErr = grants.ParseStored(parameters)
	if err := errors.Join(routeErr, parametersErr); err != nil {
		return Binding{}, &damaged{fmt.Errorf("binding %q in the database is damaged: %w", b.ID, err)}
	}
	return b, nil
}

// CreateBinding stores a new binding and returns what is stored. If the id is
// there with the same content, it returns that with created = false, and the
// url that was given then; with other content, [ErrExists]. A missing instance
// is [ErrNotFound].
func (s *Store) CreateBinding(ctx context.Context, b Binding) (stored Binding, created bool, err error) {
	err = s.change(ctx, b.InstanceID, func(tx *sql.Tx, revision int64) error {
		if _, err := readInstance(ctx, tx, b.InstanceID); err != nil {
			return err
		}
		existing, err := readBinding(ctx, tx, b.ID)
		if err == nil {
			if existing.InstanceID != b.InstanceID || existing.Route != b.Route || !sameParameters(existing.Parameters, b.Parameters) {
				return fmt.Errorf("service binding %q %w", b.ID, ErrExists)
			}
			stored = existing
			return errUnchanged
		}
		if !errors.Is(err, ErrNotFound) {
			return err
		}
		now := s.now()
		_, err = tx.ExecContext(ctx, `INSERT INTO bindings (`+bindingColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
			b.ID, b.InstanceID, b.Route.String(), string(b.Parameters.JSON()), b.URL, revision, now.UnixMilli(), b.CreatedBy)
		if err != nil {
			return unavailable(err)
		}
		stored, stored.Revision, stored.CreatedAt = b, revision, now
		return nil
	})
	if errors.Is(err, errUnchanged) {
		return stored, false, nil
	}
	return stored, err == nil, err
}

// DeleteBinding deletes a binding of an instance, or returns [ErrNotFound].
func (s *Store) DeleteBinding(ctx context.Context, instanceID, id string) error {
	return s.change(ctx, instanceID, func(tx *sql.Tx, _ int64) error {
		return deleteOne(tx.ExecContext(ctx, `DELETE FROM bindings WHERE id = $1 AND instance_id = $2`, id, instanceID))
	})
}

// readBound reads an instance with its bindings; a deleted instance is
// [ErrNotFound].
func readBound(ctx context.Context, q querier, instanceID string) (Instance, []Binding, error) {
	instance, err := readInstance(ctx, q, instanceID)
	if err != nil {
		return Instance{}, nil, err
	}
	bindings, err := readBindings(ctx, q, instanceID)
	return instance, bindings, err
}

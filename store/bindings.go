package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/mtls-authz/mtls-authz/grants/parameters"
	"github.com/mtls-authz/mtls-authz/grants/route"
)

const bindingColumns = `id, instance_id, route, parameters, url, revision, created_at, created_by`

// Same reports whether other asks for the binding that b is: instance, route
// and parameters, as a repeated request would. The url is not asked for.
func (b Binding) Same(other Binding) bool {
	return b.ID == other.ID && b.InstanceID == other.InstanceID && b.Route == other.Route && sameParameters(b.Parameters, other.Parameters)
}

// Binding returns a binding of an instance, or [ErrNotFound].
func (s *Store) Binding(ctx context.Context, instanceID, id string) (Binding, error) {
	b, err := readBinding(ctx, s.db, id)
	if err == nil && b.InstanceID != instanceID {
		return Binding{}, ErrNotFound
	}
	return b, err
}

// Bindings returns the bindings of an instance, oldest first. If some are
// damaged, it returns the others together with an error that is [ErrDamaged].
func (s *Store) Bindings(ctx context.Context, instanceID string) ([]Binding, error) {
	list, broken, err := readBindings(ctx, s.db, instanceID)
	return list, errors.Join(append(broken, err)...)
}

func readBinding(ctx context.Context, q querier, id string) (Binding, error) {
	return readOne(ctx, q, scanBinding, `SELECT `+bindingColumns+` FROM bindings WHERE id = $1`, id)
}

func readBindings(ctx context.Context, q querier, instanceID string) (list []Binding, broken []error, err error) {
	return readAll(ctx, q, scanBinding, `SELECT `+bindingColumns+` FROM bindings WHERE instance_id = $1 ORDER BY revision`, instanceID)
}

func scanBinding(row *sql.Rows) (Binding, error) {
	var b Binding
	var text string
	var raw []byte
	var created int64
	if err := row.Scan(&b.ID, &b.InstanceID, &text, &raw, &b.URL, &b.Revision, &created, &b.CreatedBy); err != nil {
		return Binding{}, damage("binding", b.ID, err)
	}
	b.CreatedAt = time.UnixMilli(created).UTC()
	var routeErr, parametersErr, urlErr error
	b.Route, routeErr = route.Parse(text)
	b.Parameters, parametersErr = parameters.ParseStored(raw)
	if b.URL == "" {
		// Told to the platform, it would leave the route open.
		urlErr = errors.New("it has no route service url")
	}
	if err := errors.Join(routeErr, parametersErr, urlErr); err != nil {
		return Binding{}, damage("binding", b.ID, err)
	}
	return b, nil
}

// CreateBinding stores a new binding and returns what is stored. If the id is
// there with the same content, it returns that with created = false, and the
// url that was given then; with other content, [ErrExists]. A missing instance
// is [ErrNotFound].
func (s *Store) CreateBinding(ctx context.Context, b Binding) (stored Binding, created bool, err error) {
	created, err = s.change(ctx, b.InstanceID, func(tx *sql.Tx, revision int64) error {
		if _, err := readInstance(ctx, tx, b.InstanceID); err != nil {
			return err
		}
		existing, err := readBinding(ctx, tx, b.ID)
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
		_, err = tx.ExecContext(ctx, `INSERT INTO bindings (`+bindingColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
			b.ID, b.InstanceID, b.Route.String(), string(b.Parameters.JSON()), b.URL, revision, s.now().UnixMilli(), b.CreatedBy)
		if err != nil {
			return unavailable(err)
		}
		// What cannot be read back must not be acknowledged.
		stored, err = readBinding(ctx, tx, b.ID)
		return err
	})
	return stored, created, err
}

// DeleteBinding deletes a binding of an instance, or returns [ErrNotFound].
func (s *Store) DeleteBinding(ctx context.Context, instanceID, id string) error {
	_, err := s.change(ctx, instanceID, func(tx *sql.Tx, _ int64) error {
		return deleteOne(tx.ExecContext(ctx, `DELETE FROM bindings WHERE id = $1 AND instance_id = $2`, id, instanceID))
	})
	return err
}

package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/mtls-authz/mtls-authz/grants/parameters"

	"github.com/mtls-authz/mtls-authz/grants"
)

const instanceColumns = `id, plan_id, plan_scope, org, space, parameters, revision, created_at, created_by, updated_at, updated_by`

// Same reports whether other asks for the instance that i is: plan, owner and
// parameters, as a repeated request would.
func (i Instance) Same(other Instance) bool {
	return i.ID == other.ID && i.PlanID == other.PlanID && i.Owner.Org == other.Owner.Org && i.Owner.Space == other.Owner.Space &&
		sameParameters(i.Parameters, other.Parameters)
}

func sameParameters(a, b parameters.Parameters) bool { return bytes.Equal(a.JSON(), b.JSON()) }

// Instance returns a service instance, or [ErrNotFound].
func (s *Store) Instance(ctx context.Context, id string) (Instance, error) {
	return readInstance(ctx, s.db, id)
}

func readInstance(ctx context.Context, q querier, id string) (Instance, error) {
	return readOne(ctx, q, scanInstance, `SELECT `+instanceColumns+` FROM instances WHERE id = $1`, id)
}

func scanInstance(row *sql.Rows) (Instance, error) {
	var i Instance
	var scope, org, space string
	var raw []byte
	var created, updated int64
	err := row.Scan(&i.ID, &i.PlanID, &scope, &org, &space, &raw, &i.Revision, &created, &i.CreatedBy, &updated, &i.UpdatedBy)
	if err != nil {
		return Instance{}, damage("instance", i.ID, err)
	}
	i.CreatedAt, i.UpdatedAt = time.UnixMilli(created).UTC(), time.UnixMilli(updated).UTC()
	i.Owner.Instance = i.ID
	var scopeErr, parametersErr error
	i.Plan, scopeErr = grants.ParseScope(scope)
	i.Parameters, parametersErr = parameters.ParseStored(raw)
	err = errors.Join(scopeErr, parametersErr, i.Owner.Org.UnmarshalText([]byte(org)), i.Owner.Space.UnmarshalText([]byte(space)))
	if err != nil {
		return Instance{}, damage("instance", i.ID, err)
	}
	return i, nil
}

// CreateInstance stores a new instance. If the id is there with the same
// content, it reports created = false; with other content, [ErrExists].
func (s *Store) CreateInstance(ctx context.Context, i Instance) (created bool, err error) {
	return s.change(ctx, i.ID, func(tx *sql.Tx, revision int64) error {
		existing, err := readInstance(ctx, tx, i.ID)
		if err == nil {
			if !existing.Same(i) {
				return fmt.Errorf("service instance %q %w", i.ID, ErrExists)
			}
			return errUnchanged
		}
		if !errors.Is(err, ErrNotFound) {
			return err
		}
		now := s.now().UnixMilli()
		_, err = tx.ExecContext(ctx, `INSERT INTO instances (`+instanceColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
			i.ID, i.PlanID, i.Plan.String(), i.Owner.Org.String(), i.Owner.Space.String(), string(i.Parameters.JSON()), revision, now, i.CreatedBy, now, i.CreatedBy)
		if err != nil {
			return unavailable(err)
		}
		// What cannot be read back must not be acknowledged.
		_, err = readInstance(ctx, tx, i.ID)
		return err
	})
}

// UpdateInstance replaces plan and parameters of an instance by what f makes of
// it, in one transaction. An error of f leaves everything as it was.
func (s *Store) UpdateInstance(ctx context.Context, id, by string, f func(Instance) (Instance, error)) error {
	_, err := s.change(ctx, id, func(tx *sql.Tx, revision int64) error {
		current, err := readInstance(ctx, tx, id)
		if err != nil {
			return err
		}
		next, err := f(current)
		if err != nil {
			return err
		}
		if next.PlanID == current.PlanID && next.Plan == current.Plan && sameParameters(next.Parameters, current.Parameters) {
			return errUnchanged
		}
		_, err = tx.ExecContext(ctx, `UPDATE instances SET plan_id = $1, plan_scope = $2, parameters = $3, revision = $4, updated_at = $5, updated_by = $6 WHERE id = $7`,
			next.PlanID, next.Plan.String(), string(next.Parameters.JSON()), revision, s.now().UnixMilli(), by, id)
		if err != nil {
			return unavailable(err)
		}
		_, err = readInstance(ctx, tx, id)
		return err
	})
	return err
}

// DeleteInstance deletes an instance and whatever is still bound to it, or
// returns [ErrNotFound].
func (s *Store) DeleteInstance(ctx context.Context, id string) error {
	_, err := s.change(ctx, id, func(tx *sql.Tx, _ int64) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM bindings WHERE instance_id = $1`, id); err != nil {
			return unavailable(err)
		}
		return deleteOne(tx.ExecContext(ctx, `DELETE FROM instances WHERE id = $1`, id))
	})
	return err
}

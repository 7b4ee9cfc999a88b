// Package record is what a row of the database says about an instance or a
// binding. It trusts the database's content, since the store wrote it, but
// rebuilds every grant through the parser; a row that does not parse is
// damaged, and never half an instance or binding.
package record

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/parameters"
	"github.com/mtls-authz/mtls-authz/store/database"
)

// Instance is a service instance.
type Instance struct {
	ID string
	// PlanID is the plan's id in the catalog, Plan the scope that it sets.
	PlanID     string
	Plan       grants.Scope
	Owner      grants.Owner
	Parameters parameters.Parameters
	// Revision is the store's revision at the last change.
	Revision             int64
	CreatedAt, UpdatedAt time.Time
	// CreatedBy and UpdatedBy are originating identities as the platform
	// named them; "" where it named nobody.
	CreatedBy, UpdatedBy string
}

// InstanceColumns are those that [ScanInstance] takes.
const InstanceColumns = `id, plan_id, plan_scope, org, space, parameters, revision, created_at, created_by, updated_at, updated_by`

// Same reports whether other asks for the instance that i is: plan, owner and
// parameters, as a repeated request would.
func (i Instance) Same(other Instance) bool {
	return i.ID == other.ID && i.PlanID == other.PlanID && i.Owner.Org == other.Owner.Org && i.Owner.Space == other.Owner.Space &&
		SameParameters(i.Parameters, other.Parameters)
}

// SameParameters reports whether the canonical forms are equal.
func SameParameters(a, b parameters.Parameters) bool { return bytes.Equal(a.JSON(), b.JSON()) }

// ReadInstance returns an instance, or [database.ErrNotFound].
func ReadInstance(ctx context.Context, q database.Querier, id string) (Instance, error) {
	return database.ReadOne(ctx, q, ScanInstance, `SELECT `+InstanceColumns+` FROM instances WHERE id = $1`, id)
}

// ScanInstance is a [database.Scanner].
func ScanInstance(row *sql.Rows) func() (Instance, error) {
	var i Instance
	var scope, org, space string
	var raw []byte
	var created, updated int64
	err := row.Scan(&i.ID, &i.PlanID, &scope, &org, &space, &raw, &i.Revision, &created, &i.CreatedBy, &updated, &i.UpdatedBy)
	return func() (Instance, error) {
		if err != nil {
			return Instance{}, database.Damage("instance", i.ID, err)
		}
		i.CreatedAt, i.UpdatedAt = time.UnixMilli(created).UTC(), time.UnixMilli(updated).UTC()
		i.Owner.Instance = i.ID
		var scopeErr, parametersErr error
		i.Plan, scopeErr = grants.ParseScope(scope)
		i.Parameters, parametersErr = parameters.ParseStored(raw)
		err := errors.Join(scopeErr, parametersErr, i.Owner.Org.UnmarshalText([]byte(org)), i.Owner.Space.UnmarshalText([]byte(space)))
		if err != nil {
			return Instance{}, database.Damage("instance", i.ID, err)
		}
		return i, nil
	}
}

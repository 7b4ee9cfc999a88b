package view

import (
	"context"
	"database/sql"
	"time"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/parameters"
	"github.com/mtls-authz/mtls-authz/store/database"
	"github.com/mtls-authz/mtls-authz/store/record"
)

// loadTimeout bounds reading everything.
const loadTimeout = time.Minute

// Damaged are the rows that could not be read when everything was: their routes
// refuse all.
func (v *View) Damaged() []error { return *v.damaged.Load() }

// Read reads what the view holds of an instance. A deleted instance has
// nothing; nor has a damaged one, which admits nobody but can be deleted.
// Damaged bindings are left out.
func (v *View) Read(ctx context.Context, q database.Querier, instanceID string) ([]*grants.Access, error) {
	instances, _, err := database.ReadAll(ctx, q, record.ScanInstance, `SELECT `+record.InstanceColumns+` FROM instances WHERE id = $1`, instanceID)
	if err != nil || len(instances) == 0 {
		return nil, err
	}
	bindings, _, err := record.ReadBindings(ctx, q, instanceID)
	of := newOwner(instances[0])
	bound := make([]*grants.Access, len(bindings))
	database.InParallel(len(bindings), func(i int) { bound[i] = v.newAccess(of, bindings[i]) })
	return bound, err
}

// owner is an instance with what its routes share.
type owner struct {
	record.Instance
	common *grants.Common
}

func newOwner(i record.Instance) owner { return owner{i, grants.NewCommon(i.Parameters.Allow)} }

func (v *View) newAccess(of owner, b record.Binding) *grants.Access {
	return parameters.NewAccess(parameters.Bound{
		Binding: b.ID, Route: b.Route, Owner: of.Owner, Plan: of.Plan, Revision: max(of.Revision, b.Revision),
		Instance: of.Parameters, OfBinding: b.Parameters, Common: of.common, ReportAllowed: v.cfg.ReportAllowed, Names: v.cfg.Names,
	})
}

// scanOwner is a [database.Scanner].
func scanOwner(row *sql.Rows) func() (owner, error) {
	parse := record.ScanInstance(row)
	return func() (owner, error) {
		instance, err := parse()
		return newOwner(instance), err
	}
}

// Load fills the view from the database. A damaged row leaves its instance or
// binding out, which admits nobody to its routes; it is kept for
// [View.Damaged] and does not keep the others from being served.
func (v *View) Load(ctx context.Context) error {
	started := v.cfg.Now()
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	tx, err := v.db.Snapshot(ctx) // one moment for all tables
	if err != nil {
		return database.Unavailable(err)
	}
	defer func() { _ = tx.Rollback() }() // only read
	revision, err := database.ReadNumber(ctx, tx, `SELECT revision FROM counter WHERE id = 1`)
	if err != nil {
		return err
	}
	owners, broken, err := database.ReadAll(ctx, tx, scanOwner, `SELECT `+record.InstanceColumns+` FROM instances`)
	if err != nil {
		return err
	}
	byID := make(map[string]owner, len(owners))
	all := make(map[string][]*grants.Access, len(owners))
	for _, one := range owners {
		byID[one.ID] = one
	}
	total, err := database.ReadNumber(ctx, tx, `SELECT COUNT(*) FROM bindings`)
	if err != nil {
		return err
	}
	loaded, brokenToo, err := database.ReadAll(ctx, tx, v.scanAccess(byID, int(total)), `SELECT `+record.BindingColumns+` FROM bindings`)
	if err != nil {
		return err
	}
	for _, access := range loaded {
		if access != nil {
			all[access.Owner.Instance] = append(all[access.Owner.Instance], access)
		}
	}
	broken = append(broken, brokenToo...)
	v.damaged.Store(&broken)
	v.replaceAll(revision, all)
	v.contact.Store(&contact{at: started})
	return nil
}

// scanAccess makes accesses where readAll parses: in parallel, and without
// keeping all bindings. Those of damaged instances are nil.
func (v *View) scanAccess(owners map[string]owner, total int) database.Scanner[*grants.Access] {
	loaded := 0
	return func(row *sql.Rows) func() (*grants.Access, error) {
		if loaded++; loaded%10_000 == 0 {
			v.cfg.Progress(loaded, total)
		}
		parse := record.ScanBinding(row)
		return func() (*grants.Access, error) {
			binding, err := parse()
			if err != nil {
				return nil, err
			}
			of, ok := owners[binding.InstanceID]
			if !ok {
				return nil, nil
			}
			return v.newAccess(of, binding), nil
		}
	}
}

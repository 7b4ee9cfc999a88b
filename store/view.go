package store

import (
	"context"
	"database/sql"
	"sync"

	"github.com/mtls-authz/mtls-authz/grants/parameters"

	"github.com/mtls-authz/mtls-authz/grants"
)

// A View is the state in memory, ready to decide by: the effective access of
// every binding. Reads take no lock and never wait for the database.
type View struct {
	reportAllowed bool
	access        sync.Map // binding id -> *grants.Access

	mu         sync.Mutex
	ofInstance map[string][]string // instance id -> binding ids
}

func newView(reportAllowed bool) *View {
	return &View{reportAllowed: reportAllowed, ofInstance: map[string][]string{}}
}

// Access returns what applies to a binding; nil if there is no such binding.
func (v *View) Access(bindingID string) *grants.Access {
	if found, ok := v.access.Load(bindingID); ok {
		return found.(*grants.Access)
	}
	return nil
}

// set replaces what the view holds of one instance; a zero instance removes it.
func (v *View) set(instanceID string, instance Instance, bindings []Binding) {
	v.mu.Lock()
	defer v.mu.Unlock()
	former := v.ofInstance[instanceID]
	delete(v.ofInstance, instanceID)
	kept := make(map[string]bool, len(bindings))
	for _, b := range bindings {
		v.access.Store(b.ID, parameters.NewAccess(parameters.Bound{
			Binding: b.ID, Route: b.Route, Owner: instance.Owner, Plan: instance.Plan,
			Revision: max(instance.Revision, b.Revision),
			Instance: instance.Parameters, OfBinding: b.Parameters,
			ReportAllowed: v.reportAllowed,
		}))
		kept[b.ID] = true
		v.ofInstance[instanceID] = append(v.ofInstance[instanceID], b.ID)
	}
	for _, id := range former {
		if !kept[id] {
			v.access.Delete(id)
		}
	}
}

// load fills the view from the database. A damaged row leaves its instance or
// binding out, which admits nobody to its routes; it is kept for [Store.Damaged]
// and does not keep the others from being served.
func (s *Store) load(ctx context.Context) error {
	tx, err := s.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true}) // one moment for both tables
	if err != nil {
		return unavailable(err)
	}
	defer func() { _ = tx.Rollback() }() // only read
	instances, broken, err := readAll(ctx, tx, scanInstance, `SELECT `+instanceColumns+` FROM instances`)
	if err != nil {
		return err
	}
	bindings, brokenToo, err := readAll(ctx, tx, scanBinding, `SELECT `+bindingColumns+` FROM bindings ORDER BY revision`)
	if err != nil {
		return err
	}
	s.damaged = append(broken, brokenToo...)
	bound := make(map[string][]Binding, len(instances))
	for _, binding := range bindings {
		bound[binding.InstanceID] = append(bound[binding.InstanceID], binding)
	}
	for _, instance := range instances {
		s.view.set(instance.ID, instance, bound[instance.ID])
	}
	return nil
}

// Damaged are the rows that could not be read at start: their routes refuse all.
func (s *Store) Damaged() []error { return s.damaged }

package list

import (
	"context"
	"time"

	"github.com/mtls-authz/mtls-authz/store/database"
	"github.com/mtls-authz/mtls-authz/store/record"
)

// InstanceFilter selects service instances. Of each field that is not empty,
// one value must be the instance's; so it is with every filter here.
type InstanceFilter struct {
	IDs, Organizations, Spaces []string
	// Plans are names of scopes.
	Plans []string
}

// BindingFilter selects bindings.
type BindingFilter struct {
	IDs, InstanceIDs, Organizations, Spaces []string
	// Routes are host[/path] in lower case, Hosts the hosts of routes with any
	// path; "*.example.com" is that wildcard alone.
	Routes, Hosts []string
	// UnusedSince selects what was not used at this time or later; what was
	// never used, if it was made before. It goes by whole seconds and leaves
	// out what it cannot tell. Zero: all.
	UnusedSince time.Time
}

// AuditFilter selects entries of the audit.
type AuditFilter struct {
	// IDs are those of instances and bindings, InstanceIDs select an instance
	// and all its bindings.
	IDs, InstanceIDs, Kinds, Actions []string
	// By are originating identities; "" is nobody's.
	By []string
	// From is when the first may have been made, To when none may any more.
	// Zero: no bound.
	From, To time.Time
}

// Instances reads a page of the instances, by when they were made, and how many
// there are in all.
func Instances(ctx context.Context, q database.Querier, f InstanceFilter, p Page) ([]record.Instance, int, error) {
	var c conditions
	c.in(`id IN (%)`, f.IDs)
	c.in(`org IN (%)`, f.Organizations)
	c.in(`space IN (%)`, f.Spaces)
	c.in(`plan_scope IN (%)`, f.Plans)
	instances := table[record.Instance]{`instances`, record.InstanceColumns, record.ScanInstance, [2]string{`created_at`, `id`}, `LENGTH(parameters)`, nil}
	return instances.read(ctx, q, c, p)
}

// Audit reads a page of the audit, by revision, and how many entries there are
// in all.
func Audit(ctx context.Context, q database.Querier, f AuditFilter, p Page) ([]record.Entry, int, error) {
	var c conditions
	c.in(`id IN (%)`, f.IDs)
	c.in(`instance_id IN (%)`, f.InstanceIDs)
	c.in(`kind IN (%)`, f.Kinds)
	c.in(`action IN (%)`, f.Actions)
	c.in(`made_by IN (%)`, f.By)
	if !f.From.IsZero() {
		c.add(`made_at >= ` + c.arg(milliseconds(f.From)))
	}
	if !f.To.IsZero() {
		c.add(`made_at < ` + c.arg(milliseconds(f.To)))
	}
	audit := table[record.Entry]{`audit`, record.EntryColumns, record.ScanEntry, [2]string{`revision`, `part`}, `LENGTH(content_before) + LENGTH(content_after)`, nil}
	return audit.read(ctx, q, c, p)
}

// milliseconds rounds up: what the database holds is exact to the millisecond.
func milliseconds(t time.Time) int64 { return t.Add(time.Millisecond - 1).UnixMilli() }

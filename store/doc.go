// Package store is what Cloud Foundry told us: service instances, bindings,
// the ids that were deleted, the keys made once, the audit of all changes, when
// bindings were last used and who called them, and the revision that orders the
// changes.
//
// The database is the truth, and several gateways may share one. Every change
// is one transaction, which takes the revision first and writes the audit; it
// is in the [view.View] before its caller learns that it succeeded, so an
// answer of the broker means "in force here", and in the views of the other
// gateways within PollInterval, or as soon as PostgreSQL tells them. The
// package trusts the database's content (it wrote it) but rebuilds every grant
// through the parser; a row that does not parse protects its route by admitting
// nobody. Without the database, the view serves on and changes are refused.
package store

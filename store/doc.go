// Package store is what Cloud Foundry told us: service instances, bindings,
// the keys made once, and the revision that orders all changes; and the
// in-memory [View] of it that requests read.
//
// The database is the truth. Every change is one transaction, and it is in the
// view before its caller learns that it succeeded, so an answer of the broker
// means "in force here". The package trusts the database's content (it wrote
// it) but rebuilds every grant through the parser; a row that does not parse
// protects its route by admitting nobody.
package store

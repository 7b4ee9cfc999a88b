// Package database opens the database of the state, SQLite or PostgreSQL,
// brings its schema up to date, and knows the few things in which the two
// differ. The queries are the callers', and the same for both.
//
// Migrations only expand: a release runs on its own schema and on that of the
// next. No error shows a password.
package database

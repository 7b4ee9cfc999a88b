// Package author is what the commands for policy authors do: check, test, eval,
// build and diff, each a function that writes for people or in JSON.
//
// It takes bundles through the same gate as the gateway does and decides with the
// same code, so that what it says is what would happen. It trusts nothing in a
// bundle. It fails closed: what could not be checked to its end is an error, and
// the error ends the command with another status than 0.
package author

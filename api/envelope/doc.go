// Package envelope is what stands around every endpoint of /v1: credentials, turns,
// methods, answers, and refusals that people can read.
//
// It trusts nothing before the password, and nobody but the operators to change
// anything: every method but GET, HEAD and OPTIONS is a change, except POST to a
// path that was added as a question. It fails closed, and tells a client of an
// error only what it may know.
package envelope

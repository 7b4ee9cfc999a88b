// Package bundle reads, checks, tests and compiles what a policy is made of:
// the built-in Rego and the operator's bundle beside it.
//
// It treats the operator's bundle as code that may only narrow. What would
// silently weaken it is refused: a definition below data.mtls, a check that
// cannot decide, a file that would not be read, data that is not there, a test
// that fails. It fails closed: there is a [Bundle] with everything in force, or
// an error that names file and line.
package bundle

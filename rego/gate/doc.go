// Package gate is what a bundle must pass before it is activated: it refuses,
// compiles and tests the operator's bundle beside the built-in Rego.
//
// It treats the operator's bundle as code that may only narrow. What would
// silently weaken it is refused: a definition below data.mtls, a check that
// cannot decide, a name that is read and is not there, a builtin that reaches
// outside or cannot be bounded, a test that fails. It fails closed: there is a
// [Compiled] with everything in force, or an error that lists what is wrong,
// with file and line.
package gate

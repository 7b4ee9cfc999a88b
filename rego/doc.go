// Package rego says what the policy says: it turns the effective access of a
// route, the caller and the request into a [Decision], by the built-in Rego
// and the operator's bundle beside it. It is the only place that knows Open
// Policy Agent.
//
// It trusts the built-in policy and treats the operator's bundle as code that
// may only narrow: a bundle that defines anything below data.mtls, or a check
// that cannot decide, is not compiled. It fails closed by type: the zero
// Decision denies, and whatever is not exactly one well-formed decision within
// the deadline is an error, which denies.
package rego

// Package reads tells what a compiled policy can read of a request, and so what
// a remembered decision must be keyed by.
//
// It walks the compiled rules itself and always says too much rather than too
// little: what takes a document in hand reads all of it. Only the built-in
// rule that matches grants is narrowed, by partial evaluation with the shape of
// the route's grants known; the operator's checks never are, because a branch
// that cannot hold can still be in error, and errors decide too. It trusts the
// built-in policy to treat all guids, methods and patterns of one shape alike,
// which the tests hold it to. It fails towards the longer key: where narrowing
// errors or takes too long, everything that the policy reads is in the key.
//
// OPA's own dependencies package is of no use here: it loses input that is
// handed to a "with", and does not end on some bodies.
package reads

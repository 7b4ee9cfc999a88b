// Package grants is what a route's owner and the operator allow. It reads the
// parameters of service instances and bindings, patches them, and merges them
// into the effective [Access] of a route, in which every grant keeps its
// origin; and it matches a request against them.
//
// Grants are data: who may pass is always an enumerable list. The package
// trusts nothing it parses and names the entry that it refuses. It fails
// closed: a zero [Source] matches nobody, a zero [Scope] admits nobody, a zero
// [Access] has no grants, and an expired grant is not there.
package grants

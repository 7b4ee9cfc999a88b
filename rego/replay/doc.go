// Package replay has a policy decide again what package recording wrote: it
// reads the JSON Lines, rebuilds the requests and decides them as the gateway
// would.
//
// It trusts none of it. Lines are closed documents, and guids, routes and grants
// go through the same parsers as everywhere; a line that is not exactly one of
// ours is an error that names its number. Lines leave things out, and name them:
// a policy that can read something left out cannot decide the line, which is
// [ErrNotRecorded] and never "the same as before".
package replay

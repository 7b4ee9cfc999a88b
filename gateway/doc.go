// Package gateway is the route service: it stands between gorouter and the
// apps, and walks each request through admit, binding, target, caller, guard
// and decide before it refuses or forwards it. Its handler reads as that walk.
//
// It trusts the state and the policy it was given, the caller CAs, and a router
// only once the self-test has proven it. It trusts no header: the names that
// it sends to apps are deleted from every request before anything can fail. It
// fails closed: every step returns a documented sentinel, one table maps
// sentinels to answers, and what is not in the table is refused as an internal
// error.
package gateway

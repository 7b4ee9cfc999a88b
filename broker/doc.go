// Package broker is the Open Service Broker API (v2.17) of the gateway, all
// synchronous: service instances carry the parameters that allow callers,
// bindings put a route behind the gateway.
//
// It trusts Cloud Controller, once authenticated, for who owns what, and
// nothing in the developer's parameters. It fails closed: a binding is answered
// only with its route service URL, because Cloud Controller accepts an answer
// without one and leaves the route open; what cannot be stored is an error.
// Bad parameters are always 400: other codes make Cloud Controller delete.
package broker

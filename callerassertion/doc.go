// Package callerassertion lets an app behind the gateway verify that a request
// was allowed by the gateway and did not go around it: over a container network,
// another route, or after an unbind. Routes of a service instance with
// "assert": true carry the header X-Mtls-Authz-Assertion, which the gateway signs
// for one request; docs/verify-the-caller.md says how to use it.
//
// It trusts the keys that it fetches over https from the gateway's URL, which the
// app's author configures, and nothing that a request says of keys. It fails
// closed: without the keys, or with any doubt, the request is refused. It imports
// the standard library only.
package callerassertion

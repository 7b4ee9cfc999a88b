// Package acceptance tests the built binary from outside: the gateway as a
// child process in the middle of a playground, or of a real gorouter, one
// behaviour a test. It has no code but tests.
//
// MTLS_AUTHZ_BIN names the binary to test; without it one is built, with the
// race detector. GOROUTER_BIN names a gorouter to use instead of the stand-in
// (nats-server must be on the path). MTLS_AUTHZ_HEAVY=1 makes bodies 1 GiB.
package acceptance

// Package acceptance tests the built binary from outside: the gateway as a
// child process in the middle of a playground, or of a real gorouter, one
// behaviour a test. It has no code but tests.
//
// The sequences play Cloud Controller against gateways without a foundation
// around them, one on SQLite and two on a PostgreSQL of the tests' own; S1 to S22
// number what Cloud Controller does to a broker. The faults end processes in the
// midst of it.
//
// MTLS_AUTHZ_BIN names the binary to test; without it one is built, with the
// race detector. GOROUTER_BIN names a gorouter to use instead of the stand-in
// (nats-server must be on the path). MTLS_AUTHZ_HEAVY=1 makes bodies 1 GiB and
// kills the gateway 200 times, revokes 1080, and leaves 10,000 connections idle.
// SOAK_TIME=20m runs the soak, which compares every answer with an oracle. MTLS_AUTHZ_SEED plays the random steps of a failed
// test again, as its log says.
package acceptance

// Package playground is a Cloud Foundry on one machine, with the gateway in its
// middle: a certificate authority, a router, Cloud Controller's broker client,
// a few apps, and "mtls-authz serve" as a child process. It shows the gateway to
// newcomers and carries the acceptance tests.
//
// It trusts everything, since it made everything, and listens on loopback only.
// It fails by an error, and leaves no process and no file behind.
package playground

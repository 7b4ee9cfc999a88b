// Package osb is the envelope of the Open Service Broker API around
// brokerapi, which leaves it to its users: who may call and how many at once,
// which version, bodies that are well-formed, errors in JSON that Cloud
// Controller shows to the developer, the request identity on every answer,
// recovery, and one log line for each change.
//
// It trusts nothing before the password. It fails closed: what it does not
// understand is a 4xx that makes Cloud Controller neither delete nor believe
// that something was done. Nothing of a body is logged.
package osb

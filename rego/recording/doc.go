// Package recording keeps the last decisions with what they were about, so that
// a policy author can see what another policy would have decided: package replay
// reads what it writes.
//
// What is kept is bounded in entries and in bytes, and keeping it costs a request
// next to nothing. It holds no header, no query and no secret; of the grants of a
// route it writes those to the caller only, and names what it leaves out.
//
// It trusts the gateway, which verified callers and targets. It fails towards
// keeping less: what is too large is left out, and said to be.
package recording

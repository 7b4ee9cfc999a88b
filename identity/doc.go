// Package identity answers one question: who calls? It turns the
// X-Forwarded-Client-Cert header that gorouter sets into a verified [Caller],
// or into a named refusal.
//
// It trusts the caller CAs it was given and nothing else: not the header, not
// the system's roots, not the router's own verification (gorouter accepts
// client certificates of every CA it knows). It fails closed: the zero
// [Caller] is nobody, a zero [GUID] is no app, and every doubt is one of the
// sentinel errors below.
package identity

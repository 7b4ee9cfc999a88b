// Package candidate has a second policy decide a share of live requests beside
// the one in force, and reports where it would decide otherwise, before anybody
// depends on it.
//
// It trusts neither the candidate's speed nor its health: requests only hand
// over what they were, without waiting; one goroutine evaluates, within bounds
// of evaluations and of time; what does not fit is dropped and counted. Nothing
// that happens here can change an answer. It fails towards silence that is
// visible: a candidate that hangs or fails shows as dropped decisions and as
// errors.
package candidate

// Package release makes the archive of a bundle that a gateway reads: always the
// same bytes of the same files, with a revision, and signed if there is a key.
//
// It trusts nothing: what it has made it reads again, as a gateway with the
// public key would, before anybody gets it. No key, and no part of one, is in any
// text that it writes or returns as an error.
package release

package cache

import (
	"time"

	"github.com/mtls-authz/mtls-authz/rego"
)

// Key is the digest of what a decision depends on.
type Key = key

// KeyOf, NameOf, Seal and Open are what is stored in Redis, for tests that
// forge it.
var KeyOf, NameOf = keyOf, name

// Seal writes an entry.
func Seal(s *Shared, k Key, d rego.Decision, notAfter time.Time) []byte {
	return s.seal(k, entry{d, notAfter})
}

// Open reads one.
func Open(s *Shared, k Key, value []byte) (rego.Decision, time.Time, bool) {
	e, ok := s.open(k, value)
	return e.decision, e.notAfter, ok
}

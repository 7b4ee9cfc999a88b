package cache

import (
	"time"

	"github.com/mtls-authz/mtls-authz/cache/entry"
	"github.com/mtls-authz/mtls-authz/rego"
)

// Key is the digest of what a decision depends on.
type Key = entry.Key

// NameOf is where an entry is in Redis.
var NameOf = name

// KeyOf, Seal and Open are what is stored in Redis, for tests that forge it.
func KeyOf(r *rego.Request) Key { return VersionKeyOf(r, "") }

// VersionKeyOf is the key of another version of the gateway.
func VersionKeyOf(r *rego.Request, version string) Key {
	k, _ := (&Cache{cfg: Config{Version: version}}).keyOf(r, r.Key())
	return k
}

// Seal writes an entry.
func Seal(s *Shared, k Key, d rego.Decision, notAfter time.Time) []byte {
	return s.seal.Write(k, entry.Entry{Decision: d, NotAfter: notAfter})
}

// Open reads one.
func Open(s *Shared, k Key, value []byte) (rego.Decision, time.Time, bool) {
	e, ok := s.seal.Read(k, value)
	return e.Decision, e.NotAfter, ok
}

package cache

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/mtls-authz/mtls-authz/cache/entry"
	"github.com/mtls-authz/mtls-authz/rego"
	"github.com/mtls-authz/mtls-authz/rego/reads"
)

// formatVersion changes when the meaning of keys or entries does.
const formatVersion = 3

// keyOf digests the gateway's version, the policy, the binding's revision with
// its set of unexpired grants (which the next expiry and what names stand for
// identify within a revision), and the values that the policy can read. It also returns how long
// these values are.
func (c *Cache) keyOf(r *rego.Request, needed *reads.Key) (k entry.Key, free int) {
	b := make([]byte, 0, 1<<10) // on the stack unless the values are longer
	digest := r.Policy.Digest()
	b = append(b, formatVersion)
	b = appendText(b, c.cfg.Version)
	b = append(b, digest[:]...)
	b = appendText(b, r.Live.Binding)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Live.Revision))
	b = binary.BigEndian.AppendUint64(b, nanos(r.Live.Until))
	b = appendText(b, r.Live.Resolution)
	b = binary.BigEndian.AppendUint32(b, uint32(needed.Paths))
	fixed := len(b)
	b = r.AppendPaths(b, needed.Paths)
	return sha256.Sum256(b), len(b) - fixed
}

// nanos is 0 for a grant set that never expires.
func nanos(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(t.UnixNano())
}

func appendText(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}

// Package entry is a remembered decision: how it is kept in memory, and how it
// is written where others can write too.
//
// It trusts the MAC key and nothing that it reads: an entry is for its key and
// until its end only, and what is not byte for byte what an instance of this
// gateway wrote is no entry.
package entry

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"math"
	"sync"
	"time"

	"github.com/mtls-authz/mtls-authz/rego"
)

// A Key is the SHA-256 of everything that a decision depends on. Every part has
// its length, so different parts are different text; nobody can find two texts
// of one digest.
type Key [sha256.Size]byte

// An Entry is a remembered decision and when it ends.
type Entry struct {
	Decision rego.Decision
	NotAfter time.Time
}

// overhead is what an entry takes in memory beside its texts, in bytes: key,
// decision, end and the nodes of the tables.
const overhead = 256

// Size is about what the entry takes in memory, in bytes.
func (e Entry) Size() uint32 {
	size := overhead + len(e.Decision.Policy) + len(e.Decision.Reason)
	for _, header := range e.Decision.Headers {
		size += len(header.Name) + len(header.Value) + 2*16
	}
	return uint32(min(size, math.MaxUint32))
}

// A Seal makes entries that only holders of its key can make. It is safe for
// concurrent use.
type Seal struct{ macs sync.Pool } // of hash.Hash

// NewSeal returns the seal of a MAC key, which must not be empty.
func NewSeal(macKey []byte) *Seal {
	if len(macKey) == 0 {
		panic("entry: a seal needs a key: anybody could make entries")
	}
	s := &Seal{}
	s.macs.New = func() any { return hmac.New(sha256.New, macKey) }
	return s
}

// An entry in Redis is the MAC, then what it covers beside the key: the end in
// nanoseconds, allow, and the texts of the decision with their lengths.

// Write seals an entry for its key.
func (s *Seal) Write(k Key, e Entry) []byte {
	b := make([]byte, sha256.Size, sha256.Size+64)
	b = binary.BigEndian.AppendUint64(b, uint64(e.NotAfter.UnixNano()))
	b = append(b, 0)
	if e.Decision.Allow {
		b[len(b)-1] = 1
	}
	for _, text := range []string{e.Decision.Policy, e.Decision.Reason} {
		b = appendShort(b, text)
	}
	for _, header := range e.Decision.Headers {
		b = appendShort(appendShort(b, header.Name), header.Value)
	}
	s.mac(b[:0], k, b[sha256.Size:])
	return b
}

func appendShort(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// Read opens what Write sealed for this key, and nothing else.
func (s *Seal) Read(k Key, value []byte) (Entry, bool) {
	if len(value) < sha256.Size {
		return Entry{}, false
	}
	var expected [sha256.Size]byte
	body := value[sha256.Size:]
	if !hmac.Equal(value[:sha256.Size], s.mac(expected[:0], k, body)) {
		return Entry{}, false
	}
	return parse(body)
}

// parse reads the body of an entry. Its MAC is right, but nothing is taken on
// trust: whatever is not exactly an entry is none.
func parse(body []byte) (Entry, bool) {
	if len(body) < 9 || body[8] > 1 {
		return Entry{}, false
	}
	e := Entry{NotAfter: time.Unix(0, int64(binary.BigEndian.Uint64(body)))}
	e.Decision.Allow = body[8] == 1
	var texts []string
	for rest := body[9:]; len(rest) > 0; {
		length, n := binary.Uvarint(rest)
		if n <= 0 || length > uint64(len(rest)-n) {
			return Entry{}, false
		}
		texts = append(texts, string(rest[n:n+int(length)]))
		rest = rest[n+int(length):]
	}
	if len(texts) < 2 || len(texts)%2 != 0 {
		return Entry{}, false
	}
	e.Decision.Policy, e.Decision.Reason = texts[0], texts[1]
	for i := 2; i < len(texts); i += 2 {
		e.Decision.Headers = append(e.Decision.Headers, rego.Header{Name: texts[i], Value: texts[i+1]})
	}
	return e, true
}

// mac appends the MAC of a key and a body.
func (s *Seal) mac(to []byte, k Key, body []byte) []byte {
	h := s.macs.Get().(hash.Hash)
	defer s.macs.Put(h)
	h.Reset()
	h.Write(k[:])
	h.Write(body)
	return h.Sum(to)
}

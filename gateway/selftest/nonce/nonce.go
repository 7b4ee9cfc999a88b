// Package nonce makes the words by which a gateway knows its own probes again:
// each for one binding, host and path, good once and for 30 seconds, under a MAC
// whose key all instances have.
//
// It trusts the key. It fails closed: what it did not make, or knows already, is
// not a nonce. Instances do not tell one another which nonces are spent: one that
// was spent here may be spent elsewhere within its 30 seconds, and whoever does so
// learns only what he sent.
package nonce

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

const (
	// Life is how long a nonce is good, either way of the clock of whoever made it.
	Life = 30 * time.Second
	// remembered is how many spent ones are known again: more than a gateway can
	// be asked in their life, for nobody else makes them.
	remembered = 10_000
	rawLength  = 24
)

// Purpose is what a nonce is for; with any other it is none.
type Purpose struct{ Binding, Host, Path string }

// Nonces makes and spends nonces. It is safe for concurrent use.
type Nonces struct {
	key   []byte
	now   func() time.Time
	spent *lru.Cache[string, struct{}]
}

// New returns a Nonces with the key that all instances have.
func New(key []byte, now func() time.Time) (*Nonces, error) {
	spent, err := lru.New[string, struct{}](remembered)
	if err != nil {
		return nil, err
	}
	return &Nonces{key, now, spent}, nil
}

// Make returns a new nonce, of characters that a query may have.
func (n *Nonces) Make(p Purpose) string {
	raw := make([]byte, rawLength)
	binary.BigEndian.PutUint64(raw, uint64(n.now().UnixMilli()))
	rand.Read(raw[8:]) // never fails
	text := base64.RawURLEncoding.EncodeToString(raw)
	return text + "." + n.mac("probe", text, p.Binding, p.Host, p.Path)
}

// Spend reports whether this is a fresh nonce for a purpose, once.
func (n *Nonces) Spend(nonce string, p Purpose) bool {
	text, mac, ok := strings.Cut(nonce, ".")
	if !ok || !hmac.Equal([]byte(mac), []byte(n.mac("probe", text, p.Binding, p.Host, p.Path))) {
		return false
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) != rawLength {
		return false
	}
	age := n.now().Sub(time.UnixMilli(int64(binary.BigEndian.Uint64(raw))))
	if age < -Life || age > Life {
		return false
	}
	used, _ := n.spent.ContainsOrAdd(text, struct{}{})
	return !used
}

// Sentinel is what a probe puts in the place of a certificate: whoever sees it
// sees what a client has sent.
func (n *Nonces) Sentinel(nonce string) string { return n.mac("sentinel", nonce) }

// Seal is the MAC of an answer to a nonce.
func (n *Nonces) Seal(nonce, answer string) string { return n.mac("answer", nonce, answer) }

// Sealed reports whether the MAC is that of the answer to the nonce.
func (n *Nonces) Sealed(nonce, answer, mac string) bool {
	return hmac.Equal([]byte(mac), []byte(n.Seal(nonce, answer)))
}

func (n *Nonces) mac(parts ...string) string {
	mac := hmac.New(sha256.New, n.key)
	for _, part := range parts {
		_ = binary.Write(mac, binary.BigEndian, uint32(len(part)))
		mac.Write([]byte(part))
	}
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

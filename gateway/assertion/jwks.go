package assertion

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"time"

	"github.com/mtls-authz/mtls-authz/callerassertion"
)

// jwk is a public key (RFC 7517; RFC 8037, section 2).
type jwk struct {
	Type      string `json:"kty"`
	Curve     string `json:"crv"`
	X         string `json:"x"`
	KeyID     string `json:"kid"`
	Use       string `json:"use"`
	Algorithm string `json:"alg"`
}

// ServeHTTP answers with the public keys as a JWK Set, at
// [callerassertion.KeysPath]. Caches may keep it for five minutes.
func (s *Signer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	keys := s.public()
	if len(keys) == 0 {
		h.Set("Retry-After", "5")
		h.Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	body, err := json.Marshal(map[string][]jwk{"keys": keys})
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	sum := sha256.Sum256(body)
	h.Set("Content-Type", "application/jwk-set+json")
	h.Set("Cache-Control", "public, max-age=300")
	h.Set("Etag", `"`+base64.RawURLEncoding.EncodeToString(sum[:16])+`"`)
	h.Set("X-Content-Type-Options", "nosniff")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

// public returns the keys to publish now, oldest first.
func (s *Signer) public() []jwk {
	known := *s.keys.Load()
	first, last := published(s.cfg.Now())
	var keys []jwk
	for p := first; p <= last; p++ {
		if k := known[p]; k != nil {
			keys = append(keys, jwk{
				Type: "OKP", Curve: "Ed25519", X: base64.RawURLEncoding.EncodeToString(k.public),
				KeyID: k.id, Use: "sig", Algorithm: callerassertion.Algorithm,
			})
		}
	}
	return keys
}

// Package signature makes and reads what gorouter hands to a route service and
// takes back: the signed original URL, encrypted and authenticated with
// AES-GCM. It trusts nothing but the shared secret; whatever cannot be opened
// is an error.
package signature

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// The three headers of the route service protocol.
const (
	ForwardedURLHeader = "X-CF-Forwarded-Url"
	Header             = "X-CF-Proxy-Signature"
	MetadataHeader     = "X-CF-Proxy-Metadata"
)

// ErrExpired is the one failure of a signature that gorouter answers with 504.
var ErrExpired = errors.New("route service request expired")

// keyRounds is gorouter's number of PBKDF2 rounds: with one secret, signatures
// of this router and of a gorouter are each other's.
const (
	keyRounds = 100001
	keyLength = 16
)

// Sealer makes and opens signatures. It is safe for concurrent use.
type Sealer struct {
	aead     cipher.AEAD
	lifetime time.Duration
}

// contents is what the router tells itself across the route service. Note what
// it lacks: the route service it was made for.
type contents struct {
	ForwardedURL  string    `json:"forwarded_url"`
	RequestedTime time.Time `json:"requested_time"`
}

type metadata struct {
	Nonce []byte `json:"nonce"`
}

// NewSealer derives the key from secret, or draws one if secret is empty.
// Sealers of one secret open each other's signatures, as long as these are not
// older than lifetime.
func NewSealer(secret string, lifetime time.Duration) (*Sealer, error) {
	key := make([]byte, keyLength)
	_, _ = rand.Read(key) // never fails: crypto/rand ends the program instead
	if secret != "" {
		var err error
		if key, err = pbkdf2.Key(sha256.New, secret, nil, keyRounds, keyLength); err != nil {
			return nil, fmt.Errorf("signature: derive key from the secret: %w", err)
		}
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("signature: make cipher from the secret: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("signature: make cipher from the secret: %w", err)
	}
	return &Sealer{aead: aead, lifetime: lifetime}, nil
}

// Seal returns the three headers for forwardedURL, signed now.
func (s *Sealer) Seal(forwardedURL string) http.Header {
	nonce := make([]byte, s.aead.NonceSize())
	_, _ = rand.Read(nonce) // never fails: crypto/rand ends the program instead
	plain := mustJSON(contents{ForwardedURL: forwardedURL, RequestedTime: time.Now()})
	header := http.Header{}
	header.Set(ForwardedURLHeader, forwardedURL)
	header.Set(Header, base64.URLEncoding.EncodeToString(s.aead.Seal(nil, nonce, plain, nil)))
	header.Set(MetadataHeader, base64.URLEncoding.EncodeToString(mustJSON(metadata{Nonce: nonce})))
	return header
}

// Open returns the URL that the signature header signs; the forwarded URL
// header is not looked at, as in gorouter. It fails with ErrExpired if the
// signature is too old and with another error if nobody with the secret made
// it. No error repeats the signature.
func (s *Sealer) Open(header http.Header) (forwardedURL string, err error) {
	plain, err := s.decrypt(header.Get(Header), header.Get(MetadataHeader))
	if err != nil {
		return "", err
	}
	var signed contents
	if err := json.Unmarshal(plain, &signed); err != nil {
		return "", errors.New("signature: no JSON inside")
	}
	if time.Since(signed.RequestedTime) > s.lifetime {
		return "", ErrExpired
	}
	return signed.ForwardedURL, nil
}

func (s *Sealer) decrypt(sealed, meta string) ([]byte, error) {
	if meta == "" {
		return nil, errors.New("no metadata")
	}
	encoded, err := base64.URLEncoding.DecodeString(meta)
	if err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	var m metadata
	if json.Unmarshal(encoded, &m) != nil || len(m.Nonce) != s.aead.NonceSize() {
		return nil, errors.New("metadata: expected JSON with a nonce")
	}
	secret, err := base64.URLEncoding.DecodeString(sealed)
	if err != nil {
		return nil, fmt.Errorf("signature: %w", err)
	}
	plain, err := s.aead.Open(nil, m.Nonce, secret, nil)
	if err != nil {
		return nil, fmt.Errorf("signature: %w", err)
	}
	return plain, nil
}

// mustJSON encodes our own structs, which always can be encoded.
func mustJSON(value any) []byte {
	encoded, err := json.Marshal(value)
	if err != nil {
		panic(fmt.Sprintf("signature: encode %T: %v", value, err))
	}
	return encoded
}

package bundle

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	opabundle "github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/keys"
)

// A Key verifies signatures of bundles. The key names the algorithm; what a
// bundle says of its own signature chooses nothing.
type Key struct{ pem, algorithm string }

// ParseKey reads a public key in PEM: RSA of 2048 bits or more (signatures by
// RS256), ECDSA on P-256, P-384 or P-521 (ES256, ES384, ES512), Ed25519 (EdDSA).
func ParseKey(text string) (*Key, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, errors.New(`expected a public key in PEM, "BEGIN PUBLIC KEY"; openssl pkey -pubout makes one of a private key`)
	}
	if next, _ := pem.Decode(rest); next != nil {
		return nil, errors.New("expected one public key, found more")
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("expected a public key: %w", err)
	}
	key := &Key{pem: string(pem.EncodeToMemory(block))}
	switch public := parsed.(type) {
	case *rsa.PublicKey:
		if public.N.BitLen() < 2048 {
			return nil, fmt.Errorf("an RSA key of %d bits; expected 2048 or more", public.N.BitLen())
		}
		key.algorithm = "RS256"
	case *ecdsa.PublicKey:
		key.algorithm = map[int]string{256: "ES256", 384: "ES384", 521: "ES512"}[public.Params().BitSize]
	case ed25519.PublicKey:
		key.algorithm = "EdDSA"
	}
	if key.algorithm == "" {
		return nil, fmt.Errorf("a key of type %T; expected RSA, ECDSA on P-256, P-384 or P-521, or Ed25519", parsed)
	}
	return key, nil
}

// Algorithm is the name of the signature's algorithm, as in RFC 7518.
func (k *Key) Algorithm() string { return k.algorithm }

// Fingerprint is the SHA-256 of the key.
func (k *Key) Fingerprint() [sha256.Size]byte { return sha256.Sum256([]byte(k.pem)) }

// config is OPA's: one key, whatever key id the signature names, no scope and
// no file excluded.
func (k *Key) config() *opabundle.VerificationConfig {
	const id = "policy"
	return opabundle.NewVerificationConfig(map[string]*keys.Config{id: {Key: k.pem, Algorithm: k.algorithm}}, id, "", nil)
}

package release

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"

	"github.com/mtls-authz/mtls-authz/rego/bundle"
)

// A Key signs bundles. It does not print.
type Key struct {
	pem    string
	public *bundle.Key
}

// ParseKey reads a private key in PEM: PKCS#8, or the older forms of RSA and EC
// keys; of the kinds that [bundle.ParseKey] knows. Its errors hold nothing of the
// key.
func ParseKey(text []byte) (*Key, error) {
	block, rest := pem.Decode(text)
	for block != nil && block.Type == "EC PARAMETERS" { // openssl ecparam writes them first
		block, rest = pem.Decode(rest)
	}
	if block == nil {
		return nil, errors.New(`expected a private key in PEM, "BEGIN PRIVATE KEY"; openssl genpkey -algorithm ed25519 makes one`)
	}
	var private any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		private, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		private, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		private, err = x509.ParseECPrivateKey(block.Bytes)
	case "PUBLIC KEY":
		return nil, errors.New("a public key cannot sign; expected the private one")
	case "ENCRYPTED PRIVATE KEY":
		return nil, errors.New("the key is encrypted; openssl pkey writes it without a password, to a file that others cannot read")
	default:
		return nil, errors.New(`expected a private key in PEM, "BEGIN PRIVATE KEY", found a block of another kind`)
	}
	signer, ok := private.(crypto.Signer)
	if err != nil || !ok || block.Headers["DEK-Info"] != "" {
		return nil, errors.New("expected a private key in PEM, not encrypted; this one cannot be read")
	}
	if ec, isEC := private.(*ecdsa.PrivateKey); isEC && ec.Curve == nil {
		return nil, errors.New("an EC key without a curve")
	}
	return keyOf(signer)
}

func keyOf(signer crypto.Signer) (*Key, error) {
	public, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		return nil, errors.New("expected a key of RSA, ECDSA or Ed25519")
	}
	verifier, err := bundle.ParseKey(string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})))
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		return nil, errors.New("expected a key of RSA, ECDSA or Ed25519")
	}
	return &Key{string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})), verifier}, nil
}

// Public verifies what the key signs.
func (k *Key) Public() *bundle.Key { return k.public }

// Format keeps the key out of whatever is printed.
func (k *Key) Format(state fmt.State, _ rune) {
	_, _ = io.WriteString(state, "private key, "+k.public.Algorithm()) // fmt keeps no errors
}

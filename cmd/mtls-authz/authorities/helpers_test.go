package authorities_test

import (
	"crypto/sha256"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"

	"github.com/mtls-authz/mtls-authz/playground/ca"
)

func fingerprint(issuer *ca.Authority) string {
	digest := sha256.Sum256(issuer.Certificate().Raw)
	return hex.EncodeToString(digest[:])
}

// critical is an extension that nobody knows.
var critical = []pkix.Extension{{Id: []int{1, 3, 6, 1, 4, 1, 99999, 1}, Critical: true, Value: []byte{5, 0}}}

func leafPEM(of *ca.Credential) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: of.Leaf().Raw}))
}

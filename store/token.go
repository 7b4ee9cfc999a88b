package store

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
)

// TokenKeyName is the name of the key that makes route tokens.
const TokenKeyName = "route-token"

// A TokenKey makes the secret part of route service URLs. Whoever knows a
// route's URL could send the gateway forged callers with a router's signature
// for another route; the token keeps the URL from being guessed. The zero key
// makes no token and verifies none.
type TokenKey []byte

const tokenBytes = 16

// Token returns the token of a binding: 128 bits of HMAC-SHA256 in base64url,
// 22 characters; "" for the zero key. It is a secret.
func (k TokenKey) Token(bindingID string) string {
	if len(k) == 0 {
		return ""
	}
	mac := hmac.New(sha256.New, k)
	mac.Write([]byte(bindingID))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:tokenBytes])
}

// Verify compares in constant time.
func (k TokenKey) Verify(bindingID, token string) bool {
	return len(k) > 0 && subtle.ConstantTimeCompare([]byte(k.Token(bindingID)), []byte(token)) == 1
}

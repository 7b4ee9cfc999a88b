package osb

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
)

// Credentials are the names and passwords that open a part of the gateway. The
// zero value opens nothing.
type Credentials struct {
	Username, Password string
	// Previous is a second password that is accepted while the first is being
	// rotated; "": none.
	Previous string
}

// Accept compares in constant time, whatever the lengths.
func (c Credentials) Accept(r *http.Request) bool {
	username, password, ok := r.BasicAuth()
	if !ok || c.Username == "" || c.Password == "" {
		return false
	}
	accepted := sameSecret(password, c.Password)
	if c.Previous != "" {
		accepted |= sameSecret(password, c.Previous)
	}
	return sameSecret(username, c.Username)&accepted == 1
}

func sameSecret(a, b string) int {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:])
}

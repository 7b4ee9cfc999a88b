package callerassertion

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"time"
)

// The form of an assertion: a compact JWS (RFC 7515) signed with Ed25519 (RFC
// 8037). Its protected header is always {"typ":Type,"alg":"EdDSA","kid":KeyID}.
const (
	// Header carries the assertion, once.
	Header = "X-Mtls-Authz-Assertion"
	// Type is the JWS header typ, of this token alone (RFC 8725, section 3.11).
	Type = "mtls-authz-caller+jwt"
	// Algorithm is the only JWS header alg.
	Algorithm = "EdDSA"
	// Life is from iat to exp. A verifier accepts no longer one.
	Life = 60 * time.Second
	// MaxLength is the most bytes that an assertion has.
	MaxLength = 4096
	// KeysPath is where a gateway publishes its keys, a JWK Set (RFC 7517).
	KeysPath = "/.well-known/jwks.json"
)

// Values of the claim decision, as in the gateway's decision line.
const (
	// Allowed: the gateway allowed the request.
	Allowed = "allowed"
	// NotEnforced: the gateway would have refused the request, but the route is
	// in report mode.
	NotEnforced = "not_enforced"
)

// Claims is the JSON of an assertion. All but the caller's instance are there in
// every assertion; an app may meet further members and ignores them.
type Claims struct {
	// Issuer is the gateway's URL.
	Issuer string `json:"iss"`
	// Audience is the host of the request, in lower case, without a port.
	Audience string `json:"aud"`
	// IssuedAt, NotBefore and Expires are in seconds since 1970.
	IssuedAt  int64 `json:"iat"`
	NotBefore int64 `json:"nbf"`
	Expires   int64 `json:"exp"`
	// DecisionID is that of the gateway's decision line, and of this request only.
	DecisionID string `json:"jti"`
	// Decision is [Allowed] or [NotEnforced].
	Decision string `json:"decision"`
	// Method is that of the request, exactly.
	Method string `json:"method"`
	// TargetSHA256 is the [TargetHash] of the request's raw path and query.
	TargetSHA256 string `json:"target_sha256"`
	// Route is the route, host[/path], whose grants were applied.
	Route string `json:"route"`
	// The guids of the calling app, its space and org, in lower case.
	CallerApp   string `json:"caller_app"`
	CallerSpace string `json:"caller_space"`
	CallerOrg   string `json:"caller_org"`
	// CallerInstance is the guid of the calling app instance or task, "" if its
	// certificate does not say.
	CallerInstance string `json:"caller_instance,omitempty"`
}

// TargetHash is the SHA-256, in base64url without padding, of a request target
// in origin form (RFC 9112, section 3.2.1): raw path, and query with its "?" if
// there is one, byte for byte as in the request line.
func TargetHash(target string) string {
	sum := sha256.Sum256([]byte(target))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// KeyID is the name of a key: its thumbprint (RFC 7638; RFC 8037, appendix A.3).
func KeyID(key ed25519.PublicKey) string {
	sum := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + base64.RawURLEncoding.EncodeToString(key) + `"}`))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// claimsKey finds the claims in a request's context.
type claimsKey struct{}

// FromContext returns the claims of the verified assertion that a request behind
// [Verifier.Middleware] came with; false elsewhere.
func FromContext(ctx context.Context) (Claims, bool) {
	c, ok := ctx.Value(claimsKey{}).(Claims)
	return c, ok
}

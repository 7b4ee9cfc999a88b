package gateway

import (
	"net/http"
	"strings"

	"github.com/mtls-authz/mtls-authz/identity"
)

// Headers of the route service protocol and of the gateway, canonical as
// net/http spells them.
const (
	headerForwardedURL = "X-Cf-Forwarded-Url"
	headerSignature    = "X-Cf-Proxy-Signature"
	headerMetadata     = "X-Cf-Proxy-Metadata"
	headerRequestID    = "X-Vcap-Request-Id"

	headerDecision = "X-Mtls-Authz-Decision"
	headerCaller   = "X-Mtls-Authz-Caller"
	headerHop      = "X-Mtls-Authz-Hop"

	ownPrefix = "x-mtls-authz-"
)

// protected are names of which only the exact spelling may pass: some apps
// read "_" as "-".
var protected = map[string]string{
	"x-cf-forwarded-url":      headerForwardedURL,
	"x-cf-proxy-signature":    headerSignature,
	"x-cf-proxy-metadata":     headerMetadata,
	"x-forwarded-client-cert": identity.Header,
}

// plainName is the name as the most careless app reads it.
func plainName(name string) string { return strings.ReplaceAll(strings.ToLower(name), "_", "-") }

// isForged reports whether a client or an app must not send this name.
func isForged(name string) bool {
	plain := plainName(name)
	if strings.HasPrefix(plain, ownPrefix) {
		return true
	}
	exact, ok := protected[plain]
	return ok && name != exact
}

// deleteForged deletes from headers or trailers every name that the gateway
// speaks for itself, and every alias of a protected one.
func deleteForged(h http.Header) {
	for name := range h {
		if isForged(name) {
			delete(h, name)
		}
	}
}

// deleteSecrets deletes the router's headers from an answer: a signature is
// good for a minute for every path of its route.
func deleteSecrets(h http.Header) {
	h.Del(headerForwardedURL)
	h.Del(headerSignature)
	h.Del(headerMetadata)
}

// single returns the value of a header that must be there exactly once, of
// visible characters.
func single(h http.Header, name string) (string, error) {
	values := h[name]
	if len(values) != 1 || values[0] == "" {
		return "", malformed("%s: expected exactly one, found %d", name, len(values))
	}
	for i := range len(values[0]) {
		if c := values[0][i]; c <= 0x20 || c == 0x7f {
			return "", malformed("%s: control character or space", name)
		}
	}
	return values[0], nil
}

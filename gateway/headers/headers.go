// Package headers knows the names of headers that only the gateway or the router
// may speak, and takes them off everything else. It trusts no spelling: a name
// counts as the most careless app reads it.
package headers

import (
	"net/http"
	"strings"

	"github.com/mtls-authz/mtls-authz/identity"
)

// Headers of the route service protocol and of the gateway, canonical as
// net/http spells them.
const (
	ForwardedURL = "X-Cf-Forwarded-Url"
	Signature    = "X-Cf-Proxy-Signature"
	Metadata     = "X-Cf-Proxy-Metadata"
	RequestID    = "X-Vcap-Request-Id"

	Decision = "X-Mtls-Authz-Decision"
	Caller   = "X-Mtls-Authz-Caller"
	Hop      = "X-Mtls-Authz-Hop"

	ownPrefix = "x-mtls-authz-"
)

// protected are names of which only the exact spelling may pass.
var protected = map[string]string{
	"x-cf-forwarded-url":      ForwardedURL,
	"x-cf-proxy-signature":    Signature,
	"x-cf-proxy-metadata":     Metadata,
	"x-forwarded-client-cert": identity.Header,
}

// Plain is the name as the most careless app reads it. CGI and what comes of it
// make "_" of "-", and some servers of every character that is no letter or
// digit.
func Plain(name string) string {
	var onStack [64]byte // a name fits, so that only the result is copied to the heap, if at all
	plain := onStack[:0]
	for _, r := range name {
		switch {
		case 'A' <= r && r <= 'Z':
			r += 'a' - 'A'
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9':
		default:
			r = '-'
		}
		plain = append(plain, byte(r))
	}
	return string(plain)
}

// initial is what every name that is looked for begins with, as [Plain] reads it.
// Plain makes an x of nothing but x and X: most names need no closer look.
func initial(name string) bool { return name != "" && name[0]|0x20 == 'x' }

// IsHop reports whether a name is that of the hop header.
func IsHop(name string) bool { return initial(name) && Plain(name) == plainHop }

var plainHop = Plain(Hop)

// IsForged reports whether a client or an app must not send this name.
func IsForged(name string) bool {
	if !initial(name) {
		return false
	}
	plain := Plain(name)
	if strings.HasPrefix(plain, ownPrefix) {
		return true
	}
	exact, ok := protected[plain]
	return ok && name != exact
}

// IsForgedTrailer reports whether a client or an app must not send this name as a
// trailer: a forged one, or one that counts as a header only.
func IsForgedTrailer(name string) bool {
	_, isProtected := protected[Plain(name)]
	return isProtected || IsForged(name)
}

// DeleteForged deletes from headers every name that the gateway
// speaks for itself, and every alias of a protected one.
func DeleteForged(h http.Header) {
	for name := range h {
		if IsForged(name) {
			delete(h, name)
		}
	}
}

// DeleteSecrets deletes the router's headers from an answer: a signature is
// good for a minute for every path of its route.
func DeleteSecrets(h http.Header) {
	h.Del(ForwardedURL)
	h.Del(Signature)
	h.Del(Metadata)
}

// AllowedNames filters a list of header names, such as Trailer's.
func AllowedNames(lists []string) []string {
	var allowed []string
	for _, list := range lists {
		for name := range strings.SplitSeq(list, ",") {
			if name = strings.TrimSpace(name); !IsForgedTrailer(http.CanonicalHeaderKey(name)) {
				allowed = append(allowed, name)
			}
		}
	}
	return allowed
}

// DeleteForgedTrailers runs after the body: the app's trailers are in the
// header map by now, announced or with net/http's prefix.
func DeleteForgedTrailers(h http.Header) {
	for name := range h {
		if after, announced := strings.CutPrefix(name, http.TrailerPrefix); IsForged(after) || announced && IsForgedTrailer(after) {
			delete(h, name)
		}
	}
}

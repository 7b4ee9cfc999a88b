// Package request is what the head of a request must be like before it is decided
// on, so that no app and no server on the way can take it for another request
// than the one that was decided on. It trusts no header; what it does not know
// to be one thing only is refused.
package request

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/mtls-authz/mtls-authz/gateway/headers"
	"github.com/mtls-authz/mtls-authz/grants"
)

// ErrMalformed: a header or the method is not acceptable.
var ErrMalformed = errors.New("malformed request")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// CheckMethod refuses methods that must not reach an app.
func CheckMethod(method string) error {
	if !grants.IsMethod(method) {
		return malformed("method: expected an upper-case method other than CONNECT and TRACE")
	}
	return nil
}

// CheckUpgrade lets WebSockets through and no other protocol: a tunnel's later
// requests would not be decided on.
func CheckUpgrade(h http.Header) error {
	if _, ok := h["Http2-Settings"]; ok {
		return malformed("HTTP2-Settings")
	}
	switch upgrade := h["Upgrade"]; {
	case len(upgrade) == 0:
	case len(upgrade) == 1 && strings.EqualFold(upgrade[0], "websocket"):
	default:
		return malformed("upgrade to something else than websocket")
	}
	return nil
}

// CheckExpect refuses what net/http does not: more than one expectation, of
// which a server further on may not know one.
func CheckExpect(h http.Header) error {
	if expect := h["Expect"]; len(expect) > 1 || len(expect) == 1 && !strings.EqualFold(expect[0], "100-continue") {
		return malformed("expect: something else than 100-continue")
	}
	return nil
}

// overrides are headers by which some apps take another method or path than
// the request line's.
var overrides = map[string]bool{
	"x-http-method": true, "x-http-method-override": true, "x-method-override": true, "x-original-url": true, "x-rewrite-url": true,
}

// CheckOverrides refuses them; it is for requests of which method or path decide.
func CheckOverrides(h http.Header) error {
	for name := range h {
		if overrides[headers.Plain(name)] {
			return malformed("%s where method or path decide", name)
		}
	}
	return nil
}

// ForwardedURL returns where a request was going, if it carries each header of the
// route service protocol exactly once.
func ForwardedURL(h http.Header) (string, error) {
	for _, name := range []string{headers.Signature, headers.Metadata} {
		if _, err := Single(h, name); err != nil {
			return "", err
		}
	}
	return Single(h, headers.ForwardedURL)
}

// Single returns the value of a header that must be there exactly once, of
// visible characters.
func Single(h http.Header, name string) (string, error) {
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

package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/mtls-authz/mtls-authz/gateway/headers"
	"github.com/mtls-authz/mtls-authz/gateway/target"
	"github.com/mtls-authz/mtls-authz/grants"
)

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// checkMethod refuses methods that must not reach an app.
func checkMethod(r *http.Request) error {
	if !grants.IsMethod(r.Method) {
		return malformed("method: expected an upper-case method other than CONNECT and TRACE")
	}
	return nil
}

// checkUpgrade lets WebSockets through and no other protocol: a tunnel's later
// requests would not be decided on.
func checkUpgrade(h http.Header) error {
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

// checkExpect refuses what net/http does not: more than one expectation, of
// which a server further on may not know one.
func checkExpect(h http.Header) error {
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

func checkOverrides(h http.Header) error {
	for name := range h {
		if overrides[headers.Plain(name)] {
			return malformed("%s where method or path decide", name)
		}
	}
	return nil
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

func (x *exchange) parseTarget() error {
	forwarded, err := single(x.r.Header, headers.ForwardedURL)
	if err != nil {
		return err
	}
	for _, name := range []string{headers.Signature, headers.Metadata} {
		if _, err := single(x.r.Header, name); err != nil {
			return err
		}
	}
	x.target, err = target.Parse(forwarded)
	x.line.Host, x.line.Path = x.target.Host, x.target.RawPath
	return err
}

// checkRequest refuses what could reach the app as something else than what is
// decided on. It stands in report mode too.
func (x *exchange) checkRequest() error {
	reads := x.policy.Reads()
	if err := errors.Join(checkMethod(x.r), checkUpgrade(x.r.Header), checkExpect(x.r.Header)); err != nil {
		return err
	}
	pathDecides := x.live.HasPaths || x.access.Route.Path != "" || reads.Path
	if pathDecides {
		if err := x.target.Unambiguous(); err != nil {
			return err
		}
	}
	if x.live.HasPaths || x.live.HasMethods || reads.Path || reads.Method {
		return checkOverrides(x.r.Header)
	}
	return nil
}

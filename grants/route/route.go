// Package route knows what a route of Cloud Foundry is, and how hosts and paths
// match: the vocabulary of where requests go. It trusts no text, and its zero
// values match nothing.
package route

import (
	"errors"
	"fmt"
	"strings"
)

// A Route is host[/path] as Cloud Foundry routes it, in lower case: gorouter
// compares both without regard to case. A host that begins with "*." stands
// for any number of labels in its place. The zero Route matches nothing.
type Route struct {
	Host, Path string
}

// ErrRoute: the text is not a route that the gateway can protect.
var ErrRoute = errors.New("not a route that can be protected")

const maxRoutePath = 128 // Cloud Controller's own limit

// Parse reads host[/path] in any case. It refuses routes with a port
// (TCP), IP addresses, hosts that are not letter-digit-hyphen labels ("_"
// allowed; international names only as A-labels), and paths that a URL cannot
// carry plainly. Every error is an [ErrRoute].
func Parse(s string) (Route, error) {
	host, path, hasPath := strings.Cut(lowerASCII(s), "/")
	route := Route{Host: host}
	if strings.Contains(host, ":") {
		return Route{}, fmt.Errorf("route %q: %w: it has a port or is an IPv6 address, and only HTTP routes by name can have a route service", clip(s), ErrRoute)
	}
	if err := CheckHost(strings.TrimPrefix(host, "*.")); err != nil {
		return Route{}, fmt.Errorf("route %q: %w: %w", clip(s), ErrRoute, err)
	}
	if hasPath && path != "" {
		route.Path = "/" + strings.TrimSuffix(path, "/")
		if err := checkRoutePath(route.Path); err != nil {
			return Route{}, fmt.Errorf("route %q: %w: %w", clip(s), ErrRoute, err)
		}
	}
	return route, nil
}

// lowerASCII leaves all but A-Z alone: Unicode knows other letters, such as
// U+212A, whose lower case is an ASCII letter.
func lowerASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + ('a' - 'A')
		}
		return r
	}, s)
}

// ParseHost returns a host in lower case, or why it is none; see [CheckHost].
func ParseHost(s string) (string, error) {
	host := lowerASCII(s)
	if err := CheckHost(host); err != nil {
		return "", err
	}
	return host, nil
}

// CheckHost reports whether host is a DNS name of lower-case
// letter-digit-hyphen labels, "_" allowed, without a final dot. A last label
// that is a number is refused, in any of the spellings in which URL libraries
// take a host for an IPv4 address: 127.1, 0x7f.0.0.1, 2130706433.
func CheckHost(host string) error {
	if len(host) > 253 {
		return fmt.Errorf("the host has %d characters, at most 253 are allowed", len(host))
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return fmt.Errorf("label %q of the host: expected 1 to 63 letters, digits, hyphens or underscores, no hyphen first or last", clip(label))
		}
		for _, c := range []byte(label) {
			if !isLDH(c) {
				return fmt.Errorf("label %q of the host: expected letters, digits, hyphens or underscores (international names as xn-- labels)", clip(label))
			}
		}
	}
	if last := host[strings.LastIndexByte(host, '.')+1:]; isNumber(last) {
		return fmt.Errorf("the host is an IP address, or ends in the number %q as if it were", last)
	}
	return nil
}

func isNumber(label string) bool {
	digits := "0123456789"
	if hex, ok := strings.CutPrefix(label, "0x"); ok {
		label, digits = hex, "0123456789abcdef"
	}
	return strings.Trim(label, digits) == ""
}

func isLDH(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}

func checkRoutePath(path string) error {
	if len(path) > maxRoutePath {
		return fmt.Errorf("the path has %d characters, at most %d are allowed", len(path), maxRoutePath)
	}
	for segment := range strings.SplitSeq(path[1:], "/") {
		if segment == "" || segment == "." || segment == ".." {
			return fmt.Errorf("segment %q of the path is empty or a dot segment", segment)
		}
		for _, c := range []byte(segment) {
			if !isLDH(c) && !strings.ContainsRune(".~!$&'()*+,=:@", rune(c)) {
				return fmt.Errorf("character %q of the path is not plain in a URL", c)
			}
		}
	}
	return nil
}

// ParseExact reads a route as parameters name one: spelled as it will be
// compared. A wildcard is that bound route, except in the operator's grants.
func ParseExact(s string) (Route, error) {
	route, err := Parse(s)
	if err != nil {
		return Route{}, err
	}
	if s != route.String() {
		return Route{}, fmt.Errorf("route %q: expected host[/path] in lower case, like %q", clip(s), route)
	}
	return route, nil
}

// String returns host[/path].
func (r Route) String() string { return r.Host + r.Path }

// IsWildcard reports whether the host begins with "*.".
func (r Route) IsWildcard() bool { return strings.HasPrefix(r.Host, "*.") }

// MatchHost reports whether a lower-case request host is the route's: equal,
// or below a wildcard.
func (r Route) MatchHost(host string) bool {
	if r.IsWildcard() {
		suffix := r.Host[1:]
		return len(host) > len(suffix) && strings.HasSuffix(host, suffix)
	}
	return r.Host != "" && host == r.Host
}

// MatchPath reports whether the raw path of a request lies on the route's
// context path, by whole segments and without regard to case, as gorouter
// matches.
func (r Route) MatchPath(rawPath string) bool {
	if r.Path == "" {
		return true
	}
	if len(rawPath) < len(r.Path) || !strings.EqualFold(rawPath[:len(r.Path)], r.Path) {
		return false
	}
	return len(rawPath) == len(r.Path) || rawPath[len(r.Path)] == '/'
}

// Covers reports whether r, as the pattern of an operator's grant, covers the
// route of a binding: the same route, or a host below r's wildcard, on any
// context path if r has none.
func (r Route) Covers(bound Route) bool {
	if r.Path != "" && r.Path != bound.Path {
		return false
	}
	if r.IsWildcard() {
		return r.MatchHost(bound.Host) // its own host included
	}
	return r == bound
}

// clip bounds outside input that is quoted in an error.
func clip(s string) string {
	const most = 128
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

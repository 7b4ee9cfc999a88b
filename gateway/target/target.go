// Package target reads where a request was going before gorouter sent it to the
// gateway. It trusts nothing: the forwarded URL comes from the client, byte for
// byte. It fails closed: what two servers could read as two things is refused.
package target

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/mtls-authz/mtls-authz/grants/route"
)

// ErrMalformed: the forwarded URL is not acceptable.
var ErrMalformed = errors.New("malformed forwarded url")

// Target is where a request was going before gorouter sent it here: the value
// of X-CF-Forwarded-Url, parsed by a grammar that leaves no two readings.
type Target struct {
	// Host in lower case, without a port.
	Host string
	// RawPath is the path byte for byte, "/" at least; Path is it decoded
	// once, Segments are Path's non-empty parts.
	RawPath, Path string
	Segments      []string
	// Query is everything after the first "?", and HasQuery tells an empty
	// query from none.
	Query    string
	HasQuery bool
}

const maxForwardedURL = 16 << 10

// Parse parses an X-CF-Forwarded-Url. Every error is an [ErrMalformed].
//
// Always refused: another scheme than https, userinfo, fragments, a port other
// than 443, hosts that are not letter-digit-hyphen labels; in the path bytes
// outside RFC 3986, dot segments, backslashes, control characters and invalid
// UTF-8, plain, encoded, or such that a second decoding would produce them.
func Parse(forwarded string) (Target, error) {
	if len(forwarded) > maxForwardedURL {
		return Target{}, malformed("%d bytes, at most %d are accepted", len(forwarded), maxForwardedURL)
	}
	rest, ok := strings.CutPrefix(forwarded, "https://")
	if !ok {
		return Target{}, malformed("expected https://")
	}
	var t Target
	rest, t.Query, t.HasQuery = strings.Cut(rest, "?")
	authority, path := rest, "/"
	if slash := strings.IndexByte(rest, '/'); slash >= 0 {
		authority, path = rest[:slash], rest[slash:]
	}
	t.Host = strings.ToLower(strings.TrimSuffix(authority, ":443"))
	if err := route.CheckHost(t.Host); err != nil {
		return Target{}, malformed("%v", err)
	}
	if !isQuery(t.Query) {
		return Target{}, malformed("control character, space or # in the query")
	}
	return t, t.setPath(path)
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// isQuery accepts what clients really send in queries: nothing is decided by
// the query, it only must not break the request line.
func isQuery(query string) bool {
	for i := range len(query) {
		if c := query[i]; c <= 0x20 || c == 0x7f || c == '#' {
			return false
		}
	}
	return true
}

func (t *Target) setPath(raw string) error {
	for i := range len(raw) {
		if !isPathByte(raw[i]) {
			return malformed("path: byte 0x%02x is not allowed in a URL (RFC 3986)", raw[i])
		}
	}
	path, err := url.PathUnescape(raw)
	if err != nil {
		return malformed("path: bad escape")
	}
	if err := checkDecoded(path); err != nil {
		return err
	}
	if twice := unescapeLenient(path); twice != path {
		if err := checkDecoded(twice); err != nil {
			return err
		}
	}
	t.RawPath, t.Path, t.Segments = raw, path, route.Segments(path)
	return nil
}

// isPathByte: pchar, "/" and "%" (RFC 3986, section 3.3).
func isPathByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~!$&'()*+,;=:@/%", c) >= 0
}

// checkDecoded refuses what an app may read as another path. A dot segment
// followed by path parameters ("..;x") is one to some servers.
func checkDecoded(path string) error {
	if !utf8.ValidString(path) {
		return malformed("path: not UTF-8 when decoded")
	}
	for segment := range strings.SplitSeq(path, "/") {
		name, _, _ := strings.Cut(segment, ";")
		if name == "." || name == ".." {
			return malformed("path: dot segment")
		}
	}
	for _, r := range path {
		if unicode.IsControl(r) || r == '\\' {
			return malformed("path: control character or backslash")
		}
	}
	return nil
}

// unescapeLenient decodes the escapes that are well-formed and leaves the rest,
// as a careless second decoder would.
func unescapeLenient(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if c, err := url.PathUnescape(s[i : i+3]); err == nil {
				out.WriteString(c)
				i += 2
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

// Unambiguous refuses paths that servers split differently. It applies
// where the path decides: a grant has paths, the route has a context path, or
// a check reads the path.
func (t *Target) Unambiguous() error {
	if strings.Contains(t.Path, "//") || strings.Contains(t.Path, ";") || strings.Contains(strings.ToLower(t.RawPath), "%2f") {
		return malformed("path: empty segment, ; or %%2f where the path decides")
	}
	return nil
}

// URL is the URL of leg 3. With this grammar Path and RawPath give the path
// back byte for byte.
func (t *Target) URL() *url.URL {
	return &url.URL{Scheme: "https", Host: t.Host, Path: t.Path, RawPath: t.RawPath, RawQuery: t.Query, ForceQuery: t.HasQuery && t.Query == ""}
}

// Package target reads where a request was going before gorouter sent it to the
// gateway. It trusts nothing: the forwarded URL comes from the client, byte for
// byte. It fails closed: what two servers could read as two things is refused.
// docs/requests.md lists what that is, with examples.
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

// DefaultMax is how long a forwarded URL may be, in bytes, if nobody says
// otherwise.
const DefaultMax = 16 << 10

// Parse parses an X-CF-Forwarded-Url of at most [DefaultMax] bytes. Every error is an [ErrMalformed]; with it
// comes at most the host, for the log.
//
// Always refused: another scheme than https, userinfo, fragments, a port other
// than 443, hosts that are not letter-digit-hyphen labels; in the path bytes
// outside RFC 3986, dot segments, backslashes, control characters and invalid
// UTF-8, plain, encoded, or such that a second decoding would produce them.
func Parse(forwarded string) (Target, error) { return ParseWithin(DefaultMax, forwarded) }

// ParseWithin is [Parse] with another bound; 0 is [DefaultMax].
func ParseWithin(most int, forwarded string) (Target, error) {
	if most == 0 {
		most = DefaultMax
	}
	if len(forwarded) > most {
		return Target{}, malformed("%d bytes, at most %d are accepted", len(forwarded), most)
	}
	rest, ok := strings.CutPrefix(forwarded, "https://")
	if !ok {
		return Target{}, malformed("expected https://")
	}
	rest, query, hasQuery := strings.Cut(rest, "?")
	if !isQuery(query) {
		return Target{}, malformed("control character, space or # in the query")
	}
	authority, raw := rest, "/"
	if slash := strings.IndexByte(rest, '/'); slash >= 0 {
		authority, raw = rest[:slash], rest[slash:]
	}
	host, err := route.ParseHost(strings.TrimSuffix(authority, ":443"))
	if err != nil {
		return Target{}, malformed("%v", err)
	}
	path, err := decodePath(raw)
	if err != nil {
		return Target{Host: host}, err
	}
	return Target{Host: host, RawPath: raw, Path: path, Segments: route.Segments(path), Query: query, HasQuery: hasQuery}, nil
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

// decodePath decodes a path once, and refuses what that or a second decoding
// brings to light.
func decodePath(raw string) (string, error) {
	for i := range len(raw) {
		if !isPathByte(raw[i]) {
			return "", malformed("path: byte 0x%02x is not allowed in a URL (RFC 3986)", raw[i])
		}
	}
	path, err := url.PathUnescape(raw)
	if err != nil {
		return "", malformed("path: bad escape")
	}
	if err := checkDecoded(path); err != nil {
		return "", err
	}
	if twice := decodeAgain(path); twice != path {
		if err := checkDecoded(twice); err != nil {
			return "", err
		}
	}
	return path, nil
}

// RefusedPath is the path of a URL that was refused for its path, for people: bytes
// that no path has are escaped, so that no terminal obeys them, and query and
// fragment are left out.
func RefusedPath(forwarded string) string {
	_, rest, _ := strings.Cut(forwarded, "://")
	if end := strings.IndexAny(rest, "?#"); end >= 0 {
		rest = rest[:end]
	}
	_, path, found := strings.Cut(rest, "/")
	if !found {
		return ""
	}
	var out strings.Builder
	out.WriteByte('/')
	for i := range len(path) {
		if isPathByte(path[i]) {
			out.WriteByte(path[i])
		} else {
			fmt.Fprintf(&out, "%%%02X", path[i])
		}
	}
	return out.String()
}

// isPathByte: pchar, "/" and "%" (RFC 3986, section 3.3).
func isPathByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~!$&'()*+,;=:@/%", c) >= 0
}

// checkDecoded refuses what an app may read as another path. A dot segment is
// one to some servers with spaces around it, or before what they take for path
// parameters, query or fragment: "..;x".
func checkDecoded(path string) error {
	if !utf8.ValidString(path) {
		return malformed("path: not UTF-8 when decoded")
	}
	for _, r := range path {
		if unicode.IsControl(r) || r == '\\' {
			return malformed("path: control character or backslash")
		}
	}
	for segment := range strings.SplitSeq(path, "/") {
		if end := strings.IndexAny(segment, ";?#"); end >= 0 {
			segment = segment[:end]
		}
		if name := strings.Trim(segment, " "); name == "." || name == ".." {
			return malformed("path: dot segment")
		}
	}
	return nil
}

// decodeAgain decodes the escapes that are well-formed and leaves the rest, as
// a careless second decoder would.
func decodeAgain(s string) string {
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

// separators end a path or a part of it in some servers: as themselves, or
// (U+037E and on) for servers that normalise Unicode, which makes the like of
// ". .. / \ ; ? # %" of them.
const separators = ";?#" + "\u037e\u2024\u2025\u2047\u2048\u2049\u2100\u2101\u2105\u2106" +
	"\ufe14\ufe16\ufe30\ufe52\ufe54\ufe56\ufe5f\ufe68\ufe6a\uff03\uff05\uff0e\uff0f\uff1b\uff1f\uff3c"

// Unambiguous refuses paths that servers split or decode differently. It
// applies where the path decides: a grant has paths, the route has a context
// path, or a check reads the path.
func (t *Target) Unambiguous() error {
	switch {
	case strings.Contains(t.Path, "//") || strings.Count(t.Path, "/") != strings.Count(t.RawPath, "/"):
		return malformed("path: empty segment or %%2f where the path decides")
	case strings.ContainsAny(t.Path, separators):
		return malformed("path: ; ? # or a character like a separator where the path decides")
	case decodeAgain(t.Path) != t.Path:
		return malformed("path: escaped twice where the path decides")
	}
	return nil
}

// URL is the URL of leg 3. With this grammar Path and RawPath give the path
// back byte for byte.
func (t *Target) URL() *url.URL {
	return &url.URL{Scheme: "https", Host: t.Host, Path: t.Path, RawPath: t.RawPath, RawQuery: t.Query, ForceQuery: t.HasQuery && t.Query == ""}
}

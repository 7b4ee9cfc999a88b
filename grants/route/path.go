package route

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A Pattern is one entry of a grant's paths. It is compared with the whole
// path as the app sees it, decoded once, case-sensitive, segment by segment:
//
//	pattern  = "/" [ segment *( "/" segment ) ] [ "/" ]
//	segment  = literal | "*" | "**"
//
// "*" stands for one non-empty segment; "**", only as the last segment, for
// zero or more. A trailing slash, in pattern or path, does not matter.
type Pattern string

const maxPattern = 1024

// ParsePattern reads a pattern. Patterns that could never match, or that
// would match something else than they seem to say, are refused: a part of a
// segment as wildcard, an escape, a query, dot segments.
func ParsePattern(s string) (Pattern, error) {
	if !strings.HasPrefix(s, "/") {
		return "", fmt.Errorf("path %q: expected it to begin with /", clip(s))
	}
	if len(s) > maxPattern {
		return "", fmt.Errorf("path %q: %d bytes, at most %d are allowed", clip(s), len(s), maxPattern)
	}
	if i := strings.IndexAny(s, `%?#;\`); i >= 0 {
		return "", fmt.Errorf("path %q: unexpected %q; write the path as the app sees it, decoded, without query and path parameters", clip(s), s[i])
	}
	// Patterns are shown on terminals and in comments of commands: what moves the
	// cursor, turns the direction of text or is not seen would show another pattern.
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return "", fmt.Errorf("path %q: expected printable UTF-8", clip(s))
	}
	if s == "/" {
		return Pattern(s), nil
	}
	s = strings.TrimSuffix(s, "/") // one spelling of what means the same
	segments := strings.Split(s[1:], "/")
	for i, segment := range segments {
		switch {
		case segment == "" || segment == "." || segment == "..":
			return "", fmt.Errorf("path %q: segment %d is empty or a dot segment", clip(s), i+1)
		case segment == "**" && i != len(segments)-1:
			return "", fmt.Errorf("path %q: ** may only be the last segment", clip(s))
		case segment != "*" && segment != "**" && strings.Contains(segment, "*"):
			return "", fmt.Errorf("path %q: * stands for a whole segment, not for a part of %q", clip(s), clip(segment))
		}
	}
	return Pattern(s), nil
}

// Match reports whether the pattern matches a path given by its non-empty
// segments. The zero pattern matches nothing.
func (p Pattern) Match(segments []string) bool {
	if p == "" {
		return false
	}
	rest := strings.Trim(string(p), "/")
	for _, segment := range segments {
		var want string
		want, rest, _ = strings.Cut(rest, "/")
		if want == "**" {
			return true
		}
		if segment == "" || want != "*" && want != segment {
			return false
		}
	}
	return rest == "" || rest == "**"
}

// Segments splits a decoded path into its non-empty segments.
func Segments(path string) []string {
	var segments []string
	for segment := range strings.SplitSeq(path, "/") {
		if segment != "" {
			segments = append(segments, segment)
		}
	}
	return segments
}

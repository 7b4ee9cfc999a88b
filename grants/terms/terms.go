// Package terms is what narrows a grant: methods, paths, routes, an end, and the
// note on it. It trusts nothing that it parses, and fails closed: an empty list,
// which reads like "none" and would mean "all", is refused.
package terms

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/mtls-authz/mtls-authz/grants/route"
)

// Terms are what narrows a grant, and the note on it. Every condition given
// must hold.
type Terms struct {
	// Methods are exact and in upper case; GET does not imply HEAD.
	Methods []string
	// Paths match the whole path as the app sees it.
	Paths []route.Pattern
	// Routes limit the grant to some of the routes that it could apply to.
	Routes []route.Route
	// Expires is when the grant ends, in UTC; zero: never.
	Expires time.Time
	// Reason is a note for people, not a condition.
	Reason string
}

// Given are the conditions of a grant in JSON.
type Given struct {
	Methods *[]string `json:"methods,omitempty"`
	Paths   *[]string `json:"paths,omitempty"`
	Routes  *[]string `json:"routes,omitempty"`
	Expires *string   `json:"expires,omitempty"`
	Reason  string    `json:"reason,omitempty"`
}

const (
	maxReason  = 255
	maxMethods = 32
	maxPaths   = 100
	maxRoutes  = 100
)

// Parse reads the conditions; nil: there are none, and no reason.
func (d Given) Parse() (*Terms, error) {
	var terms Terms
	var err error
	if terms.Methods, err = list("methods", d.Methods, maxMethods, parseMethod); err != nil {
		return nil, err
	}
	if terms.Paths, err = list("paths", d.Paths, maxPaths, route.ParsePattern); err != nil {
		return nil, err
	}
	if terms.Routes, err = list("routes", d.Routes, maxRoutes, route.ParseExact); err != nil {
		return nil, err
	}
	if d.Expires != nil {
		if terms.Expires, err = parseExpires(*d.Expires); err != nil {
			return nil, err
		}
	}
	if terms.Reason, err = ParseNote("reason", d.Reason, maxReason); err != nil {
		return nil, err
	}
	if !terms.Conditional() && terms.Reason == "" {
		return nil, nil
	}
	return &terms, nil
}

// rfc3339 is what time.Parse does not hold its layout to.
var rfc3339 = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)$`)

// parseExpires never returns the zero time, which would mean "never", nor a
// year that RFC 3339 cannot write.
func parseExpires(s string) (time.Time, error) {
	expires, err := time.Parse(time.RFC3339, s)
	expires = expires.UTC()
	if year := expires.Year(); err != nil || !rfc3339.MatchString(s) || year < 1970 || year > 9999 {
		return time.Time{}, fmt.Errorf("expires %q: expected a time like 2026-12-31T00:00:00Z (RFC 3339)", clip(s))
	}
	return expires, nil
}

// list parses each entry once; nil means the list was not given, and an empty
// list is refused because it reads like "none" and would mean "all".
func list[T comparable](name string, values *[]string, most int, parse func(string) (T, error)) ([]T, error) {
	if values == nil {
		return nil, nil
	}
	if len(*values) == 0 {
		return nil, fmt.Errorf("%s is empty; leave it out to allow all", name)
	}
	if len(*values) > most {
		return nil, fmt.Errorf("%s has %d entries, at most %d are allowed", name, len(*values), most)
	}
	parsed := make([]T, 0, len(*values))
	for _, value := range *values {
		one, err := parse(value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if !slices.Contains(parsed, one) {
			parsed = append(parsed, one)
		}
	}
	return parsed, nil
}

// parseMethod accepts an upper-case token (RFC 9110, section 9.1) that the
// gateway lets through: CONNECT and TRACE never reach an app.
func parseMethod(s string) (string, error) {
	if !IsMethod(s) {
		return "", fmt.Errorf("method %q: expected an upper-case method other than CONNECT and TRACE", clip(s))
	}
	return s, nil
}

// IsMethod reports whether s is a method that can reach an app: an upper-case
// token of at most 32 characters, neither CONNECT nor TRACE.
func IsMethod(s string) bool {
	if s == "" || len(s) > 32 || s == "CONNECT" || s == "TRACE" {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// ParseNote accepts printable text on one line, of at most most bytes.
func ParseNote(name, s string, most int) (string, error) {
	if len(s) > most {
		return "", fmt.Errorf("%s has %d bytes, at most %d are allowed", name, len(s), most)
	}
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsGraphic(r) }) {
		return "", fmt.Errorf("%s: expected printable text on one line", name)
	}
	return s, nil
}

// Conditional reports whether methods, paths, routes or an expiry narrow the
// grant; the nil Terms have none.
func (t *Terms) Conditional() bool {
	return t != nil && (t.Methods != nil || t.Paths != nil || t.Routes != nil || !t.Expires.IsZero())
}

// Matches reports whether the terms hold for a method and a path's segments;
// routes and expiry were applied when the route's Live grants were made.
func (t *Terms) Matches(method string, segments []string) bool {
	if t == nil {
		return true
	}
	if t.Methods != nil && !slices.Contains(t.Methods, method) {
		return false
	}
	if t.Paths == nil {
		return true
	}
	return slices.ContainsFunc(t.Paths, func(p route.Pattern) bool { return p.Match(segments) })
}

// Given is the canonical form; the nil Terms have nothing to say.
func (t *Terms) Given() Given {
	if t == nil {
		return Given{}
	}
	given := Given{Reason: t.Reason}
	if t.Methods != nil {
		given.Methods = &t.Methods
	}
	if t.Paths != nil {
		given.Paths = texts(t.Paths, func(p route.Pattern) string { return string(p) })
	}
	if t.Routes != nil {
		given.Routes = texts(t.Routes, route.Route.String)
	}
	if !t.Expires.IsZero() {
		expires := t.Expires.Format(time.RFC3339Nano)
		given.Expires = &expires
	}
	return given
}

// Expired reports whether the grant has ended at now.
func (t *Terms) Expired(now time.Time) bool {
	return t != nil && !t.Expires.IsZero() && !now.Before(t.Expires)
}

// Until are the same terms with an end that is no later than this; zero: the
// same end.
func (t *Terms) Until(end time.Time) *Terms {
	if end.IsZero() || t != nil && !t.Expires.IsZero() && t.Expires.Before(end) {
		return t
	}
	var sooner Terms
	if t != nil {
		sooner = *t
	}
	sooner.Expires = end
	return &sooner
}

func texts[T any](values []T, text func(T) string) *[]string {
	out := make([]string, len(values))
	for i, value := range values {
		out[i] = text(value)
	}
	return &out
}

// clip bounds outside input that is quoted in an error.
func clip(s string) string {
	const most = 128
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

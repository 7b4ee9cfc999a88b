package grants

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/mtls-authz/mtls-authz/grants/route"
)

// A Grant allows one source, perhaps narrowed by conditions. The zero Grant
// allows nobody.
type Grant struct {
	Source Source
	// Terms narrow the grant; nil means unconditional and without a reason.
	Terms *Terms
}

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

// entryDocument is a grant in JSON.
type entryDocument struct {
	Source  string    `json:"source"`
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

// ParseGrant reads one entry of allow: a source, or an object with a source
// and conditions.
func ParseGrant(raw []byte) (Grant, error) {
	if text := bytes.TrimSpace(raw); len(text) > 0 && text[0] == '"' {
		var name string
		if err := json.Unmarshal(text, &name); err != nil {
			return Grant{}, ExplainJSON(err, "entry")
		}
		source, err := ParseSource(name)
		return Grant{Source: source}, err
	}
	doc, err := decodeEntry(raw)
	if err != nil {
		return Grant{}, err
	}
	source, err := ParseSource(doc.Source)
	if err != nil {
		return Grant{}, err
	}
	terms, err := doc.terms()
	if err != nil {
		return Grant{}, fmt.Errorf("source %q: %w", source, err)
	}
	return Grant{Source: source, Terms: terms}, nil
}

func (d entryDocument) terms() (*Terms, error) {
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
	if !terms.conditional() && terms.Reason == "" {
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

func (t *Terms) conditional() bool {
	return t != nil && (t.Methods != nil || t.Paths != nil || t.Routes != nil || !t.Expires.IsZero())
}

// IsConditional reports whether methods, paths, routes or an expiry narrow the
// grant.
func (g Grant) IsConditional() bool { return g.Terms.conditional() }

// Expired reports whether the grant has ended at now.
func (g Grant) Expired(now time.Time) bool {
	return g.Terms != nil && !g.Terms.Expires.IsZero() && !now.Before(g.Terms.Expires)
}

// matches reports whether the terms hold for a method and a path's segments;
// routes and expiry were applied when the route's Live grants were made.
func (t *Terms) matches(method string, segments []string) bool {
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

// MarshalJSON writes the canonical form: the bare source where there is
// nothing else to say.
func (g Grant) MarshalJSON() ([]byte, error) {
	if g.Terms == nil {
		return json.Marshal(g.Source.String())
	}
	return json.Marshal(g.document())
}

func (g Grant) document() entryDocument {
	doc := entryDocument{Source: g.Source.String()}
	if g.Terms == nil {
		return doc
	}
	doc.Reason = g.Terms.Reason
	if g.Terms.Methods != nil {
		doc.Methods = &g.Terms.Methods
	}
	if g.Terms.Paths != nil {
		doc.Paths = texts(g.Terms.Paths, func(p route.Pattern) string { return string(p) })
	}
	if g.Terms.Routes != nil {
		doc.Routes = texts(g.Terms.Routes, route.Route.String)
	}
	if !g.Terms.Expires.IsZero() {
		expires := g.Terms.Expires.Format(time.RFC3339Nano)
		doc.Expires = &expires
	}
	return doc
}

func texts[T any](values []T, text func(T) string) *[]string {
	out := make([]string, len(values))
	for i, value := range values {
		out[i] = text(value)
	}
	return &out
}

// Identity is equal for two grants that allow the same: it leaves out the
// reason and the order within a condition.
func (g Grant) Identity() string {
	if !g.IsConditional() {
		return g.Source.String()
	}
	doc := g.document()
	doc.Reason = ""
	for _, values := range []**[]string{&doc.Methods, &doc.Paths, &doc.Routes} {
		if *values != nil {
			sorted := slices.Sorted(slices.Values(**values))
			*values = &sorted
		}
	}
	key, _ := json.Marshal(doc) // strings and slices of strings cannot fail
	return string(key)
}

// decodeEntry decodes an entry's object. Names are exact, unlike in
// encoding/json, and a null is refused: it would read like a condition and
// mean none.
func decodeEntry(raw []byte) (doc entryDocument, err error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil {
		return doc, ExplainJSON(err, "entry")
	}
	if members == nil {
		return doc, errors.New("entry: expected a source or an object, found null")
	}
	into := map[string]any{
		"source": &doc.Source, "methods": &doc.Methods, "paths": &doc.Paths,
		"routes": &doc.Routes, "expires": &doc.Expires, "reason": &doc.Reason,
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if into[name] == nil {
			return doc, fmt.Errorf("unknown field %q in entry; known are source, methods, paths, routes, expires, reason", clip(name))
		}
		if string(members[name]) == "null" {
			return doc, fmt.Errorf("entry %q is null; leave it out if it is not a condition", name)
		}
		if err := json.Unmarshal(members[name], into[name]); err != nil {
			return doc, ExplainJSON(err, fmt.Sprintf("entry %q", name))
		}
	}
	return doc, nil
}

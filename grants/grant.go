package grants

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/mtls-authz/mtls-authz/grants/mistake"
	"github.com/mtls-authz/mtls-authz/grants/names"
	"github.com/mtls-authz/mtls-authz/grants/source"
	"github.com/mtls-authz/mtls-authz/grants/terms"
)

// A Grant allows one source, perhaps narrowed by conditions. The zero Grant
// allows nobody.
type Grant struct {
	Source Source
	// Terms narrow the grant; nil means unconditional and without a reason.
	Terms *Terms
}

// Terms are what narrows a grant; see [terms.Terms].
type Terms = terms.Terms

// IsMethod reports whether s is a method that can reach an app; see
// [terms.IsMethod].
func IsMethod(s string) bool { return terms.IsMethod(s) }

// entryDocument is a grant in JSON. Space and Labels belong to the source apps.
type entryDocument struct {
	Source string  `json:"source"`
	Space  *string `json:"space,omitempty"`
	Labels *string `json:"labels,omitempty"`
	terms.Given
}

// ParseGrant reads one entry of allow: a source, or an object with a source
// and conditions.
func ParseGrant(raw []byte) (Grant, error) {
	if text := bytes.TrimSpace(raw); len(text) > 0 && text[0] == '"' {
		var name string
		if err := json.Unmarshal(text, &name); err != nil {
			return Grant{}, mistake.OfJSON(err, "entry")
		}
		from, err := ParseSource(name)
		return Grant{Source: from}, err
	}
	doc, err := decodeEntry(raw)
	if err != nil {
		return Grant{}, err
	}
	from, err := doc.source()
	if err != nil {
		return Grant{}, err
	}
	narrowed, err := doc.Parse()
	if err != nil {
		return Grant{}, fmt.Errorf("source %q: %w", from, err)
	}
	return Grant{Source: from, Terms: narrowed}, nil
}

// source reads the members that name the source together.
func (d entryDocument) source() (Source, error) {
	if d.Source == names.LabelledWord && d.Space != nil && d.Labels != nil {
		name, err := names.ParseLabelled(*d.Space, *d.Labels)
		if err != nil {
			return Source{}, err
		}
		return source.OfName(name), nil
	}
	plain, err := ParseSource(d.Source)
	if err == nil && (d.Space != nil || d.Labels != nil) {
		return Source{}, fmt.Errorf("source %q: space and labels belong to the source %q only", plain, names.LabelledWord)
	}
	return plain, err
}

// IsConditional reports whether methods, paths, routes or an expiry narrow the
// grant.
func (g Grant) IsConditional() bool { return g.Terms.Conditional() }

// Expired reports whether the grant has ended at now.
func (g Grant) Expired(now time.Time) bool { return g.Terms.Expired(now) }

// MarshalJSON writes the canonical form: the bare source where there is
// nothing else to say.
func (g Grant) MarshalJSON() ([]byte, error) {
	doc := g.document()
	if g.Terms == nil && doc.Labels == nil {
		return json.Marshal(doc.Source)
	}
	return json.Marshal(doc)
}

func (g Grant) document() entryDocument {
	doc := entryDocument{Source: g.Source.String(), Given: g.Terms.Given()}
	if name := g.Source.Name(); name.Kind == names.Labelled {
		doc.Source, doc.Space, doc.Labels = names.LabelledWord, &name.Space, &name.Labels
	}
	return doc
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
		return doc, mistake.OfJSON(err, "entry")
	}
	if members == nil {
		return doc, errors.New("entry: expected a source or an object, found null")
	}
	into := map[string]any{
		"source": &doc.Source, "space": &doc.Space, "labels": &doc.Labels, "methods": &doc.Methods, "paths": &doc.Paths,
		"routes": &doc.Routes, "expires": &doc.Expires, "reason": &doc.Reason,
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if into[name] == nil {
			return doc, fmt.Errorf("unknown field %q in entry; known are source, methods, paths, routes, expires, reason, and of the source apps also space and labels", mistake.Clip(name))
		}
		if string(members[name]) == "null" {
			return doc, fmt.Errorf("entry %q is null; leave it out if it is not a condition", name)
		}
		if err := json.Unmarshal(members[name], into[name]); err != nil {
			return doc, mistake.OfJSON(err, fmt.Sprintf("entry %q", name))
		}
	}
	return doc, nil
}

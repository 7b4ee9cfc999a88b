// Package display puts the names by which people call apps, spaces and orgs beside
// their guids, for viewers who may know them.
//
// Names are for people: nothing is decided by them. It trusts whoever looks them up,
// and fails closed: of what is not known to be in a viewer's org there is no name.
package display

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/identity"
)

// A Label is what people call an app, a space or an org. The zero Label is not
// known, or not yet.
type Label struct {
	Name string
	// Space and Org are where it is.
	Space, Org identity.GUID
	// Gone is since when it is known not to exist; zero: it exists, or nobody knows.
	Gone time.Time
}

// Labels finds a label, and never waits. Nil knows none.
type Labels func(kind grants.Kind, id identity.GUID) Label

// Within shows only the names of what is in an org. That something is gone it tells
// of everything: who asks has the guid, and hears nothing else.
func (l Labels) Within(org identity.GUID) Labels {
	return func(kind grants.Kind, id identity.GUID) Label {
		found := l.of(kind, id)
		if org.IsZero() || found.Org != org {
			return Label{Gone: found.Gone}
		}
		return found
	}
}

func (l Labels) of(kind grants.Kind, id identity.GUID) Label {
	if l == nil || id.IsZero() {
		return Label{}
	}
	return l(kind, id)
}

// Name is org/space/app, or as much of it as there is of a space or an org; "": not
// known.
func (l Labels) Name(kind grants.Kind, id identity.GUID) string {
	found := l.of(kind, id)
	if found.Name == "" {
		return ""
	}
	parts := []string{found.Name}
	above := func(kind grants.Kind, id identity.GUID) {
		if name := l.of(kind, id).Name; name != "" {
			parts = append([]string{name}, parts...)
		}
	}
	if kind == grants.App {
		above(grants.Space, found.Space)
	}
	if kind != grants.Org {
		above(grants.Org, found.Org)
	}
	return strings.Join(parts, "/")
}

// Source is the name of what a source by guid stands for; "": not known, or none.
func (l Labels) Source(source grants.Source) string { return l.Name(source.Kind, source.ID) }

// App is the name of an app by its guid as text; "": not known.
func (l Labels) App(guid string) string {
	id, err := identity.ParseGUID(guid)
	if err != nil {
		return "" // nobody was verified
	}
	return l.Name(grants.App, id)
}

// Beside puts what is known beside a guid; "" where nothing is.
func Beside(known ...string) string {
	known = slices.DeleteFunc(slices.Clone(known), func(one string) bool { return one == "" })
	if len(known) == 0 {
		return ""
	}
	return " (" + strings.Join(known, ", ") + ")"
}

// Printable takes out of a line what would move a cell, or a terminal.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// Gone says that what the owner of a route has granted to is not there any more; "":
// it is, or nobody knows. What is wrong with a name is told elsewhere, and an
// operator's grant is no fault of the route's owner.
func (l Labels) Gone(rule grants.Rule) string {
	if rule.Origin == grants.FromOperator || rule.Written().Source.Kind == grants.Named {
		return ""
	}
	since := l.of(rule.Source.Kind, rule.Source.ID).Gone
	if since.IsZero() {
		return ""
	}
	return fmt.Sprintf("%s (%s): the %s was deleted, at the latest at %s: remove the grant with allow_remove",
		rule.Source, rule.Origin, rule.Source.Kind, since.UTC().Format(time.RFC3339))
}

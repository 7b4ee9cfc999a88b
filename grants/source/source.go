// Package source is whom a grant allows: an app, a space, an org or anybody, by
// guid or by a name that stands for some. It trusts nothing that it parses and
// fails closed: the zero Source is nobody, and a name alone is nobody.
package source

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"unique"

	"github.com/mtls-authz/mtls-authz/grants/names"
	"github.com/mtls-authz/mtls-authz/identity"
)

// A Kind tells what a [Source] names. The zero value matches nobody.
type Kind uint8

// The kinds of sources, from the narrowest to the widest.
const (
	App Kind = iota + 1
	Space
	Org
	Any
	// Named is a source by name: nobody by itself, but what the name stands for.
	Named
)

var kindNames = [...]string{App: "app", Space: "space", Org: "org", Any: "any", Named: "named"}

// String returns the word used in sources: app, space, org or any.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return ""
}

// A Source is whom a grant allows: one app, all apps of a space or of an org,
// or any verified caller, or whatever a name stands for. It is comparable; the
// zero Source is nobody.
type Source struct {
	Kind Kind
	// ID is the guid; zero for Any and Named.
	ID identity.GUID

	name unique.Handle[names.Name] // of Named
}

// OfName is the source that a name stands for.
func OfName(name names.Name) Source {
	return Source{Kind: Named, name: unique.Make(name)}
}

// Name is the name of a source that is Named; zero for others.
func (s Source) Name() names.Name {
	if s.Kind != Named || s.name == (unique.Handle[names.Name]{}) {
		return names.Name{}
	}
	return s.name.Value()
}

// ErrReserved: the selector is one that this version does not offer.
var ErrReserved = errors.New("reserved for a later version")

var reserved = []string{"spiffe:", "oidc:", "x509:"}

// Parse reads cf:app:<guid>, cf:space:<guid>, cf:org:<guid> or cf:any,
// the selectors of Cloud Foundry's own route policies (RFC-0055), or one of the
// names that [names.Parse] reads.
func Parse(s string) (Source, error) {
	for _, prefix := range reserved {
		if strings.HasPrefix(s, prefix) {
			return Source{}, fmt.Errorf("source %q: selectors %q are %w; use cf:app:<guid>, cf:space:<guid>, cf:org:<guid> or cf:any", clip(s), prefix, ErrReserved)
		}
	}
	if name, is, err := names.Parse(s); err != nil {
		return Source{}, err
	} else if is {
		return OfName(name), nil
	}
	if s == "cf:any" {
		return Source{Kind: Any}, nil
	}
	for kind := App; kind < Any; kind++ {
		guid, ok := strings.CutPrefix(s, "cf:"+kind.String()+":")
		if !ok {
			continue
		}
		id, err := identity.ParseGUID(guid)
		if err != nil {
			return Source{}, fmt.Errorf("source %q: %w", clip(s), err)
		}
		return Source{Kind: kind, ID: id}, nil
	}
	return Source{}, fmt.Errorf("source %q: expected cf:app:<guid>, cf:space:<guid>, cf:org:<guid> or cf:any, or a name such as app:frontend", clip(s))
}

// String returns the form that [Parse] reads, "" for the zero Source.
func (s Source) String() string {
	switch s.Kind {
	case Any:
		return "cf:any"
	case App, Space, Org:
		return "cf:" + s.Kind.String() + ":" + s.ID.String()
	case Named:
		return s.Name().String()
	}
	return ""
}

// Of returns the source of this kind that the caller is.
func (k Kind) Of(caller identity.Caller) Source {
	switch k {
	case App:
		return Source{Kind: App, ID: caller.App}
	case Space:
		return Source{Kind: Space, ID: caller.Space}
	case Org:
		return Source{Kind: Org, ID: caller.Org}
	default:
		return Source{Kind: Any}
	}
}

// Compare orders sources by kind, then by guid; two names are alike.
func (s Source) Compare(other Source) int {
	if c := cmp.Compare(s.Kind, other.Kind); c != 0 {
		return c
	}
	return s.ID.Compare(other.ID)
}

// clip bounds outside input that is quoted in an error.
func clip(s string) string {
	const most = 128
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

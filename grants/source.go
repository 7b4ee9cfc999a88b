package grants

import (
	"errors"
	"fmt"
	"strings"

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
)

var kindNames = [...]string{App: "app", Space: "space", Org: "org", Any: "any"}

// String returns the word used in sources: app, space, org or any.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return ""
}

// A Source is whom a grant allows: one app, all apps of a space or of an org,
// or any verified caller. It is comparable; the zero Source is nobody.
type Source struct {
	Kind Kind
	// ID is the guid; zero for Any.
	ID identity.GUID
}

// ErrReservedSource: the selector is one that this version does not offer.
var ErrReservedSource = errors.New("reserved for a later version")

var reservedSources = []string{"app:", "space:", "org:", "apps", "spiffe:", "oidc:", "x509:"}

// ParseSource reads cf:app:<guid>, cf:space:<guid>, cf:org:<guid> or cf:any,
// the selectors of Cloud Foundry's own route policies (RFC-0055).
func ParseSource(s string) (Source, error) {
	for _, prefix := range reservedSources {
		if strings.HasPrefix(s, prefix) {
			return Source{}, fmt.Errorf("source %q: selectors %q are %w; use cf:app:<guid>, cf:space:<guid>, cf:org:<guid> or cf:any", clip(s), prefix, ErrReservedSource)
		}
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
	return Source{}, fmt.Errorf("source %q: expected cf:app:<guid>, cf:space:<guid>, cf:org:<guid> or cf:any", clip(s))
}

// String returns the form that [ParseSource] reads, "" for the zero Source.
func (s Source) String() string {
	switch s.Kind {
	case Any:
		return "cf:any"
	case App, Space, Org:
		return "cf:" + s.Kind.String() + ":" + s.ID.String()
	}
	return ""
}

// of returns the source of this kind that the caller is.
func (k Kind) of(caller identity.Caller) Source {
	switch k {
	case App:
		return Source{App, caller.App}
	case Space:
		return Source{Space, caller.Space}
	case Org:
		return Source{Org, caller.Org}
	default:
		return Source{Kind: Any}
	}
}

// clip bounds outside input that is quoted in an error.
func clip(s string) string {
	const most = 128
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

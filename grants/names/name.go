// Package names is how a developer names a source instead of giving its guid,
// and what such a name stands for at the moment.
//
// A [Name] is what was written: an app, a space, the own org, or the apps of a
// space that bear labels. It grants nothing by itself. A [Book] tells what guids
// a name stands for, within the org of whoever wrote it. It trusts whoever fills
// the book, and fails closed: what is not in it stands for nobody.
package names

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/mtls-authz/mtls-authz/identity"
)

// A Kind tells what a [Name] names. The zero value names nothing.
type Kind uint8

// The kinds of names.
const (
	// App is one app by its name.
	App Kind = iota + 1
	// Space is all apps of a space by the space's name.
	Space
	// OwnOrg is the org of the service instance.
	OwnOrg
	// Labelled are the apps of a space that bear labels.
	Labelled
)

// A Name is a source as a developer wrote it. It is comparable; the zero Name
// names nothing.
type Name struct {
	Kind Kind
	// Space is the space's name; "" with App: the space of the service instance.
	Space string
	// App is the app's name.
	App string
	// Labels are requirements key=value with commas between them, as written.
	Labels string
}

// LabelledWord is the source of an entry that selects apps by label.
const LabelledWord = "apps"

const (
	maxPart   = 255 // bytes, what Cloud Controller keeps of a name
	maxLabels = 8

	maxPrefix      = 253 // bytes, of a label's key
	reservedPrefix = "cloudfoundry.org"
)

var (
	guidShape = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
	// label is what Cloud Controller lets an app bear: in the prefix of a key at least
	// two labels of a domain.
	label = regexp.MustCompile(`^(?:((?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)/)?` +
		`[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?=[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`)
)

// Parse reads app:NAME, app:SPACE/NAME, space:NAME or org:. and reports whether s
// begins like one.
func Parse(s string) (name Name, is bool, err error) {
	kind, rest, found := strings.Cut(s, ":")
	switch {
	case s == LabelledWord || found && kind == LabelledWord:
		err = errors.New(`expected an object such as {"source":"apps","space":"monitoring","labels":"team=payments"}`)
	case !found:
		return Name{}, false, nil
	case kind == "app":
		name, err = parseApp(rest)
	case kind == "space":
		name = Name{Kind: Space, Space: rest}
		err = checkPart("space", rest)
	case kind == "org":
		name = Name{Kind: OwnOrg}
		if rest != "." {
			err = errors.New(`by name only the own org can be given, which is "org:."; another one by its guid, cf:org:<guid>`)
		}
	default:
		return Name{}, false, nil
	}
	if err != nil {
		return Name{}, true, fmt.Errorf("source %q: %w", clip(s), err)
	}
	return name, true, nil
}

func parseApp(rest string) (Name, error) {
	space, app, found := strings.Cut(rest, "/")
	if !found {
		space, app = "", rest
	} else if err := checkPart("space", space); err != nil {
		return Name{}, err
	}
	return Name{Kind: App, Space: space, App: app}, checkPart("app", app)
}

// ParseLabelled reads the members of an entry that selects apps by label.
func ParseLabelled(space, labels string) (Name, error) {
	if err := checkPart("space", space); err != nil {
		return Name{}, fmt.Errorf("source %q: %w", LabelledWord, err)
	}
	if _, err := Requirements(labels); err != nil {
		return Name{}, fmt.Errorf("source %q: %w", LabelledWord, err)
	}
	return Name{Kind: Labelled, Space: space, Labels: labels}, nil
}

// Requirements reads labels, all of which an app must bear. There are no other
// operators than =: what is to be allowed is listed, not what is not.
func Requirements(labels string) (map[string]string, error) {
	wanted := map[string]string{}
	for one := range strings.SplitSeq(labels, ",") {
		parts := label.FindStringSubmatch(one)
		if parts == nil || len(parts[1]) > maxPrefix {
			return nil, fmt.Errorf("labels %q: expected key=value or domain.example/key=value, several with commas between them and without spaces", clip(labels))
		}
		if strings.EqualFold(parts[1], reservedPrefix) {
			return nil, fmt.Errorf("labels %q: no app can bear labels of %s, which Cloud Foundry keeps for itself", clip(labels), reservedPrefix)
		}
		key, value, _ := strings.Cut(one, "=")
		if _, again := wanted[key]; again {
			return nil, fmt.Errorf("labels %q: %q is there twice", clip(labels), key)
		}
		wanted[key] = value
	}
	if len(wanted) > maxLabels {
		return nil, fmt.Errorf("labels: %d requirements, at most %d are allowed", len(wanted), maxLabels)
	}
	return wanted, nil
}

// checkPart refuses what cannot be the name of a space or an app, and what was
// meant to be a guid.
func checkPart(what, s string) error {
	switch {
	case s == "":
		return fmt.Errorf("the name of the %s is missing", what)
	case guidShape.MatchString(s):
		return fmt.Errorf("that is a guid; write cf:%s:%s", what, strings.ToLower(s))
	case len(s) > maxPart:
		return fmt.Errorf("the name of the %s has %d bytes, at most %d are possible", what, len(s), maxPart)
	case strings.Contains(s, "/"):
		return fmt.Errorf("a name with a slash cannot be told from space/app; write cf:%s:<guid>", what)
	case !utf8.ValidString(s) || s != strings.TrimSpace(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsGraphic(r) }):
		return fmt.Errorf("the name of the %s: expected printable text without spaces at its ends", what)
	}
	return nil
}

// String returns the name as it was written; of apps by label, which are written
// as an object, a text that no other name has.
func (n Name) String() string {
	switch n.Kind {
	case App:
		if n.Space == "" {
			return "app:" + n.App
		}
		return "app:" + n.Space + "/" + n.App
	case Space:
		return "space:" + n.Space
	case OwnOrg:
		return "org:."
	case Labelled:
		return LabelledWord + ":" + n.Space + "?" + n.Labels
	}
	return ""
}

// A Reference is a name in the place from which it is looked up. Two instances
// of one org that name the same have the same reference.
type Reference struct {
	Org identity.GUID
	// Space is that of the service instance where the name says no other.
	Space identity.GUID
	Name  Name
}

// From is the name as it is meant by an instance in a space of an org.
func (n Name) From(org, space identity.GUID) Reference {
	if n.Kind != App || n.Space != "" {
		space = identity.GUID{}
	}
	return Reference{Org: org, Space: space, Name: n}
}

// A Set is a number of references. It is immutable; its address tells it apart
// from others. The nil Set is empty.
type Set struct{ references map[Reference]bool }

// NewSet makes a set of references, of which some may be there more than once.
func NewSet(references iter.Seq[Reference]) *Set {
	all := map[Reference]bool{}
	for r := range references {
		all[r] = true
	}
	return &Set{all}
}

// Has reports whether a reference is in the set.
func (s *Set) Has(r Reference) bool { return s != nil && s.references[r] }

// Len is how many references there are.
func (s *Set) Len() int {
	if s == nil {
		return 0
	}
	return len(s.references)
}

// All are the references, in no order.
func (s *Set) All() iter.Seq[Reference] {
	if s == nil {
		return func(func(Reference) bool) {}
	}
	return maps.Keys(s.references)
}

// clip bounds outside input that is quoted in an error.
func clip(s string) string {
	const most = 128
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

package inforce

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/cf"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/names"
)

// A Grant is one in force, as it was written.
type Grant struct {
	grants.Grant
	// Origin is instance, binding or operator.
	Origin string
	// Holders are what its name stands for; a grant by guid has none.
	Holders []grants.Source

	// labels are the names that the gateway knows, by source.
	labels map[grants.Source]string
}

func (g Grant) is(origin string, written grants.Grant) bool {
	return g.Origin == origin && g.Identity() == written.Identity()
}

// Admits reports whether the grant lets in this source, by name or by guid.
func (g Grant) Admits(source grants.Source) bool {
	return g.Source == source || slices.Contains(g.Holders, source)
}

// read makes one grant of each that was written: the gateway shows one for each
// holder of a name.
func (r routeShown) read() (found []Grant, err error) {
	places := map[string]int{}
	for _, one := range r.Grants {
		written, err := grants.ParseGrant(one.Grant)
		if err != nil {
			return nil, err
		}
		key := one.Origin + " " + written.Identity()
		at, again := places[key]
		if !again {
			at = len(found)
			places[key] = at
			found = append(found, Grant{Grant: written, Origin: one.Origin, labels: map[grants.Source]string{}})
		}
		is := written.Source
		if one.StandsFor != "" {
			if is, err = grants.ParseSource(one.StandsFor); err != nil {
				return nil, err
			}
			found[at].Holders = append(found[at].Holders, is)
		}
		found[at].labels[is] = cf.Line(one.Name)
	}
	return found, nil
}

// KindOf is what a source is, or a name stands for.
func KindOf(source grants.Source) grants.Kind {
	switch source.Name().Kind {
	case names.App, names.Labelled:
		return grants.App
	case names.Space:
		return grants.Space
	case names.OwnOrg:
		return grants.Org
	}
	return source.Kind
}

// Name is what people call the source: what the user may see, or else what the
// gateway shows of the own org. Of a name it is what that stands for.
func (g Grant) Name(visible map[grants.Source]string) string {
	const most = 3 // names
	of := func(source grants.Source) string { return cmp.Or(visible[source], g.labels[source]) }
	switch {
	case g.Source.Kind != grants.Named:
		return of(g.Source)
	case len(g.Holders) == 0:
		return "nobody"
	case len(g.Holders) == 1:
		return cmp.Or(of(g.Holders[0]), g.Holders[0].String())
	}
	parts := []string{}
	for _, one := range g.Holders[:min(most, len(g.Holders))] {
		parts = append(parts, cmp.Or(of(one), one.String()))
	}
	if len(g.Holders) > most {
		parts = append(parts, "…")
	}
	return g.Count() + ": " + strings.Join(parts, ", ")
}

// Count is how many apps, spaces or orgs a name stands for.
func (g Grant) Count() string {
	kind := KindOf(g.Source).String()
	if len(g.Holders) == 1 {
		return "1 " + kind
	}
	return fmt.Sprintf("%d %ss", len(g.Holders), kind)
}

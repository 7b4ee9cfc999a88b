package directory

import (
	"context"
	"maps"
	"net/url"
	"slices"
	"time"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/identity"
)

const (
	// maxLabels bounds what is remembered, maxWanted what is asked for at once.
	maxLabels = 100_000
	maxWanted = 10_000
	// labelLife is how old a label may get before it is asked for again.
	labelLife = 10 * time.Minute
)

// A Label is what people call an app, a space or an org. The zero Label is not
// known, or not yet.
type Label struct {
	Name string
	// Space and Org are where it is: whoever may not see these must not be shown
	// the name.
	Space, Org identity.GUID
	// Gone is since when it is known not to exist; zero: it exists.
	Gone time.Time
}

// entity is an app, a space or an org.
type entity struct {
	kind grants.Kind
	id   identity.GUID
}

type label struct {
	Label
	read time.Time
}

// Label returns what is remembered of an app, a space or an org, and never
// waits: what is not remembered is asked for, for those who come later.
func (d *Directory) Label(kind grants.Kind, id identity.GUID) Label {
	if kind < grants.App || kind > grants.Org || id.IsZero() {
		return Label{}
	}
	one := entity{kind, id}
	found, ok := d.labels.Get(one)
	if age := d.cfg.Now().Sub(found.read); !ok || age > labelLife || age < 0 {
		d.mu.Lock()
		defer d.mu.Unlock()
		if len(d.asked) < maxWanted {
			d.asked[one] = true
		}
	}
	return found.Label
}

// fetchLabels asks for the labels that somebody wanted.
func (d *Directory) fetchLabels(ctx context.Context) {
	d.mu.Lock()
	wanted := d.asked
	d.asked = map[entity]bool{}
	d.mu.Unlock()
	byKind := map[grants.Kind][]identity.GUID{}
	for one := range maps.Keys(wanted) {
		byKind[one.kind] = append(byKind[one.kind], one.id)
	}
	for kind, ids := range byKind {
		for chunk := range slices.Chunk(unique(ids), maxValues) {
			err := d.fetch(ctx, kind, chunk)
			d.tell(ctx, err)
			if err != nil {
				return // who still wants them asks again
			}
		}
	}
}

func (d *Directory) fetch(ctx context.Context, kind grants.Kind, ids []identity.GUID) error {
	path := map[grants.Kind]string{grants.App: appsPath, grants.Space: spacesPath, grants.Org: orgsPath}[kind]
	query := url.Values{"guids": {joined(texts(ids))}}
	if kind == grants.App {
		query.Set("include", "space,space.organization")
	}
	found := map[identity.GUID]Label{}
	err := d.list(ctx, path, query, func(page list) {
		orgOf := map[identity.GUID]identity.GUID{}
		for _, space := range page.Included.Spaces {
			orgOf[space.ID.GUID] = space.org()
			d.remember(grants.Space, space.ID.GUID, Label{Name: space.Name, Space: space.ID.GUID, Org: space.org()})
		}
		for _, org := range page.Included.Orgs {
			d.remember(grants.Org, org.ID.GUID, Label{Name: org.Name, Org: org.ID.GUID})
		}
		for _, r := range page.Resources {
			one := Label{Name: r.Name, Space: r.space(), Org: r.org()}
			switch path {
			case appsPath:
				one.Org = orgOf[r.space()]
			case spacesPath:
				one.Space = r.ID.GUID
			case orgsPath:
				one.Org = r.ID.GUID
			}
			found[r.ID.GUID] = one
		}
	})
	if err != nil {
		return err
	}
	for _, id := range ids {
		one, there := found[id]
		if !there {
			before, _ := d.labels.Peek(entity{kind, id})
			if one = before.Label; one.Gone.IsZero() {
				one.Gone = d.cfg.Now()
			}
		}
		d.remember(kind, id, one)
	}
	return nil
}

func (d *Directory) remember(kind grants.Kind, id identity.GUID, l Label) {
	d.labels.Add(entity{kind, id}, label{l, d.cfg.Now()})
}

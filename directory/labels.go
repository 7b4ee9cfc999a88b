package directory

import (
	"context"
	"maps"
	"net/url"
	"slices"
	"time"

	"github.com/mtls-authz/mtls-authz/directory/census"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/display"
	"github.com/mtls-authz/mtls-authz/identity"
)

const (
	// maxLabels bounds what is remembered, maxWanted what is asked for at once.
	maxLabels = 100_000
	maxWanted = 10_000
	// labelLife is how old a label may get before it is asked for again.
	labelLife = 10 * time.Minute
)

// entity is an app, a space or an org.
type entity struct {
	kind grants.Kind
	id   identity.GUID
}

type label struct {
	display.Label
	read time.Time
}

// Label returns what is remembered of an app, a space or an org, and never
// waits: what is not remembered is asked for, for those who come later.
func (d *Directory) Label(kind grants.Kind, id identity.GUID) display.Label {
	if kind < grants.App || kind > grants.Org || id.IsZero() {
		return display.Label{}
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
		for chunk := range slices.Chunk(census.Unique(ids), census.MaxValues) {
			err := d.fetch(ctx, kind, chunk)
			d.fetching.tell(ctx, err)
			if err != nil {
				return // who still wants them asks again
			}
		}
	}
}

func (d *Directory) fetch(ctx context.Context, kind grants.Kind, ids []identity.GUID) error {
	path := map[grants.Kind]string{grants.App: census.AppsPath, grants.Space: census.SpacesPath, grants.Org: census.OrgsPath}[kind]
	var more url.Values
	if kind == grants.App {
		more = url.Values{"include": {"space,space.organization"}}
	}
	found := map[identity.GUID]display.Label{}
	err := census.ByGUID(ctx, d.cfg.Lister, path, ids, more, func(page census.Page) {
		orgOf := map[identity.GUID]identity.GUID{}
		for _, space := range page.Included.Spaces {
			orgOf[space.ID.GUID] = space.Org()
			d.remember(grants.Space, space.ID.GUID, display.Label{Name: space.Name, Space: space.ID.GUID, Org: space.Org()})
		}
		for _, org := range page.Included.Orgs {
			d.remember(grants.Org, org.ID.GUID, display.Label{Name: org.Name, Org: org.ID.GUID})
		}
		for _, r := range page.Resources {
			one := display.Label{Name: r.Name, Space: r.Space(), Org: r.Org()}
			switch path {
			case census.AppsPath:
				one.Org = orgOf[r.Space()]
			case census.SpacesPath:
				one.Space = r.ID.GUID
			case census.OrgsPath:
				one.Org = r.ID.GUID
			}
			found[r.ID.GUID] = one
		}
	})
	if err != nil {
		return err
	}
	for _, id := range ids {
		if one, there := found[id]; there {
			d.remember(kind, id, one)
			continue
		}
		before, _ := d.labels.Peek(entity{kind, id})
		one := before.Label
		if one.Gone.IsZero() && d.cfg.Lister.SeesAll() { // else it may be hidden
			one.Gone = d.cfg.Now()
		}
		d.remember(kind, id, one)
	}
	return nil
}

func (d *Directory) remember(kind grants.Kind, id identity.GUID, l display.Label) {
	d.labels.Add(entity{kind, id}, label{l, d.cfg.Now()})
}

package directory

import (
	"context"
	"encoding/json"
	"maps"
	"net/url"
	"slices"

	"github.com/mtls-authz/mtls-authz/grants/names"
	"github.com/mtls-authz/mtls-authz/identity"
)

const (
	orgsPath   = "/v3/organizations"
	spacesPath = "/v3/spaces"
	appsPath   = "/v3/apps"
)

// guid is one of Cloud Controller's; zero where it is none that a certificate
// could hold.
type guid struct{ identity.GUID }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (g *guid) UnmarshalText(text []byte) (err error) {
	if g.GUID, err = identity.ParseGUID(string(text)); err != nil {
		g.GUID = identity.GUID{} // one such thing must not hide all others
	}
	return nil
}

// resource is an org, a space or an app in a list.
type resource struct {
	ID            guid   `json:"guid"`
	Name          string `json:"name"`
	Relationships struct {
		Space, Organization struct {
			Data struct {
				ID guid `json:"guid"`
			} `json:"data"`
		}
	} `json:"relationships"`
	Metadata struct {
		Labels map[string]string `json:"labels"`
	} `json:"metadata"`
}

func (r resource) space() identity.GUID { return r.Relationships.Space.Data.ID.GUID }
func (r resource) org() identity.GUID   { return r.Relationships.Organization.Data.ID.GUID }

// list is a page.
type list struct {
	Resources []resource `json:"resources"`
	Included  struct {
		Spaces []resource `json:"spaces"`
		Orgs   []resource `json:"organizations"`
	} `json:"included"`
}

func (d *Directory) list(ctx context.Context, path string, query url.Values, found func(list)) error {
	return d.cfg.Lister.List(ctx, path, query, func(raw json.RawMessage) error {
		var page list
		if err := json.Unmarshal(raw, &page); err != nil {
			return err
		}
		page.Resources = slices.DeleteFunc(page.Resources, func(r resource) bool { return r.ID.IsZero() })
		found(page)
		return nil
	})
}

// find returns what bears each name; names of orgs that the client cannot see are
// left out. What an answer holds that was not asked for counts for nobody.
func (d *Directory) find(ctx context.Context, wanted []names.Reference) (map[names.Reference][]identity.GUID, error) {
	wanted, err := d.visible(ctx, wanted)
	if err != nil {
		return nil, err
	}
	var inOrgs []placed
	for _, r := range wanted {
		if r.Name.Space != "" {
			inOrgs = append(inOrgs, placed{r.Org, r.Name.Space})
		}
	}
	spaces, err := d.named(ctx, spacesPath, "organization_guids", inOrgs, resource.org)
	if err != nil {
		return nil, err
	}
	spaceOf := func(r names.Reference) identity.GUID {
		if r.Name.Space == "" {
			return r.Space
		}
		return spaces[placed{r.Org, r.Name.Space}]
	}
	var inSpaces []placed
	for _, r := range wanted {
		if space := spaceOf(r); r.Name.Kind == names.App && !space.IsZero() {
			inSpaces = append(inSpaces, placed{space, r.Name.App})
		}
	}
	apps, err := d.named(ctx, appsPath, "space_guids", inSpaces, resource.space)
	if err != nil {
		return nil, err
	}
	found := make(map[names.Reference][]identity.GUID, len(wanted))
	for _, r := range wanted {
		one := spaceOf(r)
		if r.Name.Kind == names.App {
			one = apps[placed{one, r.Name.App}]
		}
		found[r] = nil
		if !one.IsZero() {
			found[r] = []identity.GUID{one}
		}
	}
	return found, d.addLabelled(ctx, found)
}

// visible are the references of orgs that the client can see.
func (d *Directory) visible(ctx context.Context, wanted []names.Reference) ([]names.Reference, error) {
	orgs := make([]identity.GUID, len(wanted))
	for i, r := range wanted {
		orgs[i] = r.Org
	}
	there, err := d.existing(ctx, map[string][]identity.GUID{orgsPath: orgs})
	return slices.DeleteFunc(slices.Clone(wanted), func(r names.Reference) bool { return !there[r.Org] }), err
}

// existing tells which guids are there, by the list that they would be in.
func (d *Directory) existing(ctx context.Context, byPath map[string][]identity.GUID) (map[identity.GUID]bool, error) {
	there := map[identity.GUID]bool{}
	for path, ids := range byPath {
		for chunk := range slices.Chunk(unique(ids), maxValues) {
			err := d.list(ctx, path, url.Values{"guids": {joined(texts(chunk))}}, func(page list) {
				for _, r := range page.Resources {
					there[r.ID.GUID] = slices.Contains(chunk, r.ID.GUID)
				}
			})
			if err != nil {
				return nil, err
			}
		}
	}
	return there, nil
}

// named looks names up in their places.
func (d *Directory) named(ctx context.Context, path, within string, wanted []placed, in func(resource) identity.GUID) (map[placed]identity.GUID, error) {
	found := map[placed]identity.GUID{}
	look := func(places []identity.GUID, called []string) error {
		query := url.Values{within: {joined(texts(places))}}
		if len(called) > 0 {
			query.Set("names", joined(called))
		}
		return d.list(ctx, path, query, func(page list) {
			for _, r := range page.Resources {
				found[placed{in(r), r.Name}] = r.ID.GUID // where it is, not where it was asked for
			}
		})
	}
	few, whole := sparse(wanted)
	for chunk := range chunks(few) {
		var places []identity.GUID
		called := map[string]bool{}
		for _, one := range chunk {
			called[one.name], places = true, append(places, one.in)
		}
		if err := look(unique(places), slices.Sorted(maps.Keys(called))); err != nil {
			return nil, err
		}
	}
	for places := range slices.Chunk(whole, maxValues) {
		if err := look(places, nil); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// addLabelled puts the apps that bear labels in the place of their space.
func (d *Directory) addLabelled(ctx context.Context, found map[names.Reference][]identity.GUID) error {
	bySelector := map[string]map[identity.GUID][]names.Reference{}
	for r, space := range found {
		if r.Name.Kind != names.Labelled || len(space) == 0 {
			continue
		}
		if bySelector[r.Name.Labels] == nil {
			bySelector[r.Name.Labels] = map[identity.GUID][]names.Reference{}
		}
		bySelector[r.Name.Labels][space[0]] = append(bySelector[r.Name.Labels][space[0]], r)
		found[r] = nil
	}
	for selector, inSpace := range bySelector {
		wanted, err := names.Requirements(selector)
		if err != nil {
			continue // it stands for nobody
		}
		for chunk := range slices.Chunk(slices.SortedFunc(maps.Keys(inSpace), compare), maxValues) {
			query := url.Values{"label_selector": {selector}, "space_guids": {joined(texts(chunk))}}
			err := d.list(ctx, appsPath, query, func(page list) {
				for _, app := range page.Resources {
					if !bears(app.Metadata.Labels, wanted) {
						continue
					}
					for _, r := range inSpace[app.space()] {
						found[r] = append(found[r], app.ID.GUID)
					}
				}
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func bears(labels, wanted map[string]string) bool {
	for key, value := range wanted {
		if got, there := labels[key]; !there || got != value {
			return false
		}
	}
	return true
}

package cf

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/identity"
)

// resource is what is read of a resource of the v3 API; each has some of it.
type resource struct {
	GUID          string                     `json:"guid"`
	Name          string                     `json:"name"`
	Type          string                     `json:"type"`
	Host          string                     `json:"host"`
	Path          string                     `json:"path"`
	Port          *int                       `json:"port"`
	URL           string                     `json:"url"`
	Relationships map[string]json.RawMessage `json:"relationships"`
}

// related is the guid of the one resource that is related; "": none.
func (r resource) related(name string) string {
	var to struct {
		Data struct {
			GUID string `json:"guid"`
		} `json:"data"`
	}
	_ = json.Unmarshal(r.Relationships[name], &to) // a list is not one resource
	return to.Data.GUID
}

// included are resources that came along, by kind.
type included map[string][]resource

func (in included) find(kind, guid string) (resource, bool) {
	for _, one := range in[kind] {
		if one.GUID == guid && guid != "" {
			return one, true
		}
	}
	return resource{}, false
}

// maxPages bounds how many pages of 5,000 a list may have.
const maxPages = 200

// list reads all pages. The path has a query.
func (c *CLI) list(ctx context.Context, path string) (found []resource, in included, err error) {
	in = included{}
	for number := 1; number <= maxPages; number++ {
		var page struct {
			Pagination struct {
				Next *struct{} `json:"next"`
			} `json:"pagination"`
			Resources *[]resource `json:"resources"`
			Included  included    `json:"included"`
		}
		if err := c.get(ctx, path+"&per_page=5000&page="+strconv.Itoa(number), &page); err != nil {
			return nil, nil, err
		}
		if page.Resources == nil {
			return nil, nil, fmt.Errorf("cf curl %s: expected a list", path)
		}
		found = append(found, *page.Resources...)
		for kind, some := range page.Included {
			in[kind] = append(in[kind], some...)
		}
		if page.Pagination.Next == nil {
			return found, in, nil
		}
	}
	return nil, nil, fmt.Errorf("cf curl %s: more than %d pages", path, maxPages)
}

// value is one value of a filter. Cloud Controller splits a filter at its commas
// and decodes each part once more.
func value(s string) string {
	return url.QueryEscape(strings.NewReplacer("%", "%25", ",", "%2C").Replace(s))
}

// named returns the one resource with exactly this name.
func (c *CLI) named(ctx context.Context, kind, name, path string) (resource, error) {
	found, _, err := c.list(ctx, path+"names="+value(name))
	if err != nil {
		return resource{}, err
	}
	return only(kind, name, found, func(r resource) bool { return r.Name == name })
}

func only(kind, name string, found []resource, is func(resource) bool) (one resource, err error) {
	count := 0
	for _, r := range found {
		if is(r) {
			one, count = r, count+1
		}
	}
	switch count {
	case 0:
		return resource{}, fmt.Errorf("%s %q: %w", kind, name, ErrNotFound)
	case 1:
		return one, nil
	}
	return resource{}, fmt.Errorf("%s %q: there are %d of them", kind, name, count)
}

// Org returns the org of that name.
func (c *CLI) Org(ctx context.Context, name string) (identity.GUID, error) {
	return guidOf(c.named(ctx, "org", name, "/v3/organizations?"))
}

// Space returns the space of that name in an org.
func (c *CLI) Space(ctx context.Context, name string, org identity.GUID) (identity.GUID, error) {
	return guidOf(c.named(ctx, "space", name, "/v3/spaces?organization_guids="+org.String()+"&"))
}

// App returns the app of that name in a space.
func (c *CLI) App(ctx context.Context, name string, space identity.GUID) (identity.GUID, error) {
	return guidOf(c.named(ctx, "app", name, "/v3/apps?space_guids="+space.String()+"&"))
}

// Labelled returns [ErrNotFound] where no app in a space bears the labels.
func (c *CLI) Labelled(ctx context.Context, labels string, space identity.GUID) error {
	found, _, err := c.list(ctx, "/v3/apps?space_guids="+space.String()+"&label_selector="+url.QueryEscape(labels))
	if err == nil && len(found) == 0 {
		return fmt.Errorf("apps with %s: %w", labels, ErrNotFound)
	}
	return err
}

func guidOf(r resource, err error) (identity.GUID, error) {
	if err != nil {
		return identity.GUID{}, err
	}
	return identity.ParseGUID(r.GUID)
}

// Caller returns the app with the space and the org that it is in.
func (c *CLI) Caller(ctx context.Context, app identity.GUID) (identity.Caller, error) {
	var found struct {
		resource
		Included included `json:"included"`
	}
	caller := identity.Caller{App: app}
	err := c.get(ctx, "/v3/apps/"+app.String()+"?include=space", &found)
	if err != nil {
		return caller, fmt.Errorf("app %s: %w", app, err)
	}
	space, _ := found.Included.find("spaces", found.related("space"))
	if caller.Space, err = identity.ParseGUID(space.GUID); err != nil {
		return caller, fmt.Errorf("space of app %s: %w", app, err)
	}
	if caller.Org, err = identity.ParseGUID(space.related("organization")); err != nil {
		return caller, fmt.Errorf("org of app %s: %w", app, err)
	}
	return caller, nil
}

// SpaceOrg returns the org that a space is in.
func (c *CLI) SpaceOrg(ctx context.Context, space identity.GUID) (identity.GUID, error) {
	var found resource
	if err := c.get(ctx, "/v3/spaces/"+space.String(), &found); err != nil {
		return identity.GUID{}, fmt.Errorf("space %s: %w", space, err)
	}
	return identity.ParseGUID(found.related("organization"))
}

// Names returns the names of those sources that the user may see.
func (c *CLI) Names(ctx context.Context, sources []grants.Source) map[grants.Source]string {
	guids := map[grants.Kind][]string{}
	for _, source := range sources {
		guids[source.Kind] = append(guids[source.Kind], source.ID.String())
	}
	names := map[grants.Source]string{}
	for kind, path := range map[grants.Kind]string{grants.App: "/v3/apps", grants.Space: "/v3/spaces", grants.Org: "/v3/organizations"} {
		for some := range slices.Chunk(guids[kind], atOnce) {
			found, _, err := c.list(ctx, path+"?guids="+strings.Join(some, ","))
			if err != nil {
				continue // a name is a convenience
			}
			for _, one := range found {
				if id, err := identity.ParseGUID(one.GUID); err == nil {
					names[grants.Source{Kind: kind, ID: id}] = Line(one.Name)
				}
			}
		}
	}
	return names
}

// Written is a source as it is written in parameters: apps by label are an object,
// all others a word.
func Written(source grants.Source) string {
	text, _ := grants.Grant{Source: source}.MarshalJSON() // strings cannot fail
	var word string
	if json.Unmarshal(text, &word) == nil {
		return word
	}
	return string(text)
}

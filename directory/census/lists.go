package census

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"

	"github.com/mtls-authz/mtls-authz/identity"
)

// The lists.
const (
	OrgsPath   = "/v3/organizations"
	SpacesPath = "/v3/spaces"
	AppsPath   = "/v3/apps"
)

// A guid is one of Cloud Controller's; zero where it is none that a certificate
// could hold.
type guid struct{ identity.GUID }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (g *guid) UnmarshalText(text []byte) (err error) {
	if g.GUID, err = identity.ParseGUID(string(text)); err != nil {
		g.GUID = identity.GUID{} // one such thing must not hide all others
	}
	return nil
}

// A Resource is an org, a space or an app in a list.
type Resource struct {
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

// Space is the space's guid of an app.
func (r Resource) Space() identity.GUID { return r.Relationships.Space.Data.ID.GUID }

// Org is the org's guid of a space.
func (r Resource) Org() identity.GUID { return r.Relationships.Organization.Data.ID.GUID }

// A Page is a part of a list.
type Page struct {
	Resources []Resource `json:"resources"`
	Included  struct {
		Spaces []Resource `json:"spaces"`
		Orgs   []Resource `json:"organizations"`
	} `json:"included"`
}

// A Lister reads all pages of a list; controller.Session is one. A question that it
// does not answer is a [controller.ErrRefused].
type Lister interface {
	List(ctx context.Context, path string, query url.Values, page func(json.RawMessage) error) error
}

// List reads a list, without what has no guid.
func List(ctx context.Context, from Lister, path string, query url.Values, found func(Page)) error {
	return from.List(ctx, path, query, func(raw json.RawMessage) error {
		var page Page
		if err := json.Unmarshal(raw, &page); err != nil {
			return err
		}
		page.Resources = slices.DeleteFunc(page.Resources, func(r Resource) bool { return r.ID.IsZero() })
		found(page)
		return nil
	})
}

// ByGUID reads those of a list that have these guids, with more in the query.
func ByGUID(ctx context.Context, from Lister, path string, ids []identity.GUID, more url.Values, found func(Page)) error {
	query := url.Values{"guids": {joined(texts(ids))}}
	for name, values := range more {
		query[name] = values
	}
	return List(ctx, from, path, query, found)
}

// Existing tells which guids are there; those of which it could not be told are
// left out.
func Existing(ctx context.Context, from Lister, path string, ids []identity.GUID) (map[identity.GUID]bool, error) {
	there := map[identity.GUID]bool{}
	ids = Unique(ids)
	rand.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] }) //nolint:gosec // guards nothing; as in [Census.Take]
	for chunk := range slices.Chunk(ids, MaxValues) {
		found := map[identity.GUID]bool{}
		err := ByGUID(ctx, from, path, chunk, nil, func(page Page) {
			for _, r := range page.Resources {
				found[r.ID.GUID] = true
			}
		})
		if err != nil {
			return there, err
		}
		for _, id := range chunk {
			there[id] = found[id]
		}
	}
	return there, nil
}

// Unique sorts guids and leaves each there once.
func Unique(ids []identity.GUID) []identity.GUID {
	return slices.Compact(slices.SortedFunc(slices.Values(ids), identity.GUID.Compare))
}

func texts(ids []identity.GUID) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = id.String()
	}
	return out
}

// joined writes a list in a query. Cloud Controller decodes each value once more
// after it has split them.
func joined(values []string) string {
	escaped := make([]string, len(values))
	for i, value := range values {
		escaped[i] = url.PathEscape(value)
	}
	return strings.Join(escaped, ",")
}

package census

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/url"
	"slices"

	"github.com/mtls-authz/mtls-authz/directory/controller"
	"github.com/mtls-authz/mtls-authz/identity"
)

// A Census asks one list about places: an org about its spaces, a space about its
// apps. Create it with [Spaces] or [Apps].
type Census struct {
	// Found is what bears each name. Whatever else is in a place of which all was
	// asked for goes to Each.
	Found map[Placed]identity.GUID
	Each  func(Resource)
	// Why is the first reason for which something was not told; nil: there is none.
	Why error

	from         Lister
	path, within string
	in           func(Resource) identity.GUID
	untold       map[Placed]bool
}

// Spaces is a census of spaces in orgs.
func Spaces(from Lister) *Census {
	return newCensus(Census{from: from, path: SpacesPath, within: "organization_guids", in: Resource.Org})
}

// Apps is a census of apps in spaces.
func Apps(from Lister) *Census {
	return newCensus(Census{from: from, path: AppsPath, within: "space_guids", in: Resource.Space})
}

func newCensus(c Census) *Census {
	c.Found, c.untold, c.Each = map[Placed]identity.GUID{}, map[Placed]bool{}, func(Resource) {}
	return &c
}

// Told reports whether there was an answer about a name in a place.
func (c *Census) Told(one Placed) bool { return !c.untold[one] && !c.untold[one.all()] }

// Take asks about all names that are wanted, in any order: where asking comes to an
// end too early each time, it comes to an end elsewhere the next time.
func (c *Census) Take(ctx context.Context, wanted []Placed) {
	batches := slices.Collect(batchesOf(wanted))
	rand.Shuffle(len(batches), func(i, j int) { batches[i], batches[j] = batches[j], batches[i] }) //nolint:gosec // guards nothing
	for i, batch := range batches {
		if err := c.ask(ctx, batch); err != nil {
			c.skip(err, slices.Concat(batches[i:]...)...)
			return
		}
	}
}

// ask asks about a batch, and of one that is refused about its halves.
func (c *Census) ask(ctx context.Context, batch []Placed) error {
	err := c.list(ctx, batch)
	switch {
	case !errors.Is(err, controller.ErrRefused):
		return err
	case len(batch) == 1:
		c.skip(err, batch[0])
		return nil
	}
	half := len(batch) / 2
	if err := c.ask(ctx, batch[:half]); err != nil {
		return err
	}
	return c.ask(ctx, batch[half:])
}

func (c *Census) skip(err error, batch ...Placed) {
	if c.Why == nil {
		c.Why = err
	}
	for _, one := range batch {
		c.untold[one] = true
	}
}

// list asks one question.
func (c *Census) list(ctx context.Context, batch []Placed) error {
	var places []identity.GUID
	var called []string
	for _, one := range batch {
		if places = append(places, one.In); one.Name != "" {
			called = append(called, one.Name)
		}
	}
	query := url.Values{c.within: {joined(texts(Unique(places)))}}
	if len(called) > 0 {
		slices.Sort(called)
		query.Set("names", joined(slices.Compact(called)))
	}
	return List(ctx, c.from, c.path, query, func(page Page) {
		for _, r := range page.Resources {
			c.Found[Placed{c.in(r), r.Name}] = r.ID.GUID // where it is, not where it was asked for
			c.Each(r)
		}
	})
}

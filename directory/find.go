package directory

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/mtls-authz/mtls-authz/directory/census"
	"github.com/mtls-authz/mtls-authz/grants/names"
	"github.com/mtls-authz/mtls-authz/identity"
)

// find returns what bears each name. Names of which that cannot be told are left
// out, and the error says why: what they stood for stays. What an answer holds that
// was not asked for counts for nobody.
func (d *Directory) find(ctx context.Context, wanted []names.Reference) (map[names.Reference][]identity.GUID, error) {
	wanted, problem := d.visible(ctx, wanted)
	spaces := census.Spaces(d.cfg.Lister)
	spaces.Take(ctx, spacesOf(wanted))
	spaceOf := func(r names.Reference) identity.GUID {
		if r.Name.Space == "" {
			return r.Space
		}
		return spaces.Found[census.Placed{In: r.Org, Name: r.Name.Space}]
	}
	apps, labelled := census.Apps(d.cfg.Lister), newLabelled()
	apps.Each = labelled.see
	var inSpaces []census.Placed
	for _, r := range wanted {
		space := spaceOf(r)
		switch {
		case space.IsZero():
		case r.Name.Kind == names.App:
			inSpaces = append(inSpaces, census.Placed{In: space, Name: r.Name.App})
		case labelled.want(r, space):
			inSpaces = append(inSpaces, census.Placed{In: space})
		}
	}
	apps.Take(ctx, inSpaces)
	found := make(map[names.Reference][]identity.GUID, len(wanted))
	for _, r := range wanted {
		space := spaceOf(r)
		switch {
		case r.Name.Space != "" && !spaces.Told(census.Placed{In: r.Org, Name: r.Name.Space}):
		case r.Name.Kind == names.Space || space.IsZero():
			found[r] = present(space)
		case r.Name.Kind == names.App && apps.Told(census.Placed{In: space, Name: r.Name.App}):
			found[r] = present(apps.Found[census.Placed{In: space, Name: r.Name.App}])
		case r.Name.Kind == names.Labelled && apps.Told(census.Placed{In: space}):
			found[r] = labelled.bearers[r]
		}
	}
	return found, errors.Join(problem, spaces.Why, apps.Why)
}

// present is what bears a name, if it is there.
func present(id identity.GUID) []identity.GUID {
	if id.IsZero() {
		return nil
	}
	return []identity.GUID{id}
}

// spacesOf are the names of spaces among the references.
func spacesOf(wanted []names.Reference) (inOrgs []census.Placed) {
	for _, r := range wanted {
		if r.Name.Space != "" {
			inOrgs = append(inOrgs, census.Placed{In: r.Org, Name: r.Name.Space})
		}
	}
	return inOrgs
}

// labelled finds the apps that bear labels among all apps of a space. To ask for
// labels would be a question for each, and one that Cloud Controller may refuse.
type labelled struct {
	inSpace map[identity.GUID][]selector
	bearers map[names.Reference][]identity.GUID
}

type selector struct {
	of     names.Reference
	wanted map[string]string
}

func newLabelled() *labelled {
	return &labelled{map[identity.GUID][]selector{}, map[names.Reference][]identity.GUID{}}
}

// want takes a reference in; one that does not select by labels it leaves out.
func (l *labelled) want(r names.Reference, space identity.GUID) bool {
	if r.Name.Kind != names.Labelled {
		return false
	}
	wanted, err := names.Requirements(r.Name.Labels)
	if err != nil {
		return false // it stands for nobody
	}
	l.inSpace[space] = append(l.inSpace[space], selector{r, wanted})
	return true
}

func (l *labelled) see(app census.Resource) {
	for _, one := range l.inSpace[app.Space()] {
		if bears(app.Metadata.Labels, one.wanted) {
			l.bearers[one.of] = append(l.bearers[one.of], app.ID.GUID)
		}
	}
}

func bears(labels, wanted map[string]string) bool {
	for key, value := range wanted {
		if got, there := labels[key]; !there || got != value {
			return false
		}
	}
	return true
}

// visible are the references of orgs that the client can see; the error names the
// others.
func (d *Directory) visible(ctx context.Context, wanted []names.Reference) ([]names.Reference, error) {
	orgs := make([]identity.GUID, len(wanted))
	for i, r := range wanted {
		orgs[i] = r.Org
	}
	there, err := census.Existing(ctx, d.cfg.Lister, census.OrgsPath, orgs)
	var hidden []identity.GUID
	seen := slices.DeleteFunc(slices.Clone(wanted), func(r names.Reference) bool {
		exists, told := there[r.Org]
		if told && !exists {
			hidden = append(hidden, r.Org)
		}
		return !exists
	})
	if len(hidden) > 0 {
		hidden = census.Unique(hidden)
		err = errors.Join(err, fmt.Errorf("%w: %v", ErrHidden, hidden[:min(len(hidden), 10)]))
	}
	return seen, err
}

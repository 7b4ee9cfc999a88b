package directory

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/mtls-authz/mtls-authz/directory/census"
	"github.com/mtls-authz/mtls-authz/grants/names"
	"github.com/mtls-authz/mtls-authz/identity"
)

// formers tells which holders of names that do not bear them any more are still
// there. Names of which that cannot be told are taken out of what was found.
func (d *Directory) formers(ctx context.Context, known *names.Page, found map[names.Reference][]identity.GUID) (map[identity.GUID]bool, error) {
	byPath := map[string][]identity.GUID{}
	of := map[names.Reference][]identity.GUID{}
	for reference, present := range found {
		path := census.AppsPath
		if reference.Name.Kind == names.Space {
			path = census.SpacesPath
		}
		before, _ := known.Look(reference)
		for _, h := range before.Holders {
			if reference.Name.Kind != names.Labelled && !slices.Contains(present, h.ID) {
				byPath[path] = append(byPath[path], h.ID)
				of[reference] = append(of[reference], h.ID)
			}
		}
	}
	there := map[identity.GUID]bool{}
	var problem error
	for path, ids := range byPath {
		some, err := census.Existing(ctx, d.cfg.Lister, path, ids)
		maps.Copy(there, some)
		problem = errors.Join(problem, err)
	}
	for reference, ids := range of {
		if slices.ContainsFunc(ids, func(id identity.GUID) bool { _, told := there[id]; return !told }) {
			delete(found, reference)
		}
	}
	return there, problem
}

// settle says what a name stands for from now on: what bears it, and for the time
// of grace what bore it and still exists. Labels have no grace: who takes one
// away means it, and who swaps apps gives it to both.
func (d *Directory) settle(r names.Reference, before names.Resolution, present []identity.GUID, there map[identity.GUID]bool, now time.Time) names.Resolution {
	after := names.Resolution{}
	if len(present) == 0 {
		if after.Missing = before.Missing; after.Missing.IsZero() {
			after.Missing = now
		}
	}
	slices.SortFunc(present, identity.GUID.Compare)
	present = slices.Compact(present)
	if len(present) > names.MaxHolders {
		present, after.Trimmed = present[:names.MaxHolders], true
	}
	for _, id := range present {
		after.Holders = append(after.Holders, names.Holder{ID: id})
	}
	if r.Name.Kind != names.Labelled {
		after.Holders = append(after.Holders, d.inGrace(before.Holders, present, there, now)...)
	}
	slices.SortFunc(after.Holders, func(a, b names.Holder) int { return a.ID.Compare(b.ID) })
	return after
}

// inGrace are the former holders that stand for the name a while longer, those
// with the most time left if there are many.
func (d *Directory) inGrace(before []names.Holder, present []identity.GUID, there map[identity.GUID]bool, now time.Time) []names.Holder {
	var former []names.Holder
	for _, h := range before {
		if h.Until.IsZero() {
			h.Until = now.Add(d.cfg.Grace)
		}
		if now.Before(h.Until) && there[h.ID] && !slices.Contains(present, h.ID) {
			former = append(former, h)
		}
	}
	slices.SortStableFunc(former, func(a, b names.Holder) int { return b.Until.Compare(a.Until) })
	return former[:min(len(former), names.MaxFormer)]
}

func same(a, b names.Resolution) bool {
	return a.Missing.Equal(b.Missing) && a.Trimmed == b.Trimmed && slices.EqualFunc(a.Holders, b.Holders, func(x, y names.Holder) bool {
		return x.ID == y.ID && x.Until.Equal(y.Until)
	})
}

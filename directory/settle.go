package directory

import (
	"slices"
	"time"

	"github.com/mtls-authz/mtls-authz/grants/names"
	"github.com/mtls-authz/mtls-authz/identity"
)

// formers are the holders of names that do not bear them any more, by the list
// of Cloud Controller that they would be in.
func formers(known *names.Page, found map[names.Reference][]identity.GUID) map[string][]identity.GUID {
	all := map[string][]identity.GUID{}
	for reference, present := range found {
		before, _ := known.Look(reference)
		for _, h := range before.Holders {
			if !slices.Contains(present, h.ID) {
				path := appsPath
				if reference.Name.Kind == names.Space {
					path = spacesPath
				}
				all[path] = append(all[path], h.ID)
			}
		}
	}
	return all
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
	slices.SortFunc(present, compare)
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
	slices.SortFunc(after.Holders, func(a, b names.Holder) int { return compare(a.ID, b.ID) })
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

func compare(a, b identity.GUID) int { return slices.Compare(a[:], b[:]) }

func same(a, b names.Resolution) bool {
	return a.Missing.Equal(b.Missing) && a.Trimmed == b.Trimmed && slices.EqualFunc(a.Holders, b.Holders, func(x, y names.Holder) bool {
		return x.ID == y.ID && x.Until.Equal(y.Until)
	})
}

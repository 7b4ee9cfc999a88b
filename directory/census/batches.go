package census

import (
	"cmp"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/mtls-authz/mtls-authz/identity"
)

const (
	// MaxValues and maxBytes bound a list of values in a query: servers in between
	// take lines of 8 KiB.
	MaxValues = 50
	maxBytes  = 3000
	// fewNames is how many names of one place are asked for one by one: with more,
	// its list is shorter than what asks for them.
	fewNames = 5
)

// Placed is a name in a space or an org; without a name it is all that is there.
type Placed struct {
	In   identity.GUID
	Name string
}

func (p Placed) all() Placed { return Placed{In: p.In} }

// batchesOf cuts what is wanted into parts of which each fits into a query: names
// of places of which few are wanted, or places of which all are asked for.
func batchesOf(wanted []Placed) iter.Seq[[]Placed] {
	few, whole := sparse(wanted)
	return func(yield func([]Placed) bool) {
		for batch := range chunks(few) {
			if !yield(batch) {
				return
			}
		}
		for batch := range slices.Chunk(whole, MaxValues) {
			if !yield(batch) {
				return
			}
		}
	}
}

// sparse are the names of places of which few are wanted, and the places of which
// many are, or all. The places come in another order each time: one of which nothing
// can be told must not have the same neighbours for ever.
func sparse(wanted []Placed) (few, whole []Placed) {
	slices.SortFunc(wanted, func(a, b Placed) int { return cmp.Or(a.In.Compare(b.In), strings.Compare(a.Name, b.Name)) })
	places := slices.Collect(together(slices.Compact(wanted)))
	rand.Shuffle(len(places), func(i, j int) { places[i], places[j] = places[j], places[i] }) //nolint:gosec // guards nothing
	for _, place := range places {
		if len(place) > fewNames || place[0].Name == "" {
			whole = append(whole, place[0].all())
		} else {
			few = append(few, place...)
		}
	}
	return few, whole
}

// together cuts a sorted list so that each part is of one place.
func together(wanted []Placed) iter.Seq[[]Placed] {
	return func(yield func([]Placed) bool) {
		for len(wanted) > 0 {
			here := 1
			for here < len(wanted) && wanted[here].In == wanted[0].In {
				here++
			}
			if !yield(wanted[:here]) {
				return
			}
			wanted = wanted[here:]
		}
	}
}

// chunks cuts a list so that each part fits into a query.
func chunks(wanted []Placed) iter.Seq[[]Placed] {
	return func(yield func([]Placed) bool) {
		from, bytes := 0, 0
		for i, one := range wanted {
			length := 5 * len(one.Name) // at most: each byte escaped twice is %25XX
			if i > from && (i-from == MaxValues || bytes+length > maxBytes) {
				if !yield(wanted[from:i]) {
					return
				}
				from, bytes = i, 0
			}
			bytes += length
		}
		if from < len(wanted) {
			yield(wanted[from:])
		}
	}
}

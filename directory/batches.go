package directory

import (
	"cmp"
	"net/url"
	"slices"
	"strings"

	"github.com/mtls-authz/mtls-authz/identity"
)

const (
	// maxValues and maxBytes bound a list of values in a query: servers in between
	// take lines of 8 KiB.
	maxValues = 50
	maxBytes  = 3000
)

// placed is a name in a space or an org.
type placed struct {
	in   identity.GUID
	name string
}

// fewNames is how many names of one place are asked for one by one: with more,
// its list is shorter than what asks for them.
const fewNames = 5

// sparse are the names of places of which few are wanted, in order, and the places
// of which many are.
func sparse(wanted []placed) (few []placed, whole []identity.GUID) {
	slices.SortFunc(wanted, func(a, b placed) int { return cmp.Or(compare(a.in, b.in), strings.Compare(a.name, b.name)) })
	wanted = slices.Compact(wanted)
	for len(wanted) > 0 {
		here := 1
		for here < len(wanted) && wanted[here].in == wanted[0].in {
			here++
		}
		if here > fewNames {
			whole = append(whole, wanted[0].in)
		} else {
			few = append(few, wanted[:here]...)
		}
		wanted = wanted[here:]
	}
	return few, whole
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

// chunks cuts a list so that each part fits into a query.
func chunks(wanted []placed) func(yield func([]placed) bool) {
	return func(yield func([]placed) bool) {
		from, bytes := 0, 0
		for i, one := range wanted {
			length := 5 * len(one.name) // as a rule; escaped twice it may be more
			if i > from && (i-from == maxValues || bytes+length > maxBytes) {
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

func unique(ids []identity.GUID) []identity.GUID {
	return slices.Compact(slices.SortedFunc(slices.Values(ids), compare))
}

func texts(ids []identity.GUID) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = id.String()
	}
	return out
}

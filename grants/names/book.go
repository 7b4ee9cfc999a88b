package names

import (
	"hash/maphash"
	"iter"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/mtls-authz/mtls-authz/identity"
)

const (
	// MaxHolders bounds what one name stands for: the apps of a label.
	MaxHolders = 1000
	// MaxFormer bounds the former holders that a name keeps.
	MaxFormer = 16
)

// A Holder is an app or a space that bears a name.
type Holder struct {
	ID identity.GUID
	// Until is when a former holder stops standing for the name; zero: it bears
	// the name now.
	Until time.Time
}

// A Resolution is what a name stands for.
type Resolution struct {
	// Holders are sorted by guid, the present ones and former ones in their time
	// of grace.
	Holders []Holder
	// Missing is since when nothing bears the name; zero: something does.
	Missing time.Time
	// Trimmed: more apps bear the labels than MaxHolders; the others are left out.
	Trimmed bool
}

// At returns the holders at a moment.
func (r Resolution) At(now time.Time) []Holder {
	ended := func(h Holder) bool { return !h.Until.IsZero() && !now.Before(h.Until) }
	if !slices.ContainsFunc(r.Holders, ended) {
		return r.Holders
	}
	return slices.DeleteFunc(slices.Clone(r.Holders), ended)
}

// leaves is how many parts a page has: what changes copies the part that it is in.
const leaves = 256

// A Page is a book as it is at one moment. It is immutable. The nil Page is empty.
type Page struct {
	number uint64
	leaves [leaves]leaf
	length int
}

type leaf struct {
	entries map[Reference]Resolution
	// since is the number of the first page that it is in.
	since uint64
}

var (
	seed = maphash.MakeSeed()
	// pages numbers all pages of the process.
	pages atomic.Uint64
)

func leafOf(r Reference) int { return int(maphash.Comparable(seed, r) % leaves) }

// NewPage makes a page of entries.
func NewPage(entries map[Reference]Resolution) *Page { return (*Page)(nil).With(entries, nil) }

// With is the page with these entries changed or added, and those gone.
func (p *Page) With(changed map[Reference]Resolution, gone []Reference) *Page {
	next := &Page{}
	if p != nil {
		*next = *p
	}
	next.number = pages.Add(1)
	if p == nil { // what was before is not known
		for i := range next.leaves {
			next.leaves[i].since = next.number
		}
	}
	own := func(r Reference) map[Reference]Resolution {
		one := &next.leaves[leafOf(r)]
		if one.since != next.number {
			one.since, one.entries = next.number, maps.Clone(one.entries)
		}
		if one.entries == nil {
			one.entries = map[Reference]Resolution{}
		}
		return one.entries
	}
	for r, found := range changed {
		own(r)[r] = found
	}
	for _, r := range gone {
		delete(own(r), r)
	}
	next.length = 0
	for i := range next.leaves {
		next.length += len(next.leaves[i].entries)
	}
	return next
}

// Number tells pages apart; later pages of a book have higher ones. 0 is the nil
// Page's.
func (p *Page) Number() uint64 {
	if p == nil {
		return 0
	}
	return p.number
}

// Since reports whether a reference may stand for something else in this page than
// in an earlier one of its book, by that one's number.
func (p *Page) Since(number uint64, r Reference) bool {
	return p != nil && (number == 0 || p.leaves[leafOf(r)].since > number)
}

// Look returns what a reference stands for, and whether it was ever looked up.
func (p *Page) Look(r Reference) (Resolution, bool) {
	if p == nil {
		return Resolution{}, false
	}
	found, ok := p.leaves[leafOf(r)].entries[r]
	return found, ok
}

// Len is how many names were looked up.
func (p *Page) Len() int {
	if p == nil {
		return 0
	}
	return p.length
}

// All are the entries, in no order.
func (p *Page) All() iter.Seq2[Reference, Resolution] {
	return func(yield func(Reference, Resolution) bool) {
		if p == nil {
			return
		}
		for _, one := range p.leaves {
			for r, found := range one.entries {
				if !yield(r, found) {
					return
				}
			}
		}
	}
}

// A Book has the newest page. The nil Book is empty. It is safe for concurrent
// use.
type Book struct{ page atomic.Pointer[Page] }

// Page returns the newest page; it takes no lock.
func (b *Book) Page() *Page {
	if b == nil {
		return nil
	}
	return b.page.Load()
}

// Turn makes a page the newest.
func (b *Book) Turn(p *Page) { b.page.Store(p) }

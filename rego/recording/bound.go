package recording

import (
	"bytes"
	"cmp"
	"slices"
	"unsafe"

	"github.com/mtls-authz/mtls-authz/grants"
)

// boundRoute is what entries about one set of grants of a route share. It keeps
// the rules but not their Live, which would keep the sites of former policies.
type boundRoute struct {
	// access has no grants.
	access grants.Access
	// rules are sorted by source.
	rules []grants.Rule
	key   routeKey
	// size in bytes, of which the gateway's state mostly has a part too.
	size int
	// entries are those that are kept; the recording's lock guards it.
	entries int
}

// routeKey tells what entries share apart. Routes of one instance may have one
// array of rules; what has expired since makes another.
type routeKey struct {
	binding  string
	revision int64
	// rules is where they are; nil for none.
	rules *grants.Rule
}

func keyOf(live *grants.Live) routeKey {
	key := routeKey{binding: live.Binding, revision: live.Revision}
	if len(live.Rules) > 0 {
		key.rules = &live.Rules[0]
	}
	return key
}

func newRoute(live *grants.Live, key routeKey) *boundRoute {
	b := &boundRoute{rules: live.Rules, key: key}
	b.access.Binding, b.access.Route, b.access.Owner = live.Binding, live.Route, live.Owner
	b.access.Scope, b.access.Labels = live.Scope, live.Labels
	b.size = int(unsafe.Sizeof(*b)) + len(live.Rules)*int(unsafe.Sizeof(grants.Rule{}))
	for name, value := range live.Labels {
		b.size += len(name) + len(value) + 2*int(unsafe.Sizeof(name))
	}
	for _, rule := range live.Rules {
		b.size += sizeOf(rule.Terms)
	}
	return b
}

func sizeOf(terms *grants.Terms) int {
	if terms == nil {
		return 0
	}
	size := int(unsafe.Sizeof(*terms)) + len(terms.Reason)
	for _, method := range terms.Methods {
		size += int(unsafe.Sizeof(method)) + len(method)
	}
	for _, path := range terms.Paths {
		size += int(unsafe.Sizeof(path)) + len(path)
	}
	for _, bound := range terms.Routes {
		size += int(unsafe.Sizeof(bound)) + len(bound.Host) + len(bound.Path)
	}
	return size
}

// from returns the index of the first rule that is not before the source.
func (b *boundRoute) from(source grants.Source) int {
	i, _ := slices.BinarySearchFunc(b.rules, source, func(rule grants.Rule, source grants.Source) int {
		return cmp.Or(cmp.Compare(rule.Source.Kind, source.Kind), bytes.Compare(rule.Source.ID[:], source.ID[:]))
	})
	return i
}

// concerning returns the rules for the source, and whether there are others of
// its kind.
func (b *boundRoute) concerning(source grants.Source) (own []grants.Rule, others bool) {
	first := b.from(source)
	end := first
	for end < len(b.rules) && b.rules[end].Source == source {
		end++
	}
	kind := b.from(grants.Source{Kind: source.Kind + 1}) - b.from(grants.Source{Kind: source.Kind})
	return b.rules[first:end], kind > end-first
}

// sources are what the caller is, from the narrowest.
func (e *entry) sources() []grants.Source {
	return []grants.Source{
		{Kind: grants.App, ID: e.app}, {Kind: grants.Space, ID: e.space}, {Kind: grants.Org, ID: e.org}, {Kind: grants.Any},
	}
}

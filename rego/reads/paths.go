package reads

import (
	"fmt"
	"iter"
	"math/bits"
	"strings"
)

// A Path is a path of the input whose value differs between requests to one
// route. What a binding's revision determines (route, owner, grants) and what
// is constant (caller.kind) is not among them.
type Path uint8

// The paths, in the order of keys. First is request.segments[0]; the segments
// up to Last can be read one by one, Segments is all of them.
const (
	Foundation Path = iota
	App
	Space
	Org
	Instance
	Method
	Host
	RawPath
	Segments
	Minute
	Weekday
	Date
	First
	Last = First + 7
)

var names = [First]string{
	Foundation: "caller.foundation", App: "caller.app", Space: "caller.space", Org: "caller.org", Instance: "caller.instance",
	Method: "request.method", Host: "request.host", RawPath: "request.path", Segments: "request.segments",
	Minute: "now.minute", Weekday: "now.weekday", Date: "now.date",
}

// String is the path as a policy writes it.
func (p Path) String() string {
	if p >= First {
		return fmt.Sprintf("input.request.segments[%d]", p-First)
	}
	return "input." + names[p]
}

// Paths is a set of paths.
type Paths uint32

// Whole is the whole input.
const Whole = Paths(1<<First - 1)

// Has reports whether p is in the set.
func (s Paths) Has(p Path) bool { return s&(1<<p) != 0 }

// Now reports whether the set has a part of the time.
func (s Paths) Now() bool { return s&(1<<Minute|1<<Weekday|1<<Date) != 0 }

// RequestPath reports whether the set has a part of the request's path.
func (s Paths) RequestPath() bool { return s&(1<<RawPath|1<<Segments) != 0 || s>>First != 0 }

// All returns the paths in their order.
func (s Paths) All() iter.Seq[Path] {
	return func(yield func(Path) bool) {
		for rest := s; rest != 0; rest &= rest - 1 {
			if !yield(Path(bits.TrailingZeros32(uint32(rest)))) {
				return
			}
		}
	}
}

// Strings returns the paths as a policy writes them.
func (s Paths) Strings() []string {
	list := []string{}
	for p := range s.All() {
		list = append(list, p.String())
	}
	return list
}

// canonical leaves out single segments where all are in the set.
func (s Paths) canonical() Paths {
	if s.Has(Segments) {
		s &= Whole
	}
	return s
}

// covers reports whether reading a document of the input, such as
// "request" or "request.path.x", can read the path of this name.
func covers(document, name string) bool {
	return document == "" || document == name || strings.HasPrefix(name, document+".") || strings.HasPrefix(document, name+".")
}

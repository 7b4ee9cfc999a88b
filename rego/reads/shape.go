package reads

import (
	"fmt"
	"sort"
	"strings"

	"github.com/mtls-authz/mtls-authz/grants"
)

// A Shape is what of a route's grants decides which paths can matter: the kinds
// of their sources, and whether any has methods or paths. The zero Shape has no
// grants.
type Shape uint8

const (
	apps Shape = 1 << iota
	spaces
	orgs
	anyone
	methods
	paths
	// Shapes is how many shapes there are; as a Shape it stands for [Whole] input.
	Shapes
)

// ShapeOf returns the shape of a route's grants. Its cost does not grow with
// the number of grants of one kind.
func ShapeOf(live *grants.Live) Shape {
	var s Shape
	if live.HasMethods {
		s |= methods
	}
	if live.HasPaths {
		s |= paths
	}
	for rules := live.Rules; len(rules) > 0; { // sorted by kind
		kind := rules[0].Source.Kind
		s |= ofKind(kind)
		if rules[len(rules)-1].Source.Kind == kind {
			break
		}
		rules = rules[sort.Search(len(rules), func(i int) bool { return rules[i].Source.Kind > kind }):]
	}
	return s
}

func ofKind(kind grants.Kind) Shape {
	switch kind {
	case grants.App:
		return apps
	case grants.Space:
		return spaces
	case grants.Org:
		return orgs
	case grants.Any:
		return anyone
	case grants.Named: // which no live grant is
	}
	return apps | spaces | orgs | anyone // a kind of a later version: all may matter
}

var shapeWords = []string{"app", "space", "org", "any", "methods", "paths"}

// String lists the kinds of sources and the conditions, such as
// "app+any+methods", and "none" for no grants.
func (s Shape) String() string {
	if s >= Shapes {
		return "whole"
	}
	var words []string
	for i, word := range shapeWords {
		if s&(1<<i) != 0 {
			words = append(words, word)
		}
	}
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, "+")
}

// grantsJSON is input.grants with every combination of source and conditions
// that the shape allows. The pattern is of every form at once.
func (s Shape) grantsJSON() string {
	conditions := []string{`{}`}
	if s&methods != 0 {
		conditions = append(conditions, `{"methods":["M"]}`)
	}
	if s&paths != 0 {
		conditions = append(conditions, `{"paths":["/*/**"]}`)
	}
	if s&methods != 0 && s&paths != 0 {
		conditions = append(conditions, `{"methods":["M"],"paths":["/*/**"]}`)
	}
	list := "[" + strings.Join(conditions, ",") + "]"
	of := func(kind Shape, present, absent string) string {
		if s&kind != 0 {
			return present
		}
		return absent
	}
	byGUID := `{"G":` + list + `}`
	return fmt.Sprintf(`{"apps":%s,"spaces":%s,"orgs":%s,"any":%s}`,
		of(apps, byGUID, `{}`), of(spaces, byGUID, `{}`), of(orgs, byGUID, `{}`), of(anyone, list, `[]`))
}

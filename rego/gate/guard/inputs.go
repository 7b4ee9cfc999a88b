package guard

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// document is an input, as policies/schemas/input.json describes it.
type document struct {
	app, space, org        string
	method, host, path     string
	labels                 map[string]string
	ownerOrg, weekday, day string
	minute                 int
	grants                 *ast.Term
}

const (
	anApp   = "d76446a1-f429-4444-8797-be2f78b75b08"
	aSpace  = "6755b19d-c543-4e0c-a4b3-cd6e7c9c68a3"
	anOrg   = "6e424e4e-5e46-419a-9cb6-eac9de2794e8"
	another = "0b7d4a8c-3b9e-4a43-9d3f-8a2c7f1f5e11"
)

var (
	noGrants    = ast.MustParseTerm(`{"any": [], "apps": {}, "spaces": {}, "orgs": {}}`)
	grantsToAny = ast.MustParseTerm(`{"any": [{}], "apps": {}, "spaces": {}, "orgs": {}}`)
	grantsToApp = ast.MustParseTerm(`{"any": [], "apps": {"` + anApp + `": [{}]}, "spaces": {}, "orgs": {}}`)
	narrow      = ast.MustParseTerm(`{"any": [{"methods": ["GET"], "paths": ["/api/**"]}], "apps": {}, "spaces": {"` + aSpace + `": [{"methods": ["DELETE"]}]}, "orgs": {}}`)
)

// typical is a request that a grant matches.
func typical() document {
	return document{
		app: anApp, space: aSpace, org: anOrg, method: "GET", host: "backend.apps.identity", path: "/api/x",
		labels: map[string]string{}, ownerOrg: anOrg, minute: 615, weekday: "mon", day: "2026-05-04", grants: grantsToAny,
	}
}

func (d document) term() *ast.Term {
	segments := []any{}
	for segment := range strings.SplitSeq(d.path, "/") {
		if segment != "" {
			segments = append(segments, segment)
		}
	}
	labels := map[string]any{}
	for key, value := range d.labels {
		labels[key] = value
	}
	input := ast.NewTerm(ast.MustInterfaceToValue(map[string]any{
		"caller":  map[string]any{"kind": "cf", "foundation": "local", "app": d.app, "space": d.space, "org": d.org, "instance": "i"},
		"request": map[string]any{"method": d.method, "host": d.host, "path": d.path, "segments": segments},
		"route":   map[string]any{"host": d.host, "path": "", "binding": "b", "labels": labels},
		"owner":   map[string]any{"service_instance": "s", "space": aSpace, "org": d.ownerOrg, "scope": "any"},
		"now":     map[string]any{"minute": d.minute, "weekday": d.weekday, "date": d.day},
	}))
	return with(input, "grants", d.grants)
}

// with is the input with another member.
func with(input *ast.Term, member string, value *ast.Term) *ast.Term {
	object, changed := input.Value.(ast.Object), ast.NewObject([2]*ast.Term{ast.StringTerm(member), value})
	object.Foreach(func(key, old *ast.Term) {
		if key.Value.Compare(ast.String(member)) != 0 {
			changed.Insert(key, old)
		}
	})
	return ast.NewTerm(changed)
}

// nobodies are callers that are not known: not all of app, space and org, or
// of another kind.
func nobodies() []*ast.Term {
	nobodies := []*ast.Term{ast.MustParseTerm(`{}`), ast.MustParseTerm(`{"kind": "cf"}`)}
	for _, member := range []string{"app", "space", "org", "kind"} {
		caller := typical().term().Value.(ast.Object).Get(ast.StringTerm("caller"))
		for _, value := range []string{`""`, `null`, `false`} {
			if value == `""` || member == "kind" {
				nobodies = append(nobodies, with(caller, member, ast.MustParseTerm(value)))
			}
		}
	}
	return append(nobodies, ast.MustParseTerm(`{"kind": "spiffe", "app": "a", "space": "b", "org": "c", "foundation": "", "instance": ""}`))
}

const (
	cases    = 64
	maxWords = 64
)

// generate makes inputs of the policy's own words, always the same for the same
// policy, so that its branches are entered.
func generate(modules map[string]*ast.Module) []*ast.Term {
	random := rand.New(rand.NewPCG(1, 1)) //nolint:gosec // cases, not secrets
	words := wordsOf(modules)
	pick := func(usual ...string) string {
		if len(words) > 0 && random.IntN(3) == 0 {
			return words[random.IntN(len(words))]
		}
		return usual[random.IntN(len(usual))]
	}
	grants := []*ast.Term{grantsToAny, grantsToApp, narrow, noGrants}
	inputs := []*ast.Term{typical().term()}
	for len(inputs) < cases {
		d := typical()
		d.app, d.space, d.org, d.ownerOrg = pick(anApp, another), pick(aSpace, another), pick(anOrg, another), pick(anOrg, another)
		d.method, d.host, d.path = pick("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"), pick(d.host, "other.apps.identity"), "/"+strings.TrimPrefix(pick("", "api/x", "metrics", "a/b/c"), "/")
		for range random.IntN(4) {
			d.labels[pick("team", "tier", "public")] = pick("", "a", "true")
		}
		d.minute, d.weekday, d.day = random.IntN(24*60), pick("mon", "sat", "sun"), pick("2026-05-04", "2026-12-31")
		d.grants = grants[random.IntN(len(grants))]
		inputs = append(inputs, d.term())
	}
	return inputs
}

// largest is about as much as a request can bring: a path of 8 KiB with a
// thousand segments, and a route with many grants and labels.
func largest() *ast.Term {
	d := typical()
	d.path = strings.Repeat("/segment", 1024)
	for i := range 64 {
		d.labels[fmt.Sprintf("label-%d", i)] = strings.Repeat("v", 63)
	}
	conditions := make([]any, 100)
	for i := range conditions {
		conditions[i] = map[string]any{"methods": []any{"GET"}, "paths": []any{fmt.Sprintf("/nothing/%d/*/x", i), "/*/**"}}
	}
	d.grants = ast.NewTerm(ast.MustInterfaceToValue(map[string]any{
		"any": conditions, "apps": map[string]any{anApp: conditions}, "spaces": map[string]any{}, "orgs": map[string]any{},
	}))
	return d.term()
}

// wordsOf are the strings that the modules hold, sorted, and at most maxWords.
func wordsOf(modules map[string]*ast.Module) []string {
	found := map[string]bool{}
	for _, module := range modules {
		ast.WalkTerms(module, func(term *ast.Term) bool {
			switch value := term.Value.(type) {
			case ast.Ref:
				return true // its names are no values
			case ast.String:
				if len(value) <= 256 {
					found[string(value)] = true
				}
			}
			return false
		})
	}
	words := slices.Sorted(maps.Keys(found))
	if len(words) > maxWords {
		rand.New(rand.NewPCG(2, 2)).Shuffle(len(words), func(i, j int) { words[i], words[j] = words[j], words[i] }) //nolint:gosec // as above
		words = words[:maxWords]
	}
	return words
}

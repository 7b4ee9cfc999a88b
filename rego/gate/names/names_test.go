package names_test

import (
	"encoding/json"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/rego/bundle"
	"github.com/mtls-authz/mtls-authz/rego/gate/names"
)

const data = `{
	"blocked": {"a": true},
	"hosts": {"one.example": {"a": true}, "two.example": {}},
	"lists": {"internal": ["a"], "external": ["b"]},
	"teams": {"red": {"tier": 1, "apps": ["a"]}, "blue": {"tier": 2}},
	"empty": {},
	"site": {"blocked": {"a": true}, "grants": ["cf:any", {"source": "cf:any", "methods": ["GET"]}]}
}`

func check(t *testing.T, rules string) error {
	t.Helper()
	var parsed map[string]any
	require.NoError(t, json.Unmarshal([]byte(data), &parsed))
	module, err := ast.ParseModule("check.rego", "package helpers\n"+rules)
	require.NoError(t, err, rules)
	library, err := ast.ParseModule("lib.rego", "package lib\nname := \"lists\"\nhost := input.request.host\ndeep(t) := t.tier\n")
	require.NoError(t, err)
	var schema any
	require.NoError(t, json.Unmarshal([]byte(`{"type":"object","properties":{
		"request":{"type":"object","properties":{"host":{"type":"string"},"path":{"type":"string"}}},
		"caller":{"type":"object","properties":{"app":{"type":"string"}}}}}`), &schema))
	set := ast.NewSchemaSet()
	set.Put(ast.SchemaRootRef, schema)
	compiler := ast.NewCompiler().WithStrict(true).WithSchemas(set)
	compiler.Compile(map[string]*ast.Module{"bundle:check": module, "bundle:lib": library})
	require.False(t, compiler.Failed(), "%s: %v", rules, compiler.Errors)
	return names.Check(t.Context(), compiler, parsed, "bundle:")
}

func TestNamesThatAreThere(t *testing.T) {
	for name, rules := range map[string]string{
		"a key of the request":            "allow if not data.blocked[input.caller.app]",
		"below a root of the operator":    "allow if not data.site.blocked[input.caller.app]",
		"two keys of the request":         "allow if not data.hosts[input.request.host][input.caller.app]",
		"a key through a variable":        "allow if { app := input.caller.app; not data.blocked[app] }",
		"a key through a builtin":         "allow if { host := lower(input.request.host); not data.hosts[host] }",
		"a key through a rule":            "allow if not data.hosts[data.lib.host]",
		"a key through a function":        "allow if not blocked(input.caller.app)\nblocked(app) if data.blocked[app]",
		"through all entries":             "allow if data.lists[_][_] == input.caller.app",
		"by some":                         "allow if { some name, list in data.lists; input.caller.app in list; name != \"external\" }",
		"a member of every entry":         "allow if data.teams[input.caller.app].tier == 1",
		"a member through a variable":     "allow if { some team in data.teams; team.tier == 1 }",
		"a member through a function":     "allow if data.lib.deep(data.teams[input.caller.app]) == 1",
		"the list given to a function":    "allow if not listed(data.lists.external)\nlisted(list) if input.caller.app in list",
		"an optional member of a grant":   "allow if { some grant in data.site.grants; not grant.methods }",
		"object.get has a default":        "allow if object.get(data.teams, [input.caller.app, \"apps\"], []) == []",
		"object.get of an entry":          "allow if { some team in data.teams; object.get(team, \"apps\", []) == [] }",
		"object.get of the input":         "allow if object.get(input.request, \"path\", \"\") == \"/\"",
		"a list that a rule is":           "allow if not lists.internal[input.caller.app]\nlists := data.lists",
		"a rule of a rule":                "allow if not a.internal[input.caller.app]\na := b\nb := data.lists",
		"a member of what a rule is":      "allow if red.tier == 1\nred := data.teams.red",
		"a set that a rule makes":         "allow if not blocked[input.caller.app]\nblocked contains app if some app, _ in data.blocked",
		"an object that a rule makes":     "allow if by_name[input.caller.app].tier == 1\nby_name[name] := team if some name, team in data.teams",
		"what a function returns":         "allow if team(input.caller.app).tier == 1\nteam(app) := data.teams[app]",
		"an object that is written":       "allow if not lists.apps[input.caller.app]\nlists := {\"apps\": data.blocked}",
		"a list of lists":                 "allow if { some l in [data.teams.red, data.teams.blue]; l.tier == 1 }",
		"a member of what is selected":    "allow if { some t in [t | some t in data.teams; t.tier > 1]; t.tier == 2 }",
		"a key of what is computed":       "allow if { l := object.union(data.blocked, {}); not l[input.caller.app] }",
		"an index of what is computed":    "allow if { some a in data.lists.internal; split(a, \"/\")[0] == \"a\" }",
		"a list taken apart":              "allow if { [red, _] := [data.teams.red, 1]; red.tier == 1 }",
		"object.remove of a name":         "allow if count(object.remove(data.lists, [\"internal\"])) == 1",
		"the input given to a function":   "allow if ok(input.request)\nok(r) if r.path == \"/\"",
		"a rule of the same package":      "allow if not helper\nhelper if input.caller.app == \"a\"",
		"every over data":                 "allow if every team in data.teams { team.tier > 0 }",
		"a comprehension":                 "allow if count([x | some x in data.lists.internal]) == 1",
		"what a builtin made has no name": "allow if { o := json.filter(input.request, [\"path\"]); not o.host }",
	} {
		assert.NoError(t, check(t, rules), name)
	}
}

// Each of these would allow, by negation, because of a name that is not there.
func TestNamesThatAreNotThere(t *testing.T) {
	for name, rules := range map[string]string{
		"data":                               "allow if not data.blokced[input.caller.app]",
		"below a root":                       "allow if not data.site.blokced[input.caller.app]",
		"a document chosen at run time":      "allow if { some x in [\"blokced\"]; not data.site[x][input.caller.app] }",
		"chosen by the request":              "allow if not data.site[input.caller.app]",
		"packages taken in hand":             "allow if { d := data.site; not d.blokced[input.caller.app] }",
		"given to a function":                "allow if not blocked(data.site)\nblocked(d) if d.blokced[input.caller.app]",
		"given to a builtin":                 "allow if not object.get(data.site, [\"blokced\", input.caller.app], false)",
		"a name in a variable":               "allow if { x := \"extrenal\"; not data.lists[x][input.caller.app] }",
		"a name in a list":                   "allow if { some x in [\"internal\", \"extrenal\"]; not data.lists[x][input.caller.app] }",
		"a name that is computed":            "allow if { x := concat(\"\", [\"ex\", \"trenal\"]); not data.lists[x][input.caller.app] }",
		"a name from a rule":                 "allow if not data.lists[data.lib.name][input.caller.app]",
		"a name given to a function":         "allow if not listed(\"extrenal\", input.caller.app)\nlisted(name, app) if data.lists[name][app]",
		"a name in one of two calls":         "allow if { not listed(input.request.host); not listed(\"extrenal\") }\nlisted(name) if data.lists[name]",
		"a member of some entries":           "allow if not data.teams[input.caller.app].apps",
		"a member of no entry":               "allow if not data.teams[input.caller.app].tierr",
		"a member of a variable":             "allow if { some team in data.teams; not team.tierr }",
		"a member of an element":             "allow if { team := data.teams[input.caller.app]; not team.tierr }",
		"a member through two variables":     "allow if { a := data.teams; b := a.red; not b.tierr }",
		"a member in every":                  "allow if every team in data.teams { not team.tierr }",
		"a member in a comprehension":        "allow if count([1 | some team in data.teams; team.tierr]) == 0",
		"a member of a parameter":            "allow if not bad(data.teams.red)\nbad(team) if team.tierr",
		"a parameter of two functions":       "allow if not f(data.teams.red)\nf(x) if g(x)\ng(y) if y.tierr",
		"the input through a function":       "allow if not bad(input.request)\nbad(r) if r.methd == \"DELETE\"",
		"the whole input":                    "allow if not bad(input)\nbad(i) if i.request.methd == \"DELETE\"",
		"a member of some, by a key of data": "allow if { some host in object.keys(data.hosts); not data.hosts[host].a }",
		"a misspelt package":                 "allow if not data.lb.name",
		"of a rule":                          "allow if not lists.extrenal[input.caller.app]\nlists := data.lists",
		"of a rule of a rule":                "allow if not a.extrenal[input.caller.app]\na := b\nb := data.lists",
		"of a rule in an else":               "allow if not a.extrenal\na := {\"extrenal\": 1} if input.caller.app == \"a\"\nelse := data.lists",
		"of a rule, in a variable":           "allow if { l := lists; not l.extrenal[input.caller.app] }\nlists := data.lists",
		"of a rule, through many":            "allow if not a.x\na := b\nb := d\nd := e\ne := f\nf := g\ng := h\nh := i\ni := j\nj := k\nk := l\nl := m\nm := n\nn := o\no := p\np := q\nq := r\nr := s\ns := data.lists",
		"of an object that a rule makes":     "allow if not all.extrenal\nall[name] := list if some name, list in data.lists",
		"of a member of such an object":      "allow if not all[input.caller.app].tierr\nall[name] := team if some name, team in data.teams",
		"of a set that a rule makes":         "allow if { some l in all; not l.extrenal }\nall contains data.lists",
		"of the member that a set goes over": "allow if { {data.lists}[l]; not l.extrenal }",
		"of what a function returns":         "allow if not all(1).extrenal\nall(_) := data.lists",
		"in object.get":                      "allow if not object.get(data.lists, [\"extrenal\", input.caller.app], false)",
		"in object.get of one name":          "allow if { l := object.get(data.lists, \"extrenal\", {}); not l[input.caller.app] }",
		"in object.get of a path by a name":  "allow if { p := [\"extrenal\", input.caller.app]; not object.get(data.lists, p, false) }",
		"in object.get of a path by a rule":  "allow if not object.get(data.lists, p, false)\np := [\"extrenal\", input.caller.app]",
		"in object.get of a rule":            "allow if not object.get(lists, \"extrenal\", false)\nlists := data.lists",
		"in object.get of no entry":          "allow if object.get(data.teams, [input.caller.app, \"lead\"], \"\") == \"\"",
		"in object.get of the input":         "allow if not object.get(input.request, \"methd\", false)",
		"in object.filter":                   "allow if count(object.filter(data.lists, [\"extrenal\"])) == 0",
		"in object.remove":                   "allow if count(object.remove(data.lists, {\"extrenal\"})) == 2",
		"in json.filter":                     "allow if count(json.filter(data.site, [\"blokced/a\"])) == 0",
		"of what a builtin made":             "allow if { l := object.union(data.lists, {}); not l.extrenal[input.caller.app] }",
		"of what object.get took":            "allow if { l := object.get(data.teams, input.caller.app, {}); not l.tierr }",
		"of a name in what a builtin made":   "allow if { l := object.union(data.lists, {}); x := \"extrenal\"; not l[x] }",
		"of what is in a list":               "allow if { some l in [data.lists]; not l.extrenal[input.caller.app] }",
		"of what is in a set":                "allow if { some l in {data.lists}; not l.extrenal[input.caller.app] }",
		"of what is in an object":            "allow if { o := {\"a\": data.lists}; not o.a.extrenal[input.caller.app] }",
		"of an object by another key":        "allow if { some l in {\"a\": data.lists}; not l.extrenal[input.caller.app] }",
		"of an object that is selected":      "allow if { ls := {k: v | some k, v in data.lists}; not ls.extrenal[input.caller.app] }",
		"of a list that is selected":         "allow if { some l in [data.lists | true]; not l.extrenal[input.caller.app] }",
		"of a list taken apart":              "allow if { [l] := [data.lists]; not l.extrenal[input.caller.app] }",
		"of an object taken apart":           "allow if not deny\ndeny if { {\"extrenal\": l} := data.lists; l[input.caller.app] }",
		"of a variable taken apart":          "allow if not deny\ndeny if { d := data.lists; {\"extrenal\": l} = d; l[input.caller.app] }",
		"a name that a comparison hides":     "allow if { x := \"extrenal\"; input.caller.app != x; not data.lists[x] }",
		"in an else":                         "allow := false if input.caller.app == \"a\"\nelse := true if not data.blokced.a",
		"in the value of a head":             "allow := count(data.blokced) == 0",
		"in a default of a nested negation":  "allow if not deny\ndeny if data.blokced[input.caller.app]",
	} {
		err := check(t, rules)
		if assert.ErrorIs(t, err, bundle.ErrRefused, name) {
			assert.Regexp(t, `check\.rego:\d`, err.Error(), name)
		}
	}
}

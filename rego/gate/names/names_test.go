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
		"object.get has a default":        "allow if object.get(data.teams, [input.caller.app, \"lead\"], \"\") == \"\"",
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

package rego_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/rego"
	"github.com/mtls-authz/mtls-authz/rego/reads"
)

func TestTheBuiltInPolicyLeavesMethodAndPathToTheGrants(t *testing.T) {
	assert.Equal(t, rego.Reads{}, compiled(t, nil).Reads())
}

func TestWhatChecksRead(t *testing.T) {
	method, path, now := rego.Reads{Method: true}, rego.Reads{Path: true}, rego.Reads{Now: true}
	both, all := rego.Reads{Method: true, Path: true}, rego.Reads{Method: true, Path: true, Now: true}
	for body, expected := range map[string]rego.Reads{
		`allow := true`: {},
		`allow if input.caller.org == input.owner.org`:            {},
		`allow if input.route.labels.team == "a"`:                 {},
		`allow if input.request.host == "a"`:                      {},
		`allow if input.request.method == "GET"`:                  method,
		`allow if input["request"]["method"] == "GET"`:            method,
		`allow if input.request.path == "/"`:                      path,
		`allow if input.request.segments[0] == "api"`:             path,
		`allow if count(input.request.segments) == 1`:             path,
		`allow if "api" in input.request.segments`:                path,
		`allow if every s in input.request.segments { s != "x" }`: path,
		`allow if not input.request.path == "/"`:                  path,
		`allow if input.now.weekday == "mon"`:                     now,
		`allow if object.get(input.now, "minute", 0) < 600`:       now,
		`default allow := false
allow := false if input.caller.app == "a"
else := input.request.method == "GET"`: method,

		// Through a helper rule, a function, another package, the value of a head.
		"allow if helper\nhelper if input.request.method == \"GET\"":                method,
		"allow if ok(input.request.path)\nok(x) if startswith(x, \"/a\")":           path,
		"allow if ok(1)\nok(x) if input.now.minute > x":                             now,
		"allow if ok[\"/\"]\nok contains input.request.path":                        path,
		"allow if ok.a\nok[x] := input.now.minute if some x in [\"a\"]":             now,
		"allow := true\nreason := input.request.method":                             method,
		"allow := true\nheaders := {\"X-Mtls-Authz-Policy-A\": input.request.path}": path,
		"allow := input.request.method == \"GET\"":                                  method,
		"allow if [x | x := input.request.path] == [\"/\"]":                         path,
		"allow if { x := input.request.path\n y := x\n z := y\n z == \"/\" }":       path,
		"allow if data.mtls.authz.granted":                                          both,

		// A rule that no check can reach does not count.
		"allow := true\nunused if input.request.path == \"/\"": {},

		// The whole of something: everything in it is read.
		"allow if count(input.request) == 4":                                both,
		"allow if { r := input.request\n r.host == \"a\" }":                 both,
		"allow if input.request[_] == \"GET\"":                              both,
		"allow if { some x in [\"method\"]\n input.request[x] == \"GET\" }": both,
		"allow if input":             all,
		"allow if count(input) == 6": all,
		"allow if object.get(input, [\"request\", \"path\"], \"\") == \"/\"":  all,
		"allow if input[_].method == \"GET\"":                                 all,
		"allow if { x := {\"in\": input}\n x[\"in\"].request.path == \"/\" }": all,
		"allow if ok(input)\nok(x) if x.request.path == \"/\"":                all,

		// Given to a "with", it is read where the "with" holds.
		"allow if { input.caller.app\n x = ok with data.doc as input\n x }\nok if data.doc.request.path == \"/\"": all,
		"allow if ok with data.doc as input.request.path\nok if data.doc == \"/\"":                                path,
		"allow if ok with input.request.method as \"GET\"\nok if input.caller.app == \"a\"":                       method,
	} {
		bundle := check(body)
		bundle["data.json"] = `{"doc":{"request":{"path":"/"}}}`
		assert.Equal(t, expected, compiled(t, bundle).Reads(), body)
	}
}

func TestTheKeyOfARequestFollowsItsGrants(t *testing.T) {
	policy, reading := compiled(t, nil), compiled(t, check(`allow if input.request.method != "DELETE"`))
	for _, test := range []struct {
		entries []string
		paths   []string
	}{
		{nil, []string{}},
		{[]string{"cf:any"}, []string{}},
		{[]string{"cf:app:" + frontend, "cf:app:" + metrics}, []string{"input.caller.app"}},
		{[]string{"cf:app:" + frontend, "cf:space:" + shop, "cf:org:" + acme}, []string{"input.caller.app", "input.caller.space", "input.caller.org"}},
		{[]string{"cf:space:" + shop, `{"source":"cf:any","paths":["/a"]}`}, []string{"input.caller.space", "input.request.segments"}},
		{[]string{`{"source":"cf:org:` + acme + `","methods":["GET"]}`}, []string{"input.caller.org", "input.request.method"}},
		// What has expired does not matter any more.
		{[]string{"cf:app:" + frontend, `{"source":"cf:org:` + acme + `","methods":["GET"],"expires":"2026-05-04T10:15:42Z"}`}, []string{"input.caller.app"}},
	} {
		r := request(t, policy, "GET /", test.entries...)
		require.NoError(t, r.Key().Narrow)
		assert.Equal(t, test.paths, r.Key().Paths.Strings())
		assert.Same(t, r.Key(), r.Key())
		r.Policy = reading
		assert.True(t, r.Key().Paths.Has(reads.Method))
	}
	r := request(t, policy, "GET /", "cf:app:"+frontend)
	for _, nobody := range []func(*identity.Caller){
		func(c *identity.Caller) { c.App = identity.GUID{} }, func(c *identity.Caller) { c.Space = identity.GUID{} }, func(c *identity.Caller) { c.Org = identity.GUID{} },
	} {
		incomplete := *r
		nobody(&incomplete.Caller)
		assert.Equal(t, reads.Whole, incomplete.Key().Paths)
	}
}

// The operator's grants count as well: they are in the policy's digest.
func TestTheOperatorsGrantsAreInTheShape(t *testing.T) {
	policy := compiled(t, files{"data.json": `{"site":{"grants":[{"source":"cf:org:` + acme + `","methods":["GET"]}]}}`})
	key := request(t, policy, "GET /", "cf:app:"+frontend).Key()
	assert.Equal(t, []string{"input.caller.app", "input.caller.org", "input.request.method"}, key.Paths.Strings())
}

// Every path that requests differ in is told apart, and none runs into the next.
func TestValuesInKeysAreTypedAndBounded(t *testing.T) {
	policy := compiled(t, nil)
	const all = reads.Whole | 1<<reads.First | 1<<(reads.First+1)
	base := func() *rego.Request { return request(t, policy, "GET /a/b", "cf:any") }
	seen := map[string]string{}
	for name, mutate := range map[string]func(*rego.Request){
		"itself":       func(*rego.Request) {},
		"foundation":   func(r *rego.Request) { r.Caller.Foundation = "" },
		"app":          func(r *rego.Request) { r.Caller.App = guid(metrics) },
		"space":        func(r *rego.Request) { r.Caller.Space = guid(metrics) },
		"org":          func(r *rego.Request) { r.Caller.Org = identity.GUID{} },
		"swapped":      func(r *rego.Request) { r.Caller.Space, r.Caller.Org = r.Caller.Org, r.Caller.Space },
		"instance":     func(r *rego.Request) { r.Caller.Instance = "" },
		"method":       func(r *rego.Request) { r.Method = "GETb" },
		"host":         func(r *rego.Request) { r.Host = "" },
		"moved":        func(r *rego.Request) { r.Host, r.Path = r.Host+r.Path[:1], r.Path[1:] },
		"path":         func(r *rego.Request) { r.Path = "/a/b/" },
		"joined":       func(r *rego.Request) { r.Segments = []string{"a/b"} },
		"no segments":  func(r *rego.Request) { r.Segments = nil },
		"one empty":    func(r *rego.Request) { r.Segments = []string{""} },
		"a third":      func(r *rego.Request) { r.Segments = []string{"a", "b", ""} },
		"next minute":  func(r *rego.Request) { r.Now = r.Now.Add(time.Minute) },
		"next day":     func(r *rego.Request) { r.Now = r.Now.AddDate(0, 0, 1) },
		"next week":    func(r *rego.Request) { r.Now = r.Now.AddDate(0, 0, 7) },
		"the year":     func(r *rego.Request) { r.Now = r.Now.AddDate(11, 0, 0) }, // the same weekday
		"another zone": func(r *rego.Request) { r.Policy = zoned(t) },
	} {
		r := base()
		mutate(r)
		appended := string(r.AppendPaths(nil, all))
		assert.Empty(t, seen[appended], name)
		seen[appended] = name
	}
	r := base()
	later := *r
	later.Now = r.Now.Add(17 * time.Second)
	assert.Equal(t, r.AppendPaths(nil, all), later.AppendPaths(nil, all), "the same minute")
	one := base()
	one.Segments = nil
	absent := one.AppendPaths(nil, 1<<reads.First)
	one.Segments = []string{""}
	assert.NotEqual(t, absent, one.AppendPaths(nil, 1<<reads.First), "absent is not empty")
}

func zoned(t *testing.T) *rego.Policy {
	policy, err := rego.Compile(t.Context(), rego.Config{Zone: time.FixedZone("CEST", 2*60*60)})
	require.NoError(t, err)
	return policy
}

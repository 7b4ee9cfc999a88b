package rego_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/mtls-authz/mtls-authz/rego"
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

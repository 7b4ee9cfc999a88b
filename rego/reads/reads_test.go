package reads_test

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/policies"
	"github.com/mtls-authz/mtls-authz/rego/reads"
)

// compiled is the built-in policy and one check with this body, which may use
// every builtin of OPA; "": the built-in policy alone.
func compiled(t testing.TB, body string) *ast.Compiler {
	t.Helper()
	modules := map[string]string{}
	require.NoError(t, fs.WalkDir(policies.Files, ".", func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".rego") && !strings.HasSuffix(path, "_test.rego") {
			text, err := fs.ReadFile(policies.Files, path)
			modules[path] = string(text)
			return err
		}
		return err
	}))
	if body != "" {
		modules[policies.SiteModule] = "package mtls.site\npass if data.site.check.one.allow == true\n" +
			"failing contains \"one\" if not data.site.check.one.allow == true\nreasons := {}\nheaders := {}\n"
		modules["check"] = "package site.check.one\n" + body
	}
	compiler, err := ast.CompileModulesWithOpt(modules, ast.CompileOpts{ParserOptions: ast.ParserOptions{RegoVersion: ast.RegoV1}})
	require.NoError(t, err)
	return compiler
}

// words are the paths of a key without "input.", in one line.
func words(key *reads.Key) string {
	return strings.ReplaceAll(strings.Join(key.Paths.Strings(), " "), "input.", "")
}

// shapeOf finds the shape of these words.
func shapeOf(t testing.TB, words string) reads.Shape {
	t.Helper()
	for shape := range reads.Shape(64) {
		if shape.String() == words {
			return shape
		}
	}
	t.Fatalf("no shape %q", words)
	return 0
}

func TestKeysOfTheBuiltInPolicyByShape(t *testing.T) {
	keys := reads.Of(compiled(t, ""))
	for shape, expected := range map[string]string{
		"none":                             "",
		"app":                              "caller.app",
		"space":                            "caller.space",
		"org":                              "caller.org",
		"any":                              "",
		"app+any":                          "caller.app",
		"app+space+org":                    "caller.app caller.space caller.org",
		"app+methods":                      "caller.app request.method",
		"app+paths":                        "caller.app request.segments",
		"any+methods":                      "request.method",
		"org+methods+paths":                "caller.org request.method request.segments",
		"app+space+org+any+methods+paths":  "caller.app caller.space caller.org request.method request.segments",
		"methods":                          "", // no grant has them
		"methods+paths":                    "",
		"app+space+org+any":                "caller.app caller.space caller.org",
		"space+org+any+methods":            "caller.space caller.org request.method",
		"app+space+org+any+methods+paths ": "caller.app caller.space caller.org request.method request.segments",
	} {
		key := keys.Of(shapeOf(t, strings.TrimSpace(shape)))
		require.NoError(t, key.Narrow)
		assert.Equal(t, expected, words(key), shape)
		assert.Empty(t, key.Clock)
		assert.False(t, key.LocalOnly)
	}
	assert.Zero(t, keys.Checks())
	assert.Equal(t, "caller.foundation caller.app caller.space caller.org caller.instance request.method request.host request.path request.segments now.minute now.weekday now.date",
		words(keys.Whole()))
}

// What a check reads is in the keys of every shape, whatever the grants say.
func TestChecksBringTheirPathsIntoEveryKey(t *testing.T) {
	alone := reads.Of(compiled(t, ""))
	for body, expected := range map[string]string{
		`allow := true`: "",
		`allow if input.request.method != "DELETE"`:     "request.method",
		`allow if input.caller.kind == "cf"`:            "", // constant
		`allow if input.route.labels.team == "a"`:       "", // the binding's
		`allow if count(input.grants.apps) == 1`:        "",
		`allow if input.caller.org == input.owner.org`:  "caller.org",
		`allow if input.caller.instance`:                "caller.instance",
		`allow if input.caller.foundation`:              "caller.foundation",
		`allow if input.request.host == "a"`:            "request.host",
		`allow if startswith(input.request.path, "/a")`: "request.path",
		`allow if input.now.minute < 600`:               "now.minute",
		`allow if input.now.weekday == "mon"`:           "now.weekday",
		`allow if input.now.date == "2026-05-04"`:       "now.date",
		`allow if input.now`:                            "now.minute now.weekday now.date",
		`allow if input.caller`:                         "caller.foundation caller.app caller.space caller.org caller.instance",

		// One segment of the path, or all.
		`allow if input.request.segments[0] == "api"`:                                          "request.segments[0]",
		`allow if not input.request.segments[7]`:                                               "request.segments[7]",
		`allow if { input.request.segments[0] == "a"; input.request.segments[2] == "b" }`:      "request.segments[0] request.segments[2]",
		`allow if { input.request.segments[0] == "a"; count(input.request.segments) == 1 }`:    "request.segments",
		`allow if input.request.segments[8] == "a"`:                                            "request.segments",
		`allow if input.request.segments[-1] == "a"`:                                           "request.segments",
		`allow if input.request.segments["0"] == "a"`:                                          "request.segments",
		`allow if { some i in [0]; input.request.segments[i] == "a" }`:                         "request.segments",
		`allow if { x := input.request.segments; x[0] == "a" }`:                                "request.segments",
		`allow if input.request.segments[input.now.minute]`:                                    "request.segments now.minute",
		`allow if data.x[input.caller.app][input.caller.space]`:                                "caller.app caller.space",
		`allow if {"a": input.request.method}.a == "GET"`:                                      "request.method",
		`allow if [input.request.method][0] == "GET"`:                                          "request.method",
		`allow if { x := input.caller; y := x.app; y == "a" }`:                                 "caller.foundation caller.app caller.space caller.org caller.instance",
		"allow if count({x | x := input.request.segments[_]}) == 1":                            "request.segments",
		"allow if f(input.request.method)\nf(x) if x == \"GET\" else := input.now.minute == 1": "request.method now.minute",
		"allow if f(1)\nf(1) := true\nf(2) := input.request.host == \"a\"":                     "request.host",

		// "with" is read before it holds, and what is below it still is.
		`allow if data.x with input.request.method as input.request.host`:                                               "request.method request.host",
		"allow if ok with data.y as input.caller.app\nok if data.y == \"a\"":                                            "caller.app",
		"allow if ok with count as f\nf(_) := n if { n := to_number(input.request.host) }\nok if count([]) == 1":        "request.host",
		"allow if data.mtls.authz.granted with input.request.segments as [1]":                                           "caller.app caller.space caller.org request.method request.segments",
		"allow if data.mtls.authz.granted":                                                                              "caller.app caller.space caller.org request.method request.segments",
		"allow if data.mtls.authz.known":                                                                                "caller.app caller.space caller.org",
		"default allow := false\nallow if input.caller.app == \"a\"\nallow := false if not input.request.host == \"a\"": "caller.app request.host",
	} {
		keys := reads.Of(compiled(t, body))
		assert.Equal(t, expected, words(keys.Of(0)), body)
		for shape := reads.Shape(1); shape < 64; shape += 13 { // narrowing takes a while
			key := keys.Of(shape)
			require.NoError(t, key.Narrow)
			for path := range (keys.Checks() | alone.Of(shape).Paths).All() {
				assert.True(t, key.Paths.Has(path) || key.Paths.Has(reads.Segments) && path >= reads.First, "%s: %s: %s", body, shape, path)
			}
		}
	}
}

func TestThePolicyThatTakesTheWholeRequestStaysLocal(t *testing.T) {
	for body, expected := range map[string]bool{
		`allow if input.request.path == "/"`:                             false,
		`allow if input.caller`:                                          false,
		`allow if { r := input.request; r.path == "/" }`:                 true,
		`allow if count(input) == 6`:                                     true,
		`allow if { x = input; y = x.request; y.path == "/" }`:           true,
		`allow if object.get(input, ["request", "path"], "") == "/"`:     true,
		`allow if { some x in ["path"]; input.request[x] == "/" }`:       true,
		"allow if f(input)\nf(x) if x.request.path == \"/\"":             true,
		"unused if input\nallow := true":                                 false,
		"allow if ok with data.doc as input\nok if data.doc.request":     true,
		"allow if data.x with input as {\"request\": {\"path\": \"/\"}}": true,
	} {
		assert.Equal(t, expected, reads.Of(compiled(t, body)).Of(0).LocalOnly, body)
	}
}

// OPA's dependencies package does not end on this body.
func TestTheWalkEnds(t *testing.T) {
	keys := reads.Of(compiled(t, `allow if { y = input.request; x = y.path; y = x.foo }`))
	assert.Equal(t, "request.method request.host request.path request.segments", words(keys.Of(0)))
}

func TestPoliciesThatDoNotSayTheSameTwice(t *testing.T) {
	for body, expected := range map[string]string{
		`allow if time.now_ns() > 0`:                                                                   "time.now_ns",
		`allow if http.send({"method": "GET", "url": "https://a"})`:                                    "http.send",
		`allow if rand.intn("a", 2) == 1`:                                                              "rand.intn",
		`allow if uuid.rfc4122("a") == "x"`:                                                            "uuid.rfc4122",
		`allow if opa.runtime().env`:                                                                   "opa.runtime",
		`allow if crypto.x509.parse_and_verify_certificates("x")[0]`:                                   "crypto.x509.parse_and_verify_certificates",
		`allow if crypto.x509.parse_and_verify_certificates_with_options("x", {})[0]`:                  "crypto.x509.parse_and_verify_certificates_with_options",
		"allow if not f\nf if not time.now_ns() > 1":                                                   "time.now_ns",
		"allow if count([1 | time.now_ns() > 1]) == 1":                                                 "time.now_ns",
		"allow if upper(\"x\") == \"a\" with upper as uuid.rfc4122":                                    "uuid.rfc4122",
		"allow := true\nunused if time.now_ns() > 1":                                                   "",
		`allow if crypto.x509.parse_certificates("x")[0]`:                                              "",
		"allow if f(1)\nf(2) if true\nelse := x if { x := time.now_ns() }\nelse := input.request.path": "time.now_ns",
	} {
		keys := reads.Of(compiled(t, body))
		assert.Equal(t, expected, keys.Of(0).Clock, body)
		assert.Equal(t, expected, keys.Whole().Clock, body)
	}
}

// A built-in policy that cannot be narrowed is keyed by all that it reads.
func TestWithoutNarrowingTheWholePolicyServes(t *testing.T) {
	compiler, err := ast.CompileModules(map[string]string{"a": `package mtls.authz
import rego.v1
decision := 1 if granted
granted if { some k; data.mtls.other[k]; input.request.host }
known := true`, "b": "package mtls.other\nimport rego.v1\nx if input.request.method\ny if input.caller.app"})
	require.NoError(t, err)
	key := reads.Of(compiler).Of(0)
	assert.Equal(t, "caller.app request.method request.host", words(key))
}

func BenchmarkDerive(b *testing.B) {
	compiler := compiled(b, `allow if input.request.method != "DELETE"`)
	for _, shape := range []string{"app", "app+space+org+any+methods+paths"} {
		shape := shapeOf(b, shape)
		b.Run(shape.String(), func(b *testing.B) {
			for b.Loop() {
				if reads.Of(compiler).Of(shape).Narrow != nil {
					b.Fatal("not narrowed")
				}
			}
		})
	}
}

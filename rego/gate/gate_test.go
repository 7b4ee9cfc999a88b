package gate_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/rego/bundle"
	"github.com/mtls-authz/mtls-authz/rego/gate"
)

// files of a bundle by path.
type files map[string]string

func directory(t testing.TB, content files) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range content {
		path := filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	return root
}

// archive writes a .tar.gz file of these entries.
func archive(t testing.TB, entries ...tar.Header) string {
	t.Helper()
	var out bytes.Buffer
	zipped := gzip.NewWriter(&out)
	writer := tar.NewWriter(zipped)
	for _, header := range entries {
		content := header.PAXRecords["content"]
		header.PAXRecords = nil
		if header.Typeflag == tar.TypeXGlobalHeader {
			header.PAXRecords = map[string]string{"comment": "as git archive writes"}
		} else {
			header.Mode, header.Size = 0o600, int64(len(content))
		}
		require.NoError(t, writer.WriteHeader(&header))
		_, err := writer.Write([]byte(content))
		require.NoError(t, err)
	}
	require.NoError(t, writer.Close())
	require.NoError(t, zipped.Close())
	path := filepath.Join(t.TempDir(), "bundle.tar.gz")
	require.NoError(t, os.WriteFile(path, out.Bytes(), 0o600))
	return path
}

func entry(name, content string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeReg, PAXRecords: map[string]string{"content": content}}
}

// pass takes the bundle at path, "" for none, through the whole gate.
func pass(ctx context.Context, path string) (*gate.Compiled, error) {
	b := bundle.None()
	if path != "" {
		archive, err := bundle.ReadArchive(path)
		if err != nil {
			return nil, err
		}
		if b, err = bundle.Read(archive, nil); err != nil {
			return nil, err
		}
	}
	return gate.Pass(ctx, b)
}

func load(t testing.TB, path string) *gate.Compiled {
	t.Helper()
	loaded, err := pass(t.Context(), path)
	require.NoError(t, err)
	return loaded
}

// refused demands a refusal that says these words.
func refused(t testing.TB, path string, words ...string) {
	t.Helper()
	loaded, err := pass(t.Context(), path)
	require.ErrorIs(t, err, bundle.ErrRefused)
	assert.Nil(t, loaded)
	for _, word := range words {
		assert.ErrorContains(t, err, word)
	}
	if !strings.Contains(err.Error(), "recursive") {
		assert.NotContains(t, err.Error(), "mtls/site.rego", "an error is about what the operator wrote")
	}
}

const yes = "package site.check.one\n\nallow := true\n"

func TestTheBuiltInPolicyAlone(t *testing.T) {
	alone := load(t, "")
	assert.Empty(t, alone.Bundle.Data)
	assert.Empty(t, alone.Bundle.Site.Grants)
	assert.NotEqual(t, [32]byte{}, alone.Digest)
}

// Each is a file policy.rego, refused at the line given.
func TestRefusals(t *testing.T) {
	for _, test := range []struct{ name, source, where, what string }{
		{"syntax", "package site.check.one\n\nallow := {", ":3", "rego_parse_error"},
		{"Rego v0", "package site.check.one\n\nallow { true }", ":3", "`if` keyword is required"},
		{"type", "package site.check.one\n\nallow if count(1) == 1", ":3", "rego_type_error"},
		{"unsafe variable", "package site.check.one\n\nallow if not x", ":3", "unsafe"},
		{"recursion", "package site.check.one\n\nallow if b\nb if allow", ":3", "recursive"},
		{"reads the decision", "package site.check.one\n\nallow if data.mtls.site.pass", ":3", "recursive"},

		{"package mtls", "package mtls\n\nx := 1", ":1", "data.mtls belongs to the gateway"},
		{"package mtls without rules", "package mtls.x", ":1", "data.mtls belongs to the gateway"},
		{"package mtls.authz", "package mtls.authz\n\ngranted := true", ":1", "data.mtls belongs to the gateway"},
		{"package mtls quoted", "package mtls[\"authz\"]\n\ngranted := true", ":1", "data.mtls belongs to the gateway"},
		{"package mtls.site", "package mtls.site\n\npass := true", ":1", "data.mtls belongs to the gateway"},
		{"package mtls.x by reference", "package mtls\n\nauthz.granted := true", ":1", "data.mtls belongs to the gateway"},
		{"shadowing data", "package foo\n\ndata.mtls.authz.granted := true", ":3", "shadow data"},

		{"rules at grants", "package site\n\ngrants := [\"cf:any\"]", ":3", "grants are data"},
		{"rules below grants", "package site.grants\n\nx := 1", ":3", "grants are data"},
		{"partial rule at grants", "package site\n\ngrants contains \"cf:any\"", ":3", "grants are data"},
		{"check is a rule", "package site\n\ncheck := {\"one\": {\"allow\": true}}", ":3", "expected a rule in a package directly below"},
		{"check is a set", "package site\n\ncheck contains \"one\"", ":3", "expected a rule in a package directly below"},
		{"a check is a rule", "package site.check\n\none := {\"allow\": true}", ":3", "expected a rule in a package directly below"},
		{"a name that varies", "package site\n\ncheck[x].allow := true if some x in [\"one\"]", ":3", "the name of a check"},
		{"a member that varies", "package site\n\ncheck.one[x] := true if some x in [\"allow\"]", ":3", "expected a rule in a package directly below"},
		{"an odd name", "package site.check[\"a b\"]\n\nallow := true", ":1", "the name of a check"},
		{"a long name", "package site.check." + strings.Repeat("a", 65) + "\n\nallow := true", ":1", "the name of a check"},

		{"no allow", "package site.check.one\n\nreason := \"x\"", ":1", "package site.check.one defines no rule allow"},
		{"no rules", "package site.check.one", ":1", "package site.check.one defines no rule allow"},
		{"no allow by reference", "package site.check\n\none.reason := \"x\"", ":3", "package site.check.one defines no rule allow"},
		{"a package too deep", "package site.check.one.two\n\nallow := false", ":1", "it would not be a check"},
		{"a rule too deep", "package site.check.one\n\nallow := true\ntwo.allow := false", ":4", "would not be a check"},
		{"allow with members", "package site.check.one\n\nallow.x := true", ":3", "one value"},
		{"allow is a set", "package site.check.one\n\nallow contains 1", ":3", "one value"},
		{"allow is an object", "package site.check.one\n\nallow[x] := true if some x in [\"a\"]", ":3", "one value"},
		{"allow is a function", "package site.check.one\n\nallow(_) := true", ":3", "one value"},
		{"reason is a set", "package site.check.one\n\nallow := true\nreason contains \"x\"", ":4", "one value"},
		{"headers is a function", "package site.check.one\n\nallow := true\nheaders(_) := {}", ":4", "not a function"},
		{"allow is text", "package site.check.one\n\nallow := \"yes\"", ":3", "allow of check one: expected true or false"},
		{"allow is a number", "package site.check.one\n\nallow := 1", ":3", "expected true or false"},
		{"allow is sometimes text", "package site.check.one\n\ndefault allow := false\nallow := \"yes\" if input.caller.app == \"a\"", ":3", "expected true or false"},
		{"allow is a list", "package site.check.one\n\nallow := [x | some x in input.request.segments]", ":3", "expected true or false"},
		{"reason is a number", "package site.check.one\n\nallow := true\nreason := 1", ":4", "reason of check one: expected a string"},
		{"headers is a list", "package site.check.one\n\nallow := true\nheaders := []", ":4", "headers of check one: expected an object"},

		{"missing data", "package site.check.one\n\nallow if not data.blocked[input.caller.app]", ":3", "data.blocked"},
		{"missing rule", "package site.check.one\n\nallow if data.site.check.one.alow", ":3", "data.site.check.one.alow is read"},
		{"missing package", "package site.check.one\n\nallow if data.site.check.two.allow", ":3", "data.site.check.two.allow is read"},
		{"missing data behind an import", "package site.check.one\n\nimport data.lib.lists\n\nallow if not lists.blocked", ":5", "data.lib.lists.blocked is read"},

		{"a failing test", yes + "\ntest_one if allow == false", ":5", "test data.site.check.one.test_one fails"},
		{"a test that errors", yes + "\ntest_one if not bad\n\nbad if to_number(\"x\") == 1", ":5", "to_number"},
	} {
		t.Run(test.name, func(t *testing.T) {
			refused(t, directory(t, files{"sub/policy.rego": test.source}), "sub/policy.rego"+test.where, test.what)
		})
	}
}

// What looks like data.mtls but is not; the policy decides as ever.
func TestPackagesThatOnlyLookForeign(t *testing.T) {
	for _, source := range []string{
		"package foo.mtls\n\nx := 1", "package foo[\"mtls\"]\n\nx := 1", "package mtls2\n\nx := 1",
		"package data.mtls.authz\n\ngranted := true", "package foo\n\nmtls.authz.granted := true",
		"package foo\n\nimport data.mtls.authz as a\n\nx if a.granted",
	} {
		loaded := load(t, directory(t, files{"policy.rego": source}))
		for _, rule := range loaded.Compiler.GetRulesWithPrefix(ast.MustParseRef("data.mtls")) {
			assert.Contains(t, []string{"mtls/authz.rego", "mtls/site.rego"}, rule.Location.File, source)
		}
	}
}

func TestEveryForbiddenBuiltinIsRefused(t *testing.T) {
	allowed := map[string]bool{}
	for _, name := range gate.AllowedBuiltins {
		allowed[name] = true
	}
	assert.Len(t, allowed, len(gate.AllowedBuiltins), "listed twice")
	known := 0
	for _, builtin := range ast.CapabilitiesForThisVersion().Builtins {
		known++
		if allowed[builtin.Name] {
			delete(allowed, builtin.Name)
			assert.False(t, builtin.Nondeterministic && builtin.Name != "internal.print" && builtin.Name != "print", builtin.Name)
			continue
		}
		arguments := strings.TrimSuffix(strings.Repeat("input.caller.app, ", builtin.Decl.Arity()), ", ")
		source := "package site.check.one\n\nallow if " + builtin.Name + "(" + arguments + ")\n"
		if builtin.Name == "internal.template_string" {
			source = "package site.check.one\n\nallow if $\"{input.caller.app}\" == \"a\"\n"
		}
		loaded, err := pass(t.Context(), directory(t, files{"policy.rego": source}))
		assert.ErrorIs(t, err, bundle.ErrRefused, builtin.Name)
		assert.ErrorContains(t, err, "policy.rego:3", builtin.Name)
		assert.Nil(t, loaded, builtin.Name)
	}
	assert.Greater(t, known, 150)
	assert.Empty(t, allowed, "no such builtins")
	for _, name := range []string{"http.send", "net.lookup_ip_addr", "opa.runtime", "rand.intn", "time.now_ns", "bits.lsh", "numbers.range", "regex.match", "walk", "uuid.rfc4122"} {
		assert.NotContains(t, gate.AllowedBuiltins, name)
	}
}

func TestRefusedData(t *testing.T) {
	for _, test := range []struct{ content, what string }{
		{`{`, "data.json"},
		{`[]`, "data.json"},
		{`{"mtls":{}}`, "data.mtls belongs to the gateway"},
		{`{"site":[]}`, "data.site: expected an object"},
		{`{"site":{"check":{}}}`, "data.site.check is data"},
		{`{"site":{"grants":null}}`, "data.site.grants: expected a list"},
		{`{"site":{"grants":{}}}`, "data.site.grants: expected a list"},
		{`{"site":{"grants":"cf:any"}}`, "data.site.grants: expected a list"},
		{`{"site":{"grants":[1]}}`, "data.site.grants"},
		{`{"site":{"grants":["cf:app:x"]}}`, `cf:app:x`},
		{`{"site":{"grants":["spiffe://x"]}}`, "reserved"},
		{`{"site":{"grants":["cf:any",{"source":"app:frontend","paths":["/a"]}]}}`, "grants[1]"},
		{`{"site":{"grants":["cf:any","cf:any"]}}`, "cf:any"},
		{`{"site":{"grants":[{"source":"cf:any","paths":["a"]}]}}`, `"a"`},
		{`{"site":{"grants":[{"source":"cf:any","method":["GET"]}]}}`, "method"},
	} {
		refused(t, directory(t, files{"data.json": test.content, "policy.rego": yes}), test.what)
	}
	refused(t, directory(t, files{"mtls/data.json": `{}`, "policy.rego": yes}), "data.mtls")
	refused(t, directory(t, files{"site/check/data.yaml": "one: {allow: true}", "policy.rego": yes}), "data.site.check is data")
	refused(t, directory(t, files{"a/data.json": `{"b":1}`, "a/b/data.json": `{"c":1}`, "policy.rego": yes}), "bundle")
}

func TestDataThatIsReadMustBeThere(t *testing.T) {
	const data = `{"a":{"text":"x","list":[{"b":1},2],"null":null}}`
	for ref, there := range map[string]bool{
		"data.a": true, "data.a.text": true, "data.a.list": true, "data.a.list[0]": true, "data.a.list[0].b": true, "data.a.list[_].c": false,
		`data.a["null"]`: true, "data.a[input.caller.app]": true, "data.a.list[input.now.minute]": true,
		"data.b": false, "data.a.b": false, "data.a.text.b": false, "data.a.list.b": false, "data.a.list[2]": false, "data.a.list[-1]": false,
		"data.a.list[0.5]": false, "data.a.list[0].c": false, `data.a["null"].b`: false, "data.a[1]": false, "data.a[true]": false,
	} {
		path := directory(t, files{"data.json": data, "policy.rego": "package site.check.one\n\nallow if x\nx if " + ref + " == 1\n"})
		if there {
			load(t, path)
		} else {
			refused(t, path, "policy.rego:4", "is read but is neither")
		}
	}
}

func TestARuleMustNotCoverData(t *testing.T) {
	refused(t, directory(t, files{
		"lib/data.json": `{"blocked":["a"]}`, "lib.rego": "package lib\n\nblocked := []", "policy.rego": yes,
	}), "lib.rego:3", "conflicting rule for data path lib/blocked")
}

func TestTests(t *testing.T) {
	const test = "package site.check.one_test\n\nimport data.site.check.one\n\ntest_it if one.allow\n"
	load(t, directory(t, files{"policy.rego": yes, "policy_test.rego": test}))
	load(t, directory(t, files{"policy.rego": yes, "policy_test.rego": "package site.check.one\n\nhelper := true\n\ntest_it if allow == helper\n"}))
	load(t, directory(t, files{"policy.rego": yes + "\ntodo_test_later if false\n"}))
	refused(t, directory(t, files{"policy.rego": yes, "policy_test.rego": strings.Replace(test, "if one", "if not one", 1)}), "policy_test.rego:5", "test_it fails")
	refused(t, directory(t, files{"policy.rego": yes, "policy_test.rego": "package mtls.authz\n\ngranted := true\n"}), "belongs to the gateway")

	// A check in a file of tests would not be a check.
	for _, source := range []string{
		"package site.check.freeze\n\nallow := false\n", "package site.check\n\nfreeze.allow := false\n", "package site\n\ncheck.freeze.allow := false\n",
		"package site.check.one\n\nallow := false\n", "package site.check.one\n\nreason := \"x\"\n", "package site.check.one.two\n\nallow := false\n",
	} {
		refused(t, directory(t, files{"policy.rego": yes, "load_test.rego": source}), "load_test.rego:3", "not part of the policy")
	}

	stopped, stop := context.WithCancel(t.Context())
	stop()
	_, err := pass(stopped, directory(t, files{"policy.rego": yes, "policy_test.rego": strings.Replace(test, "if one", "if not one", 1)}))
	assert.ErrorIs(t, err, bundle.ErrRefused, "tests that did not run have not passed")
}

// No name of a file can stand in for a built-in module.
func TestNamesOfBuiltInModulesAreNotTaken(t *testing.T) {
	alone := load(t, "")
	taken := load(t, archive(t, entry("mtls/authz.rego", yes), entry("mtls/site.rego", "package lib\n\nx := 1\n")))
	count := func(b *gate.Compiled, ref string) int {
		return len(b.Compiler.GetRulesWithPrefix(ast.MustParseRef(ref)))
	}
	assert.Equal(t, count(alone, "data.mtls.authz"), count(taken, "data.mtls.authz"))
	assert.Equal(t, 1, count(taken, "data.site.check.one"))
	assert.Equal(t, 1, count(taken, "data.lib"))
}

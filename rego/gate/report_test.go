package gate_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/rego/bundle"
	"github.com/mtls-authz/mtls-authz/rego/gate"
)

func TestFindingsNamePlaceStepAndFix(t *testing.T) {
	for _, test := range []struct {
		content  files
		expected bundle.Finding
	}{
		{
			files{"sub/policy.rego": "package site.check.one\n\nallow if not input.caler.app"},
			bundle.Finding{
				File: "sub/policy.rego", Line: 3, Column: 14, Step: bundle.StepTypes, Message: "rego_type_error: undefined ref: input.caler.app",
				Fix: "did you mean caller? input has caller, grants, now, owner, request, route",
			},
		},
		{
			files{"policy.rego": "package site.check.one\n\nallow if { some g in data.site.grants; g.sorce == \"x\" }", "data.json": `{"site":{"grants":["cf:any"]}}`},
			bundle.Finding{File: "policy.rego", Line: 3, Column: 40, Step: bundle.StepTypes, Message: "rego_type_error: undefined ref: __local1__.sorce", Fix: "did you mean source?"},
		},
		{
			files{"policy.rego": "package site.check.one\n\nreason := \"x\""},
			bundle.Finding{
				File: "policy.rego", Line: 1, Column: 1, Step: bundle.StepLayout, Message: "package site.check.one defines no rule allow",
				Fix: "helpers belong outside site.check, tests into files *_test.rego",
			},
		},
	} {
		_, err := pass(t.Context(), directory(t, test.content))
		refusal, ok := errors.AsType[*bundle.Refusal](err)
		require.True(t, ok, "%v", err)
		require.Len(t, refusal.Findings, 1)
		got := refusal.Findings[0]
		if test.expected.Fix == "did you mean source?" {
			assert.Contains(t, got.Fix, test.expected.Fix)
			got.Fix = test.expected.Fix
			test.expected.Message, test.expected.Column = got.Message, got.Column
			assert.Contains(t, got.Message, ".sorce")
		}
		assert.Equal(t, test.expected, got)
		assert.False(t, refusal.Temporary())
	}
}

// An author must not weaken the gateway's schemas.
func TestSchemasAreNotReplaced(t *testing.T) {
	annotated := func(scope, schemas string) files {
		return files{"policy.rego": "# METADATA\n# scope: " + scope + "\n# schemas:\n#   - " + schemas + "\npackage site.check.one\n\nallow if not input.caler.app\n"}
	}
	for _, schemas := range []string{"input: {type: object}", "input.caler: {type: object}", "input: schema.grants", "data.site: {type: object}", "data: {type: object}", "input: schema.nothing"} {
		for _, scope := range []string{"package", "subpackages"} {
			refused(t, directory(t, annotated(scope, schemas)), "policy.rego:1")
		}
	}
	refused(t, directory(t, annotated("package", "input: schema.input")), "did you mean caller?")
	rule := "package site.check.one\n\n# METADATA\n# schemas:\n#   - input: {type: object}\nallow if not input.caler.app\n"
	refused(t, directory(t, files{"policy.rego": rule}), "policy.rego:3", "replace the gateway's")
}

func TestTheReportOfTests(t *testing.T) {
	archive, err := bundle.ReadArchive(directory(t, files{
		"policy.rego": "package site.check.one\n\nallow if input.caller.app == \"a\"\n\nallow if input.caller.app == \"b\"\n",
		"policy_test.rego": strings.Join([]string{
			"package site.check.one_test", "import data.site.check.one",
			"test_good if one.allow with input.caller.app as \"a\"",
			"test_bad if { print(\"seen\"); one.allow with input.caller.app as \"c\" }",
			"todo_test_later if false", "test_error if to_number(\"x\") == 1", "",
		}, "\n"),
	}))
	require.NoError(t, err)
	read, err := bundle.Read(archive, nil)
	require.NoError(t, err)
	compiled, err := gate.Compile(t.Context(), read)
	require.NoError(t, err)
	assert.Equal(t, []string{"one"}, compiled.Checks)
	report, err := compiled.Test(t.Context(), gate.TestConfig{Coverage: true})
	require.NoError(t, err)
	require.Len(t, report.Results, 4)
	for i, expected := range []gate.TestResult{
		{Name: "test_good", Outcome: gate.Passed, Line: 3},
		{Name: "test_bad", Outcome: gate.Failed, Line: 4, Output: "seen\n"},
		{Name: "todo_test_later", Outcome: gate.Skipped, Line: 5},
		{Name: "test_error", Outcome: gate.Errored, Line: 6},
	} {
		got := report.Results[i]
		assert.Equal(t, "policy_test.rego", got.File)
		assert.Equal(t, "data.site.check.one_test", got.Package)
		assert.Equal(t, expected, gate.TestResult{Name: got.Name, Outcome: got.Outcome, Line: got.Line, Output: got.Output})
	}
	assert.ErrorContains(t, report.Refusal(), "policy_test.rego:4: test data.site.check.one_test.test_bad fails")
	require.Contains(t, report.Coverage, "policy.rego")
	assert.Len(t, report.Coverage, 1)
	assert.NotEmpty(t, report.Coverage["policy.rego"].NotCovered)

	only, err := compiled.Test(t.Context(), gate.TestConfig{Run: "good"})
	require.NoError(t, err)
	assert.Len(t, only.Results, 1)
	assert.NoError(t, only.Refusal())
	assert.Nil(t, only.Coverage)
}

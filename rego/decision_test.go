package rego_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/rego"
)

func value(t testing.TB, text string) ast.Value {
	t.Helper()
	term, err := ast.ParseTerm(text)
	require.NoError(t, err, text)
	return term.Value
}

func TestTheZeroDecisionDenies(t *testing.T) {
	assert.False(t, rego.Decision{}.Allow)
	assert.Equal(t, "none", rego.Decision{}.Cache.String())
}

func TestOnlyOneWellFormedDecisionCounts(t *testing.T) {
	const good = `{"allow": true, "policy": "", "reason": "", "headers": {}}`
	decision, err := rego.DecisionOf([]ast.Value{value(t, good)})
	require.NoError(t, err)
	assert.Equal(t, allowed, decision)

	for _, malformed := range []string{
		`true`, `"allow"`, `1`, `null`, `[true]`, `{true}`, `{}`, `set()`,
		`{"allow": true}`,
		`{"allow": true, "policy": "", "reason": ""}`,
		`{"allow": true, "policy": "", "reason": "", "headers": {}, "more": 1}`,
		`{"Allow": true, "policy": "", "reason": "", "headers": {}}`,
		`{"allow": "true", "policy": "", "reason": "", "headers": {}}`,
		`{"allow": 1, "policy": "", "reason": "", "headers": {}}`,
		`{"allow": null, "policy": "", "reason": "", "headers": {}}`,
		`{"allow": [true], "policy": "", "reason": "", "headers": {}}`,
		`{"allow": true, "policy": 1, "reason": "", "headers": {}}`,
		`{"allow": true, "policy": "", "reason": null, "headers": {}}`,
		`{"allow": true, "policy": "", "reason": "", "headers": []}`,
		`{"allow": true, "policy": "", "reason": "", "headers": set()}`,
		`{"allow": true, "policy": "", "reason": "", "headers": null}`,
		`{"allow": false, "policy": 1, "reason": "x", "headers": {}}`,
		`{"allow": false, "policy": "", "reason": "x", "headers": {"Via": "x"}}`,
	} {
		decision, err := rego.DecisionOf([]ast.Value{value(t, malformed)})
		assert.ErrorIs(t, err, rego.ErrPolicy, malformed)
		assert.Zero(t, decision, malformed)
	}
	for _, results := range [][]ast.Value{nil, {value(t, good), value(t, good)}} {
		decision, err := rego.DecisionOf(results)
		assert.ErrorIs(t, err, rego.ErrPolicy, "%d results", len(results))
		assert.Zero(t, decision)
	}
}

func TestReasonsOfDenials(t *testing.T) {
	of := func(policy, reason string) string {
		text := fmt.Sprintf(`{"allow": false, "policy": %q, "reason": %q, "headers": {}}`, policy, reason)
		decision, err := rego.DecisionOf([]ast.Value{value(t, text)})
		require.NoError(t, err)
		require.Equal(t, rego.Decision{Policy: policy, Reason: decision.Reason}, decision)
		return decision.Reason
	}
	assert.Equal(t, "no_matching_grant", of("route:no_matching_grant", "no_matching_grant"))
	longest := "a" + strings.Repeat("9", 63)
	for _, own := range []string{"freeze", "a", "a_1", longest} {
		assert.Equal(t, own, of("policy:one", own))
	}
	for _, bad := range []string{"", "A", "Freeze", "1a", "_a", "a-b", "a b", "é", "a\n", longest + "9"} {
		assert.Equal(t, "policy_denied", of("policy:one", bad), "%q", bad)
	}
	require.Len(t, rego.ReservedReasons, 18)
	for _, reserved := range rego.ReservedReasons {
		assert.Equal(t, "policy_denied", of("policy:one", reserved))
	}
}

// FuzzDecision: whatever a policy could return is a decision or an error, an
// allow only if it says exactly true, and never more than the headers allowed.
func FuzzDecision(f *testing.F) {
	for _, seed := range []string{
		`{"allow": true, "policy": "", "reason": "", "headers": {"X-Mtls-Authz-Policy-A": "b"}}`,
		`{"allow": false, "policy": "policy:x", "reason": "freeze", "headers": {}}`,
		`{"allow": "true", "policy": "", "reason": "", "headers": {}}`, `true`, `{}`, `[]`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		term, err := ast.ParseTerm(text)
		if err != nil {
			t.Skip()
		}
		decision, err := rego.DecisionOf([]ast.Value{term.Value})
		if err != nil {
			require.ErrorIs(t, err, rego.ErrPolicy)
			require.Zero(t, decision)
			return
		}
		if decision.Allow {
			object := term.Value.(ast.Object)
			require.Equal(t, ast.Boolean(true), object.Get(ast.StringTerm("allow")).Value)
			require.Empty(t, decision.Reason)
		} else {
			require.NotEmpty(t, decision.Reason)
			require.Empty(t, decision.Headers)
		}
		require.LessOrEqual(t, len(decision.Headers), 8)
		for _, header := range decision.Headers {
			require.True(t, strings.HasPrefix(header.Name, "X-Mtls-Authz-Policy-"), header.Name)
			require.LessOrEqual(t, len(header.Value), 1024)
			require.NotContains(t, header.Value, "\n")
		}
	})
}

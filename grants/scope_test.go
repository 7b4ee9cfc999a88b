package grants_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/identity"
)

func TestScopeAdmits(t *testing.T) {
	const yes, no = true, false
	for _, c := range []struct {
		who             string
		caller          identity.Caller
		space, org, any bool
	}{
		{"an app of the space", caller, yes, yes, yes},
		{"another app of the space", callerOf(metrics, shop, acme), yes, yes, yes},
		{"an app of the org", callerOf(frontend, billing, acme), no, yes, yes},
		{"an app of another org", callerOf(frontend, billing, globex), no, no, yes},
		{"the space in another org, which cannot be", callerOf(frontend, shop, globex), no, no, yes},
		{"nobody", identity.Caller{}, no, no, no},
		{"half a caller", identity.Caller{App: guid(frontend), Org: guid(acme)}, no, no, no},
	} {
		t.Run(c.who, func(t *testing.T) {
			assert.Equal(t, c.space, grants.ScopeSpace.Admits(c.caller, owner))
			assert.Equal(t, c.org, grants.ScopeOrg.Admits(c.caller, owner))
			assert.Equal(t, c.any, grants.ScopeAny.Admits(c.caller, owner))
			assert.False(t, grants.Scope(0).Admits(c.caller, owner), "the zero scope")
			assert.False(t, grants.Scope(9).Admits(c.caller, owner), "an unknown scope")
			for scope := grants.ScopeSpace; scope <= grants.ScopeAny; scope++ {
				assert.False(t, scope.Admits(c.caller, grants.Owner{}), "an unknown owner")
				assert.False(t, scope.Admits(c.caller, grants.Owner{Space: guid(shop)}), "an owner without org")
				assert.False(t, scope.Admits(c.caller, grants.Owner{Org: guid(acme)}), "an owner without space")
			}
		})
	}
}

func TestNarrowestScope(t *testing.T) {
	const none, space, org, any = grants.Scope(0), grants.ScopeSpace, grants.ScopeOrg, grants.ScopeAny
	for _, c := range []struct{ a, b, c, want grants.Scope }{
		{none, none, none, none},
		{any, none, none, any},
		{any, org, none, org},
		{any, none, space, space},
		{org, any, any, org},
		{space, any, org, space},
	} {
		assert.Equal(t, c.want, grants.Narrowest(c.a, c.b, c.c))
	}
	assert.Zero(t, grants.Narrowest())
}

func TestScopeAndModeNames(t *testing.T) {
	for _, name := range []string{"space", "org", "any"} {
		scope, err := grants.ParseScope(name)
		require.NoError(t, err)
		assert.Equal(t, name, scope.String())
	}
	for _, name := range []string{"", "Space", "all", "none", "organization", "space "} {
		scope, err := grants.ParseScope(name)
		assert.Error(t, err, name)
		assert.Zero(t, scope)
	}
	assert.Empty(t, grants.Scope(0).String())
	assert.Equal(t, "enforce", grants.Mode(0).String(), "the zero mode enforces")
	assert.Equal(t, "report", grants.Report.String())
	assert.Equal(t, "enforce", grants.Mode(9).String())
}

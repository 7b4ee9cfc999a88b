package grants_test

import (
	"strings"
	"testing"

	"github.com/mtls-authz/mtls-authz/grants/parameters"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/grants"
)

func TestSources(t *testing.T) {
	for text, want := range map[string]grants.Source{
		"cf:app:" + frontend: {Kind: grants.App, ID: guid(frontend)},
		"cf:space:" + shop:   {Kind: grants.Space, ID: guid(shop)},
		"cf:org:" + acme:     {Kind: grants.Org, ID: guid(acme)},
		"cf:any":             {Kind: grants.Any},
	} {
		source, err := grants.ParseSource(text)
		require.NoError(t, err)
		assert.Equal(t, want, source)
		assert.Equal(t, text, source.String())
	}
}

func TestReservedSourcesHaveTheirOwnError(t *testing.T) {
	for _, text := range []string{
		"spiffe://cf/app", "spiffe:", "oidc:issuer", "x509:CN=a",
	} {
		source, err := grants.ParseSource(text)
		require.ErrorIs(t, err, grants.ErrReservedSource, text)
		assert.ErrorContains(t, err, `"`+text+`"`)
		assert.Zero(t, source)
		_, err = parameters.ParseInstance([]byte(`{"allow":["` + text + `"]}`))
		require.ErrorIs(t, err, grants.ErrReservedSource, "through the parameters")
	}
}

func TestNoOtherSources(t *testing.T) {
	for _, text := range []string{
		"", "*", "any", "cf:", "cf:*", "cf:any ", " cf:any", "cf:any:", "CF:any", "cf:Any", "cf:anyone",
		"cf:app", "cf:app:", "cf:app:*", "cf:app:frontend", "cf:app: " + frontend, "cf:app:" + frontend + " ",
		"cf:app:" + strings.ToUpper(frontend), "cf:app:" + nobody, "cf:app:" + frontend + "," + metrics,
		"cf:App:" + frontend, "cf:apps:" + frontend, "cf:organization:" + acme, "cf:process:" + frontend,
		frontend, "cf:" + frontend, "cf::app:" + frontend, "cf:any:" + frontend, "cf:app:" + frontend + "\n", "cf:app:{" + frontend + "}",
	} {
		source, err := grants.ParseSource(text)
		require.Error(t, err, text)
		assert.NotErrorIs(t, err, grants.ErrReservedSource, text)
		assert.Zero(t, source, text)
	}
}

func TestZeroSourceIsNobody(t *testing.T) {
	assert.Empty(t, grants.Source{}.String())
	assert.Empty(t, grants.Kind(0).String())
	assert.Empty(t, grants.Kind(99).String())
	deny(t, &grants.Live{Rules: []grants.Rule{{Origin: grants.FromInstance}}}, caller, "GET /")
}

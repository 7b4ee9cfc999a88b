package names_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/grants/names"
	"github.com/mtls-authz/mtls-authz/identity"
)

const guid = "d76446a1-f429-4444-8797-be2f78b75b08"

func TestNamesThatAreRead(t *testing.T) {
	for text, want := range map[string]names.Name{
		"app:frontend":          {Kind: names.App, App: "frontend"},
		"app:shop/frontend":     {Kind: names.App, Space: "shop", App: "frontend"},
		"app:My app, the 2nd:x": {Kind: names.App, App: "My app, the 2nd:x"},
		"app:über":              {Kind: names.App, App: "über"},
		"space:monitoring":      {Kind: names.Space, Space: "monitoring"},
		"org:.":                 {Kind: names.OwnOrg},
	} {
		name, is, err := names.Parse(text)
		require.NoError(t, err, text)
		assert.True(t, is)
		assert.Equal(t, want, name)
		assert.Equal(t, text, name.String())
	}
	for _, text := range []string{"cf:any", "cf:app:" + guid, "frontend", "", "spiffe://x", "App:frontend", "orgs:."} {
		name, is, err := names.Parse(text)
		require.NoError(t, err, text)
		assert.False(t, is, text)
		assert.Zero(t, name)
	}
}

func TestNamesThatAreRefused(t *testing.T) {
	for text, say := range map[string]string{
		"app:": "missing", "app:/frontend": "missing", "app:shop/": "missing", "space:": "missing",
		"app:a/b/c": "slash", "space:a/b": "slash", "app:" + guid: "write cf:app:" + guid, "space:" + strings.ToUpper(guid): "write cf:space:" + guid,
		"app:shop/" + guid: "write cf:app:", "org:acme": "cf:org:<guid>", "org:": "cf:org:<guid>", "org:*": "cf:org:<guid>",
		"apps": "object", "apps:monitoring": "object", "apps:": "object",
		"app: frontend": "printable", "app:frontend ": "printable", "app:a\nb": "printable", "app:a\x00": "printable", "app:\xff": "printable",
		"app:a\u202eb": "printable", "app:" + strings.Repeat("x", 256): "255",
	} {
		name, is, err := names.Parse(text)
		require.ErrorContains(t, err, say, text)
		assert.True(t, is)
		assert.Zero(t, name)
	}
}

// Only what an app bears can be required: a selector of what it does not bear
// would allow apps that nobody thought of.
func TestLabels(t *testing.T) {
	for _, labels := range []string{"team=payments", "team=payments,tier=front", "example.com/team=a.b-c_d", "A.b-c.Example/x=1"} {
		name, err := names.ParseLabelled("monitoring", labels)
		require.NoError(t, err, labels)
		assert.Equal(t, names.Name{Kind: names.Labelled, Space: "monitoring", Labels: labels}, name)
	}
	for _, labels := range []string{
		"", "team", "!team", "team!=payments", "team==payments", "team in (a,b)", "team notin (a)", "team=", "=x", "team=a,", ",team=a",
		"cloudfoundry.org/a=b", "CloudFoundry.ORG/a=b", "nodot/a=b", "a..b/c=d", ".a.b/c=d", "a.b./c=d", "-a.b/c=d", "a_b.c/d=e", "a.b/=c", strings.Repeat("a.", 130) + "b/c=d",
		"team=a, tier=b", "team=a,team=b", "team=a&space_guids=x", "a=1,b=1,c=1,d=1,e=1,f=1,g=1,h=1,i=1", "team=" + strings.Repeat("x", 64),
	} {
		name, err := names.ParseLabelled("monitoring", labels)
		require.Error(t, err, labels)
		assert.Zero(t, name)
	}
	_, err := names.ParseLabelled("", "team=payments")
	require.Error(t, err)
}

// Where the owner's space does not matter, all its org shares the reference.
func TestReference(t *testing.T) {
	org, here, there := identity.GUID{1}, identity.GUID{2}, identity.GUID{3}
	for text, shared := range map[string]bool{"app:frontend": false, "app:shop/frontend": true, "space:shop": true, "org:.": true} {
		name, _, err := names.Parse(text)
		require.NoError(t, err)
		assert.Equal(t, shared, name.From(org, here) == name.From(org, there), text)
		assert.NotEqual(t, name.From(org, here), name.From(identity.GUID{9}, here), "%s of another org", text)
	}
}

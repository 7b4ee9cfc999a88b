package parameters_test

import (
	"os"
	"strings"
	"testing"

	"github.com/mtls-authz/mtls-authz/grants/parameters"

	"github.com/mtls-authz/mtls-authz/grants/route"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/grants"
)

// contractExample is the example of contract.md, "Service offering".
const contractExample = `{ "scope": "space", "mode": "enforce", "report_routes": ["backend.apps.identity/beta"], "assert": true,
  "allow": [
    "cf:app:d76446a1-f429-4444-8797-be2f78b75b08",
    { "source": "cf:org:6e424e4e-5e46-419a-9cb6-eac9de2794e8", "methods": ["GET", "HEAD"], "paths": ["/metrics", "/api/**"],
      "routes": ["backend.apps.identity"], "expires": "2026-12-31T00:00:00Z", "reason": "INC-1234" } ],
  "labels": {"team": "payments"}, "annotations": {"contact": "payments@example.com"} }`

// roundTrip demands that the canonical form reads back as the same parameters.
func roundTrip(t testing.TB, p parameters.Parameters) {
	t.Helper()
	stored, err := parameters.ParseStored(p.JSON())
	require.NoError(t, err, "%s", p.JSON())
	require.Equal(t, p, stored, "%s", p.JSON())
	require.Equal(t, string(p.JSON()), string(stored.JSON()))
}

func TestCanonicalFormOfTheContractsExample(t *testing.T) {
	golden, err := os.ReadFile("testdata/canonical.json")
	require.NoError(t, err)
	p := given(t, contractExample)
	assert.Equal(t, strings.TrimSpace(string(golden)), string(p.JSON()))
	roundTrip(t, p)
}

// What is the same has one form, so that a repeated request can be told from a
// different one by bytes.
func TestOneFormForTheSameParameters(t *testing.T) {
	for name, same := range map[string][]string{
		"order of members": {`{"scope":"org","mode":"report"}`, ` { "mode" : "report", "scope" : "org" }`},
		"a bare source":    {`{"allow":["` + app + `"]}`, `{"allow":[{"source":"` + app + `"}]}`, `{"allow":[{"source":"` + app + `","reason":""}]}`, `{"mtls_allowed_apps":" ` + frontend + ` "}`},
		"zone of a time":   {`{"allow":[{"source":"cf:any","expires":"2026-12-31T00:00:00Z"}]}`, `{"allow":[{"source":"cf:any","expires":"2026-12-31T01:00:00.000+01:00"}]}`},
		"trailing slash":   {`{"allow":[{"source":"cf:any","paths":["/a"]}]}`, `{"allow":[{"paths":["/a/"],"source":"cf:any"}]}`},
		"repeated values":  {`{"allow":[{"source":"cf:any","methods":["GET"]}]}`, `{"allow":[{"source":"cf:any","methods":["GET","GET"]}]}`},
		"nulls and status": {`{"scope":"any"}`, `{"scope":"any","allow":null,"labels":null,"status":{"x":1}}`, `{"scope":"any","status":null}`},
		"labels in order":  {`{"labels":{"a":"1","b":"2"}}`, `{"labels":{"b":"2","c":null,"a":"1"}}`},
	} {
		t.Run(name, func(t *testing.T) {
			for _, text := range same {
				p := given(t, text)
				roundTrip(t, p)
				assert.Equal(t, string(given(t, same[0]).JSON()), string(p.JSON()))
			}
		})
	}
}

// A default that was given is kept: it is what the developer said.
func TestGivenDefaultsAreKept(t *testing.T) {
	text := `{"mode":"enforce","report_routes":[],"assert":false,"allow":[],"labels":{},"annotations":{}}`
	p := given(t, text)
	assert.JSONEq(t, text, string(p.JSON()))
	roundTrip(t, p)
}

// Parameters that code composes lose nothing either.
func TestComposedParametersAreWrittenWhole(t *testing.T) {
	p := parameters.Parameters{
		Scope: grants.ScopeOrg, Mode: grants.Report, Assert: true, ReportRoutes: []route.Route{backend},
		Allow: []grants.Grant{{Source: grants.Source{Kind: grants.Any}}}, Labels: map[string]string{"a": "b"}, Annotations: map[string]string{"c": "d"},
	}
	assert.JSONEq(t, `{"scope":"org","mode":"report","assert":true,"report_routes":["backend.apps.identity"],"allow":["cf:any"],
		"labels":{"a":"b"},"annotations":{"c":"d"}}`, string(p.JSON()))
	assert.JSONEq(t, `{}`, string(parameters.Parameters{}.JSON()))
}

func TestStoredFormIsStrict(t *testing.T) {
	for _, text := range []string{`{"status":{}}`, `{"allow_add":[]}`, `{"Allow":[]}`, `{"mtls_allow_any":true}`, `{"allow":[null]}`, `[]`, `{`, `{} {}`, `{"scope":"x"}`} {
		p, err := parameters.ParseStored([]byte(text))
		refused(t, err)
		assert.Zero(t, p)
	}
	for _, text := range []string{"", "null", "{}"} {
		p, err := parameters.ParseStored([]byte(text))
		require.NoError(t, err)
		assert.Zero(t, p)
	}
}

func TestFlatFormIsAnAliasOfAllow(t *testing.T) {
	for name, c := range map[string]struct {
		flat string
		want []string
	}{
		"apps":           {`{"mtls_allowed_apps":"` + frontend + `, ` + metrics + `"}`, []string{app, app2}},
		"spaces":         {`{"mtls_allowed_spaces":"` + shop + `"}`, []string{space}},
		"orgs":           {`{"mtls_allowed_orgs":"` + acme + `"}`, []string{org}},
		"all three":      {`{"mtls_allowed_orgs":"` + acme + `","mtls_allowed_apps":"` + frontend + `","mtls_allowed_spaces":"` + shop + `"}`, []string{app, space, org}},
		"any":            {`{"mtls_allow_any":true}`, []string{"cf:any"}},
		"any is false":   {`{"mtls_allow_any":false,"mtls_allowed_apps":"` + frontend + `"}`, []string{app}},
		"an empty list":  {`{"mtls_allowed_apps":""}`, []string{}},
		"only any false": {`{"mtls_allow_any":false}`, []string{}},
		"a null":         {`{"mtls_allowed_apps":null,"mtls_allowed_spaces":"` + shop + `"}`, []string{space}},
	} {
		t.Run(name, func(t *testing.T) {
			want := `{"allow":` + list(c.want...) + `}`
			assert.JSONEq(t, want, string(given(t, c.flat).JSON()))
			updated, err := allowing(t, app2, org).Update([]byte(c.flat), now)
			require.NoError(t, err)
			assert.JSONEq(t, want, string(updated.JSON()), "an update replaces the list: who is no longer named is out")
		})
	}
	for name, c := range map[string]struct {
		flat  string
		words []string
	}{
		"together with allow":       {`{"mtls_allowed_apps":"` + frontend + `","allow":["` + app2 + `"]}`, []string{"mtls_allowed_apps", "one of them"}},
		"any together with allow":   {`{"mtls_allow_any":true,"allow":[]}`, []string{"mtls_allow_any", "one of them"}},
		"any excludes apps":         {`{"mtls_allow_any":true,"mtls_allowed_apps":"` + frontend + `"}`, []string{"mtls_allow_any excludes mtls_allowed_apps"}},
		"any excludes orgs":         {`{"mtls_allow_any":true,"mtls_allowed_orgs":"` + acme + `"}`, []string{"mtls_allow_any excludes mtls_allowed_orgs"}},
		"a list":                    {`{"mtls_allowed_apps":["` + frontend + `"]}`, []string{"mtls_allowed_apps", "commas"}},
		"a name":                    {`{"mtls_allowed_apps":"frontend"}`, []string{"mtls_allowed_apps", `"frontend"`}},
		"a source":                  {`{"mtls_allowed_apps":"` + app + `"}`, []string{"mtls_allowed_apps"}},
		"a comma too many":          {`{"mtls_allowed_orgs":"` + acme + `,"}`, []string{"mtls_allowed_orgs", `""`}},
		"an app twice":              {`{"mtls_allowed_apps":"` + frontend + `,` + frontend + `"}`, []string{"allow[1]", app, "twice"}},
		"any as text":               {`{"mtls_allow_any":"true"}`, []string{"mtls_allow_any", "true or false"}},
		"upper case":                {`{"MTLS_ALLOW_ANY":true}`, []string{"unknown parameter"}},
		"upper-case guid":           {`{"mtls_allowed_spaces":"` + strings.ToUpper(shop) + `"}`, []string{"mtls_allowed_spaces", "lower-case"}},
		"wildcard instead of a key": {`{"mtls_allowed_apps":"*"}`, []string{"mtls_allowed_apps"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parameters.ParseInstance([]byte(c.flat))
			refused(t, err, c.words...)
			_, err = given(t, `{}`).Update([]byte(c.flat), now)
			refused(t, err, c.words...)
		})
	}
}

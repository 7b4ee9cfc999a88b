package parameters_test

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"testing"

	"github.com/mtls-authz/mtls-authz/grants/parameters"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// samples is one good value of each parameter there is.
var samples = map[string]string{
	"scope": `"org"`, "mode": `"report"`, "report_routes": `["a.b/c"]`, "assert": `true`,
	"allow": `["cf:any"]`, "allow_add": `["cf:any"]`, "allow_remove": `["cf:any"]`,
	"labels": `{"a":"b"}`, "annotations": `{"a":"b"}`, "status": `{}`,
	"mtls_allowed_apps": `"` + frontend + `"`, "mtls_allowed_spaces": `"` + shop + `"`, "mtls_allowed_orgs": `"` + acme + `"`, "mtls_allow_any": `true`,
	"unknown": `1`,
}

// The schemas tell tools what the parser takes: the same names in each slot,
// and for an update also null.
func TestSchemasNameWhatTheParserTakes(t *testing.T) {
	update := func(raw []byte) error {
		_, err := parameters.Parameters{}.Update(raw, now)
		return err
	}
	for slot, parse := range map[parameters.SchemaFor]func([]byte) error{
		parameters.CreateInstance: func(raw []byte) error { _, err := parameters.ParseInstance(raw); return err },
		parameters.UpdateInstance: update,
		parameters.CreateBinding:  func(raw []byte) error { _, err := parameters.ParseBinding(raw); return err },
	} {
		schema := parameters.Schema(slot)
		assert.Equal(t, false, schema["additionalProperties"])
		assert.Equal(t, "http://json-schema.org/draft-04/schema#", schema["$schema"])
		properties := schema["properties"].(map[string]any)
		for name := range properties {
			assert.Contains(t, samples, name)
		}
		for name, value := range samples {
			err := parse([]byte(`{"` + name + `":` + value + `}`))
			assert.Equal(t, err == nil, properties[name] != nil, "slot %d, %s: %v", slot, name, err)
			if properties[name] == nil {
				continue
			}
			null := slices.Contains(asList(properties[name].(map[string]any)["type"]), any("null"))
			assert.Equal(t, slot == parameters.UpdateInstance, null, "slot %d, %s", slot, name)
			if null {
				assert.NoError(t, update([]byte(`{"`+name+`":null}`)), name)
			}
		}
		raw, err := json.Marshal(schema)
		require.NoError(t, err)
		assert.Less(t, len(raw), 65_536, "Cloud Controller's limit")
		for _, ref := range regexp.MustCompile(`"\$ref":"[^"]*"`).FindAllString(string(raw), -1) {
			assert.Contains(t, ref, `"#/`, "Cloud Controller refuses external references")
		}
	}
}

func asList(value any) []any {
	if list, ok := value.([]any); ok {
		return list
	}
	return []any{value}
}

func TestSchemaOfAnUpdateLetsMembersBeRemoved(t *testing.T) {
	properties := parameters.Schema(parameters.UpdateInstance)["properties"].(map[string]any)
	labels := properties["labels"].(map[string]any)["additionalProperties"].(map[string]any)
	assert.Equal(t, []any{"string", "null"}, labels["type"])
	assert.Contains(t, properties["scope"].(map[string]any)["enum"], nil)
}

// A schema that a caller changes is its own.
func TestSchemaIsACopy(t *testing.T) {
	delete(parameters.Schema(parameters.CreateInstance), "properties")
	assert.Contains(t, parameters.Schema(parameters.CreateInstance), "properties")
}

// The patterns refuse nothing that the parser takes.
func TestSchemaPatternsTakeWhatTheParserTakes(t *testing.T) {
	definitions := parameters.Schema(parameters.CreateInstance)["definitions"].(map[string]any)
	pattern := func(name string) *regexp.Regexp {
		return regexp.MustCompile(definitions[name].(map[string]any)["pattern"].(string))
	}
	for _, source := range []string{app, space, org, "cf:any"} {
		assert.Regexp(t, pattern("source"), source)
	}
	for _, source := range []string{"app:x/y/z", "cf:app:x", "cf:any:" + frontend, "spiffe://a/b", "cf:app:" + frontend + "0"} {
		assert.NotRegexp(t, pattern("source"), source)
	}
	for _, r := range []string{"a.b", "*.a.b", "a_b.c/d", "a.b/c:d@e", "a.b/c/d"} {
		assert.Regexp(t, pattern("route"), given(t, `{"report_routes":["`+r+`"]}`).ReportRoutes[0].String())
	}
	for _, r := range []string{"", "A.b", "a.b:443", "a.b/C", "/c", "a.b/c?d"} {
		assert.NotRegexp(t, pattern("route"), r)
	}
	entry := definitions["entry"].(map[string]any)["oneOf"].([]any)[1].(map[string]any)["properties"].(map[string]any)
	assert.Equal(t, []string{"expires", "methods", "paths", "reason", "routes", "source"}, slices.Sorted(maps.Keys(entry)))
}

// The schema describes sources by name too.
func TestSchemaDescribesNames(t *testing.T) {
	definitions := parameters.Schema(parameters.CreateInstance)["definitions"].(map[string]any)
	sources := regexp.MustCompile(definitions["source"].(map[string]any)["pattern"].(string))
	for _, source := range []string{"app:frontend", "app:shop/frontend", "space:monitoring", "org:."} {
		assert.Regexp(t, sources, given(t, `{"allow":["`+source+`"]}`).Allow[0].Source.String())
	}
	labels := definitions["entry"].(map[string]any)["oneOf"].([]any)[2].(map[string]any)["properties"].(map[string]any)["labels"].(map[string]any)
	for text, fits := range map[string]bool{"team=payments": true, "a=b,c=d": true, "!team": false, "team": false, "a=b, c=d": false} {
		assert.Equal(t, fits, regexp.MustCompile(labels["pattern"].(string)).MatchString(text), text)
	}
}

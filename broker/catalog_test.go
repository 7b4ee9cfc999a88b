package broker_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/broker"
	"github.com/mtls-authz/mtls-authz/grants"
)

func TestCatalogIsTheGoldenOne(t *testing.T) { // S1
	b := newTestbed(t)
	golden(t, "catalog.json", b.ok()(b.Catalog(ctx)).Body)
}

type catalogService struct {
	ID, Name, Description                string
	Bindable                             bool
	Requires                             []string
	InstancesRetrievable                 bool `json:"instances_retrievable"`
	BindingsRetrievable                  bool `json:"bindings_retrievable"`
	PlanUpdateable                       bool `json:"plan_updateable"`
	Metadata                             map[string]any
	Plans                                []catalogPlan
	DashboardClient, AllowContextUpdates any
}

type catalogPlan struct {
	ID, Name, Description string
	Free                  *bool
	Schemas               struct {
		Instance struct {
			Create, Update struct{ Parameters json.RawMessage }
		} `json:"service_instance"`
		Binding struct {
			Create struct{ Parameters json.RawMessage }
		} `json:"service_binding"`
	}
}

// What Cloud Controller demands before it registers a broker, and what it
// would do wrong if the catalog said otherwise.
func TestCatalogIsAcceptable(t *testing.T) {
	b := newTestbed(t)
	var catalog struct{ Services []catalogService }
	answer := b.ok()(b.Catalog(ctx))
	require.NoError(t, answer.JSON(&catalog))
	require.Len(t, catalog.Services, 1)
	s := catalog.Services[0]
	require.Equal(t, "mtls-authz", s.Name)
	require.Equal(t, []string{"route_forwarding"}, s.Requires)
	require.True(t, s.Bindable && s.InstancesRetrievable && s.BindingsRetrievable && s.PlanUpdateable)
	require.NotContains(t, s.Metadata, "shareable", "a route service cannot be shared")
	for _, absent := range []string{"binding_rotatable", "maintenance_info", "dashboard_client", "allow_context_updates"} {
		require.NotContains(t, string(answer.Body), absent)
	}
	ids, names := map[string]bool{s.ID: true}, map[string]bool{}
	for i, plan := range s.Plans {
		require.False(t, ids[plan.ID] || names[plan.Name])
		ids[plan.ID], names[plan.Name] = true, true
		require.Regexp(t, `^[a-z0-9-]+$`, plan.Name)
		require.True(t, *plan.Free)
		scope, err := grants.ParseScope(plan.Name)
		require.NoError(t, err)
		require.Equal(t, broker.PlanID(scope), plan.ID)
		require.Equal(t, grants.Scope(i+1), scope, "from the narrowest to the widest")
		for _, schema := range []json.RawMessage{plan.Schemas.Instance.Create.Parameters, plan.Schemas.Instance.Update.Parameters, plan.Schemas.Binding.Create.Parameters} {
			requireDraft4(t, schema)
		}
	}
	require.Len(t, s.Plans, 3)
	require.Empty(t, broker.PlanID(0))
}

// requireDraft4 checks by hand what differs between draft-04 and later ones.
func requireDraft4(t *testing.T, raw json.RawMessage) {
	t.Helper()
	require.Less(t, len(raw), 65536)
	var schema map[string]any
	require.NoError(t, json.Unmarshal(raw, &schema))
	require.Equal(t, "http://json-schema.org/draft-04/schema#", schema["$schema"])
	require.Equal(t, "object", schema["type"])
	walkSchema(t, schema, schema)
}

func walkSchema(t *testing.T, root, schema map[string]any) {
	t.Helper()
	for _, later := range []string{"const", "contains", "propertyNames", "$id", "if", "examples", "$defs", "dependentRequired"} {
		require.NotContains(t, schema, later)
	}
	if target, ok := schema["$ref"].(string); ok {
		name, local := strings.CutPrefix(target, "#/definitions/")
		require.True(t, local, "no external references: "+target)
		require.Contains(t, root["definitions"], name)
	}
	if required, ok := schema["required"]; ok {
		require.NotEmpty(t, required, "draft-04: at least one name, and no boolean")
	}
	if pattern, ok := schema["pattern"].(string); ok {
		_, err := regexp.Compile(pattern)
		require.NoError(t, err)
	}
	for key, value := range schema {
		switch value := value.(type) {
		case map[string]any:
			if key == "properties" || key == "definitions" {
				for _, member := range value {
					walkSchema(t, root, member.(map[string]any)) // draft-04 knows no true or false here
				}
			} else {
				walkSchema(t, root, value)
			}
		case []any:
			if key == "oneOf" || key == "anyOf" || key == "allOf" {
				require.NotEmpty(t, value)
				for _, member := range value {
					walkSchema(t, root, member.(map[string]any))
				}
			}
		}
	}
}

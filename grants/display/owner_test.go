package display_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/display"
	"github.com/mtls-authz/mtls-authz/grants/route"
)

// The owner of a route reads of the operator's grants what concerns it: no route of
// another tenant, and no note.
func TestTheOperatorsGrantsTellOfThisRoute(t *testing.T) {
	bound, err := route.Parse("backend.apps.example/v1")
	require.NoError(t, err)
	for _, c := range []struct {
		origin grants.Origin
		want   string
	}{
		{grants.FromOperator, `{"source":"cf:any","methods":["GET"],"routes":["*.apps.example","backend.apps.example/v1"]}`},
		{grants.FromInstance, `{"source":"cf:any","methods":["GET"],"routes":["*.apps.example","backend.apps.example/v1","secret.apps.example"],"reason":"INC-9 tenant globex"}`},
	} {
		rule := grants.Rule{Origin: c.origin, Grant: grants.Grant{Source: grants.Source{Kind: grants.Any}, Terms: &grants.Terms{
			Methods: []string{"GET"}, Reason: "INC-9 tenant globex", Routes: []route.Route{{Host: "*.apps.example"}, bound, {Host: "secret.apps.example"}},
		}}}
		text, err := json.Marshal(display.ForOwner(rule, bound).Grant)
		require.NoError(t, err)
		require.JSONEq(t, c.want, string(text))
		require.Len(t, rule.Terms.Routes, 3, "the rule is as it was")
		rule.Terms.Routes = rule.Terms.Routes[:2]
		require.Equal(t, rule, display.ForOwner(rule, bound), "it concerns nobody else")
	}
}

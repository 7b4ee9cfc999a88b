package recording_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/parameters"
	"github.com/mtls-authz/mtls-authz/grants/route"
	"github.com/mtls-authz/mtls-authz/rego"
	"github.com/mtls-authz/mtls-authz/rego/recording"
)

// Two routes of one service instance, made as store/view makes them.
func TestRoutesOfOneInstanceAreRecordedApart(t *testing.T) {
	policy := compiled(t, nil)
	given, err := parameters.ParseInstance([]byte(`{"allow":["cf:any"]}`))
	require.NoError(t, err)
	common := grants.NewCommon(given.Allow)
	bound := func(host string) *grants.Access {
		at, err := route.Parse(host)
		require.NoError(t, err)
		return parameters.NewAccess(parameters.Bound{
			Binding: "b-" + host, Route: at, Plan: grants.ScopeOrg, Revision: 7,
			Instance: given, Common: common, Owner: grants.Owner{Instance: "si-1", Space: guid(shop), Org: guid(acme)},
		})
	}
	one, two := bound("one.apps.identity"), bound("two.apps.identity")
	r := recording.New(recording.Config{})
	r.Observe("1", request(policy, one, "GET /"), rego.Decision{})
	r.Observe("2", request(policy, two, "DELETE /"), rego.Decision{})
	var out bytes.Buffer
	require.NoError(t, r.Write(&out, recording.Filter{}))
	t.Log(out.String())
	assert.Equal(t, "1", ids(r, recording.Filter{Binding: "b-one.apps.identity"}))
	assert.Equal(t, "2", ids(r, recording.Filter{Binding: "b-two.apps.identity"}))
	assert.Contains(t, out.String(), `"route":"two.apps.identity"`)
}

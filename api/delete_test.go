package api_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/store"
)

func TestDeletingABindingTakesItOutOfForceAndIsRemembered(t *testing.T) {
	b := populated(t)
	r := b.do("DELETE", "/v1/bindings/b2", header("X-Vcap-Request-Id", "vcap-2"))
	require.Equal(t, 204, r.StatusCode)
	require.Empty(t, r.body)
	assert.Nil(t, b.store.View().Access("b2"), "the route is refused from now on")
	assert.NotNil(t, b.store.View().Access("b3"), "the other binding of the route")
	b.do("GET", "/v1/bindings/b2").expect(t, 404, `there is no binding "b2"`)
	b.do("DELETE", "/v1/bindings/b2").expect(t, 404, `there is no binding "b2"`)

	list, _, err := b.store.Audit(ctx, store.AuditFilter{IDs: []string{"b2"}, Actions: []string{"delete"}}, store.Page{})
	require.NoError(t, err)
	require.NotEmpty(t, list)
	assert.Equal(t, "operator:broker vcap-2 i2", list[0].By+" "+list[0].RequestID+" "+list[0].InstanceID)
	assert.JSONEq(t, `{"route":"two.apps.example/api","parameters":{}}`, string(list[0].Before))

	_, _, err = b.store.CreateBinding(ctx, developer("late"), store.Binding{ID: "b2", InstanceID: "i2", URL: "https://x"})
	assert.ErrorIs(t, err, store.ErrDeleted, "a tombstone")
}

func TestDeletingAnInstanceDeletesItsBindings(t *testing.T) {
	b := populated(t)
	require.Equal(t, 204, b.do("DELETE", "/v1/instances/i2").StatusCode)
	assert.Equal(t, []string{"b1"}, b.list("/v1/bindings").guids())
	assert.Equal(t, []string{"i1", "i4"}, b.list("/v1/instances").guids())
	assert.Nil(t, b.store.View().Access("b2"))
	assert.Nil(t, b.store.View().Access("b3"))
	p := b.list("/v1/audit?service_instance_guids=i2&actions=delete")
	assert.Equal(t, []string{"i2", "b3", "b2"}, p.guids())
	for _, entry := range p.Resources {
		assert.Equal(t, "operator:broker", *entry.By)
	}
	b.do("DELETE", "/v1/instances/i2").expect(t, 404, "there is no service instance")
}

// The id of an instance is not the id of a binding.
func TestDeletesTakeNoIDOfAnotherKind(t *testing.T) {
	b := populated(t)
	b.do("DELETE", "/v1/bindings/i1").expect(t, 404, "binding")
	b.do("DELETE", "/v1/instances/b1").expect(t, 404, "service instance")
	assert.NotNil(t, b.store.View().Access("b1"))
	p := b.list("/v1/audit?per_page=2")
	assert.Equal(t, []string{"b1", "i1"}, p.guids(), "the attempts are in the audit")
	assert.Nil(t, p.Resources[1].Instance)
}

// Damaged rows admit nobody already; they must not hide the others, and an
// operator must be able to get rid of them.
func TestDamagedRowsAreNamedAndCanBeDeleted(t *testing.T) {
	for statement, damaged := range map[string]struct{ path, id string }{
		`UPDATE bindings SET route = '10.0.0.1' WHERE id = 'b1'`:                {"/v1/bindings", "b1"},
		`UPDATE bindings SET parameters = '{"allow":["cf:x"]}' WHERE id = 'b1'`: {"/v1/bindings", "b1"},
		`UPDATE instances SET plan_scope = 'galaxy' WHERE id = 'i1'`:            {"/v1/instances", "i1"},
		`UPDATE instances SET parameters = '[' WHERE id = 'i1'`:                 {"/v1/instances", "i1"},
		`UPDATE instances SET space = '' WHERE id = 'i1'`:                       {"/v1/instances", "i1"},
	} {
		t.Run(statement, func(t *testing.T) {
			b := populated(t)
			b.sql(statement)
			p := b.list(damaged.path)
			assert.Len(t, p.Resources, 2)
			assert.NotContains(t, p.guids(), damaged.id)
			require.Len(t, p.Warnings, 1)
			assert.Contains(t, p.Warnings[0], `"`+damaged.id+`"`)
			assert.Contains(t, p.Warnings[0], "admits nobody")
			assert.Equal(t, 3, p.Pagination.TotalResults)
			b.do("GET", damaged.path+"/"+damaged.id).expect(t, 500, "damaged")
			bindings := b.list("/v1/bindings")
			assert.Equal(t, []string{"b2", "b3"}, bindings.guids())
			assert.Len(t, bindings.Warnings, 1)
			require.Equal(t, 204, b.do("DELETE", damaged.path+"/"+damaged.id).StatusCode)
			assert.Empty(t, b.list(damaged.path).Warnings)
		})
	}
}

func TestDamagedAuditIsShownAsFarAsItGoes(t *testing.T) {
	b := populated(t)
	b.sql(`UPDATE audit SET content_before = '{"half' WHERE id = 'i3' AND action = 'delete'`)
	p := b.list("/v1/audit?guids=i3")
	assert.Len(t, p.Resources, 2)
}

func TestWithoutTheDatabaseEverythingIsUnavailable(t *testing.T) {
	b := world(t)
	require.NoError(t, b.store.Close())
	for _, path := range everyPath {
		r := b.do("GET", path).expect(t, 503, "the state store is not available")
		assert.NotEmpty(t, r.Header.Get("Retry-After"))
		assert.NotContains(t, r.body, "sql")
	}
	for _, path := range []string{"/v1/instances/i", "/v1/bindings/b"} {
		assert.NotEmpty(t, b.do("DELETE", path).expect(t, 503, "not available").Header.Get("Retry-After"))
	}
	assert.Contains(t, b.log.String(), "closed", "the operator's log says why")
	assert.NotNil(t, b.store.View().Access("b"))
}

func TestAPanicIsAnErrorAndNeverHalfAnAnswer(t *testing.T) {
	b := world(t)
	b.cfg.Access = func(string) *grants.Access { panic("on purpose") }
	b.server.Close()
	b.serve()
	r := b.do("GET", "/v1/bindings/b").expect(t, 500, "internal error of the gateway")
	assert.NotContains(t, r.body, "on purpose")
	_, err := b.try("GET", "/v1/bindings")
	require.Error(t, err, "the list is cut, and does not look whole")
	assert.Contains(t, b.log.String(), "on purpose")
	require.Equal(t, 200, b.do("GET", "/v1/instances").StatusCode)
}

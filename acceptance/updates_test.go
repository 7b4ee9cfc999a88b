package acceptance_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground"
	"github.com/mtls-authz/mtls-authz/playground/controller"
)

// Each step is in force on the very next request.
func TestAnUpdateIsInForceOnTheNextRequest(t *testing.T) {
	t.Parallel()
	p := common(t).protect(t, protection{parameters: `{"allow":["cf:app:$frontend"],"labels":{"team":"a"}}`})
	expect := func(frontend, monitoring string) {
		t.Helper()
		p.call(t, "frontend", "GET", "/").expect(t, frontend)
		p.call(t, "monitoring", "GET", "/").expect(t, monitoring)
	}
	expect("200 allowed", noMatch)
	for _, step := range []struct{ parameters, frontend, monitoring string }{
		{`{}`, "200 allowed", noMatch}, // a rename
		{`{"allow_add":["cf:app:$monitoring"]}`, "200 allowed", "200 allowed"},
		{`{"allow_add":["cf:app:$monitoring"]}`, "200 allowed", "200 allowed"}, // again: nothing
		{`{"allow_remove":["cf:app:$frontend"]}`, noMatch, "200 allowed"},
		{`{"allow_remove":["cf:app:$frontend"]}`, noMatch, "200 allowed"},
		{`{"allow_remove":["cf:app:$monitoring"],"allow_add":["cf:app:$frontend"]}`, "200 allowed", noMatch},
		{`{"allow":["cf:app:$monitoring"]}`, noMatch, "200 allowed"}, // lists replace
		{`{"labels":{"team":null}}`, noMatch, "200 allowed"},
		{`{"scope":"space"}`, "403 no_matching_grant", "403 scope"},
		{`{"scope":null}`, noMatch, "200 allowed"},
		{`{"mtls_allowed_apps":"$frontend"}`, "200 allowed", noMatch},
		{`{"allow":null}`, "403 no_grants", "403 no_grants"},
		{`{"allow_add":[{"source":"cf:space:$shop","methods":["POST"]}]}`, noMatch, noMatch},
		{`{"allow_remove":["cf:space:$shop"]}`, "403 no_grants", "403 no_grants"},
	} {
		p.update(t, step.parameters)
		expect(step.frontend, step.monitoring)
		if t.Failed() {
			t.Fatal("after", step.parameters)
		}
	}
}

func TestARefusedUpdateChangesNothing(t *testing.T) {
	t.Parallel()
	p := common(t).protect(t, protection{parameters: `{"allow":["cf:app:$frontend"]}`})
	err := p.UpdateService(t.Context(), p.service, names.Replace(`{"allow_remove":["cf:app:$frontend"],"allow_add":["cf:app:nonsense"]}`))
	assert.ErrorContains(t, err, "allow_add[0]")
	p.call(t, "frontend", "GET", "/").expect(t, "200 allowed")
}

func TestAPlanChangeMovesTheScope(t *testing.T) {
	t.Parallel()
	w := common(t)
	p := w.protect(t, protection{plan: "space", parameters: `{"allow":["cf:any"]}`})
	p.call(t, "intruder", "GET", "/").expect(t, "403 scope")
	wider, err := w.Service(t.Context(), "any", "any", playground.Backend)
	require.NoError(t, err)
	answer, err := w.Controller.UpdateService(t.Context(), p.service, controller.Change{PlanID: wider.PlanID})
	require.NoError(t, err)
	require.Equal(t, controller.Succeeded, answer.Outcome(), answer.Description())
	p.call(t, "intruder", "GET", "/").expect(t, "200 allowed")
}

func TestAPlanNarrowerThanTheGivenScopeIsRefused(t *testing.T) {
	t.Parallel()
	w := common(t)
	p := w.protect(t, protection{plan: "any", parameters: `{"allow":["cf:any"],"scope":"any"}`})
	narrower, err := w.Service(t.Context(), "space", "space", playground.Backend)
	require.NoError(t, err)
	answer, err := w.Controller.UpdateService(t.Context(), p.service, controller.Change{PlanID: narrower.PlanID})
	require.NoError(t, err)
	assert.Equal(t, controller.Rejected, answer.Outcome())
	assert.Contains(t, answer.Description(), "scope")
	p.call(t, "intruder", "GET", "/").expect(t, "200 allowed")
}

func TestADeletedInstanceTakesItsBindingsAlong(t *testing.T) {
	t.Parallel()
	w := common(t)
	p := w.protect(t, protection{parameters: `{"allow":["cf:any"]}`})
	answer, err := w.Controller.DeleteService(t.Context(), p.service)
	require.NoError(t, err)
	require.Equal(t, controller.Succeeded, answer.Outcome())
	p.call(t, "frontend", "GET", "/").expect(t, "403 unknown_binding")
}

func TestARestartKeepsEverything(t *testing.T) {
	t.Parallel()
	w := start(t, setup{})
	parameters := `{"allow":["cf:app:$frontend",{"source":"cf:app:$monitoring","methods":["GET"],"paths":["/m"]}],"labels":{"team":"a"}}`
	p := w.protect(t, protection{parameters: parameters, binding: `{"allow":["cf:app:$backend"]}`})
	gone := w.protect(t, protection{parameters: `{"allow":["cf:any"]}`})
	require.NoError(t, w.UnbindRoute(t.Context(), gone.bound))
	before := fetch(t, w, p)
	w.restart(t)
	assert.JSONEq(t, before, fetch(t, w, p))
	p.call(t, "frontend", "DELETE", "/x").expect(t, "200 allowed")
	p.call(t, "backend", "GET", "/x").expect(t, "200 allowed")
	p.call(t, "monitoring", "GET", "/m").expect(t, "200 allowed")
	p.call(t, "monitoring", "GET", "/x").expect(t, noMatch)
	p.call(t, "intruder", "GET", "/x").expect(t, "403 scope")
	gone.direct(t, leg2{caller: "frontend"}).expect(t, "403 unknown_binding")
	assert.Equal(t, p.url, bind(t, w, p.service, p.route, `{"allow":["cf:app:$backend"]}`), "the same url again")
}

// fetch is what the broker says of an instance.
func fetch(t *testing.T, w *world, p *protected) string {
	t.Helper()
	answer, err := w.Controller.FetchService(t.Context(), p.service)
	require.NoError(t, err)
	require.Equal(t, controller.Succeeded, answer.Outcome())
	var instance struct{ Parameters json.RawMessage }
	require.NoError(t, answer.JSON(&instance))
	return string(instance.Parameters)
}

// bind asks the broker alone and returns the route service URL.
func bind(t *testing.T, w *world, service controller.Service, route, parameters string) string {
	t.Helper()
	binding := controller.Binding{GUID: playground.GUID("binding " + service.Name + " " + route), Route: route, Service: service}
	answer, err := w.Controller.BindRoute(t.Context(), binding, json.RawMessage(names.Replace(parameters)))
	require.NoError(t, err)
	require.Equal(t, controller.Succeeded, answer.Outcome(), answer.Description())
	var bound struct {
		URL string `json:"route_service_url"`
	}
	require.NoError(t, answer.JSON(&bound))
	return bound.URL
}

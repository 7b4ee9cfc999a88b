package acceptance_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground"
	"github.com/mtls-authz/mtls-authz/playground/controller"
)

// Each is a 400 whose description names what is wrong; cf shows it to the
// developer.
func TestBadParametersAreRefusedByName(t *testing.T) {
	t.Parallel()
	w := common(t)
	p := w.protect(t, protection{plan: "org", parameters: `{"allow":["cf:app:$frontend"]}`})
	before := fetch(t, w, p)
	for _, test := range []struct{ parameters, say string }{
		{`{"alow":[]}`, `"alow"`},
		{`{"Allow":[]}`, `"Allow"`},
		{`{"allow":"cf:any"}`, `"allow"`},
		{`{"allow":["cf:app:nonsense"]}`, "allow[0]"},
		{`{"allow":["cf:app:$frontend","cf:app:D76446A1-F429-4444-8797-BE2F78B75B08"]}`, "allow[1]"},
		{`{"allow":["app:$frontend"]}`, "that is a guid; write cf:app:"},
		{`{"allow":["app:frontend"]}`, "CF_CLIENT_ID"},
		{`{"allow":["spiffe://x"]}`, "reserved"},
		{`{"allow":["frontend"]}`, `"frontend"`},
		{`{"allow":["cf:app:$frontend","cf:app:$frontend"]}`, "twice"},
		{`{"allow":["cf:app:$frontend",{"source":"cf:app:$frontend","methods":["GET"]}]}`, "allow[1]"},
		{`{"allow":["cf:any","cf:app:$frontend"]}`, "cf:any"},
		{`{"allow":[{"source":"cf:any","methods":[]}]}`, "methods is empty"},
		{`{"allow":[{"source":"cf:any","paths":[]}]}`, "paths is empty"},
		{`{"allow":[{"source":"cf:any","routes":[]}]}`, "routes is empty"},
		{`{"allow":[{"source":"cf:any","methods":["get"]}]}`, `"get"`},
		{`{"allow":[{"source":"cf:any","methods":["TRACE"]}]}`, `"TRACE"`},
		{`{"allow":[{"source":"cf:any","paths":["api"]}]}`, `"api"`},
		{`{"allow":[{"source":"cf:any","paths":["/**/x"]}]}`, "**"},
		{`{"allow":[{"source":"cf:any","paths":["/a%20b"]}]}`, "decoded"},
		{`{"allow":[{"source":"cf:any","routes":["HOST.apps.identity"]}]}`, "lower case"},
		{`{"allow":[{"source":"cf:any","expires":"2001-01-01T00:00:00Z"}]}`, "past"},
		{`{"allow":[{"source":"cf:any","expires":"tomorrow"}]}`, `"tomorrow"`},
		{`{"allow":[{"source":"cf:any","until":"x"}]}`, `"until"`},
		{`{"allow":[{"methods":["GET"]}]}`, "allow[0]"},
		{`{"allow":[null]}`, "allow[0]"},
		{`{"allow":[7]}`, "allow[0]"},
		{`{"scope":"any"}`, "wider"},
		{`{"scope":"galaxy"}`, `"galaxy"`},
		{`{"mode":"off"}`, `"off"`},
		{`{"report_routes":["https://x/"]}`, "report_routes"},
		{`{"assert":"yes"}`, `"assert"`},
		{`{"labels":{"a b":"c"}}`, `"a b"`},
		{`{"mtls_allowed_apps":"nonsense"}`, "mtls_allowed_apps"},
		{`{"mtls_allow_any":true,"mtls_allowed_apps":"$frontend"}`, "mtls_allow_any"},
		{`{"mtls_allowed_apps":"$frontend","allow":[]}`, "allow"},
	} {
		raw := json.RawMessage(names.Replace(test.parameters))
		service := p.service
		service.GUID = playground.GUID(t.Name() + test.parameters)
		answer, err := w.Controller.CreateService(t.Context(), service, raw)
		require.NoError(t, err)
		assert.Equal(t, 400, answer.Status, "create with %s", raw)
		assert.Contains(t, answer.Description(), test.say)
		answer, err = w.Controller.UpdateService(t.Context(), p.service, controller.Change{Parameters: raw})
		require.NoError(t, err)
		assert.Equal(t, 400, answer.Status, "update with %s", raw)
		assert.Contains(t, answer.Description(), test.say)
	}
	assert.JSONEq(t, before, fetch(t, w, p), "and nothing is changed")
}

func TestABindingTakesOnlyWhatCanStandForever(t *testing.T) {
	t.Parallel()
	w := common(t)
	p := w.protect(t, protection{plan: "org"})
	for parameters, say := range map[string]string{
		`{"mode":"report"}`: `"mode"`, `{"report_routes":[]}`: `"report_routes"`, `{"assert":true}`: `"assert"`, `{"scope":"any"}`: "wider",
		`{"allow_add":["cf:any"]}`: "allow_add", `{"allow":["x"]}`: "allow[0]",
	} {
		binding := controller.Binding{GUID: playground.GUID(t.Name() + parameters), Route: w.freshHost(), Service: p.service}
		answer, err := w.Controller.BindRoute(t.Context(), binding, json.RawMessage(parameters))
		require.NoError(t, err)
		assert.Equal(t, 400, answer.Status, parameters)
		assert.Contains(t, answer.Description(), say)
	}
}

// Cloud Controller sends {} on every rename.
func TestAnEmptyUpdateChangesNothing(t *testing.T) {
	t.Parallel()
	w := common(t)
	p := w.protect(t, protection{parameters: `{"allow":["cf:app:$frontend"],"mode":"report","labels":{"team":"a"}}`})
	before := fetch(t, w, p)
	answer, err := w.Controller.UpdateService(t.Context(), p.service, controller.Change{Name: "another-name"})
	require.NoError(t, err)
	require.Equal(t, controller.Succeeded, answer.Outcome())
	assert.JSONEq(t, before, fetch(t, w, p))
}

func TestUnknownInstancesAndBindings(t *testing.T) {
	t.Parallel()
	w := common(t)
	service, err := w.Service(t.Context(), "never created", "org", playground.Backend)
	require.NoError(t, err)
	binding := controller.Binding{GUID: playground.GUID(t.Name()), Route: "x.apps.identity", Service: service}
	check := func(want int) func(*controller.Answer, error) {
		return func(answer *controller.Answer, err error) {
			t.Helper()
			require.NoError(t, err)
			assert.Equal(t, want, answer.Status, string(answer.Body))
		}
	}
	ctx := t.Context()
	check(404)(w.Controller.FetchService(ctx, service))
	check(404)(w.Controller.FetchBinding(ctx, binding))
	check(404)(w.Controller.BindRoute(ctx, binding, nil))
	check(410)(w.Controller.UnbindRoute(ctx, binding))
	check(410)(w.Controller.DeleteRoute(ctx, binding))
	check(410)(w.Controller.DeleteService(ctx, service))
}

func TestTheSameIdWithOtherContentIsAConflict(t *testing.T) {
	t.Parallel()
	w := common(t)
	p := w.protect(t, protection{parameters: `{"allow":["cf:any"]}`})
	answer, err := w.Controller.CreateService(t.Context(), p.service, json.RawMessage(`{"allow":["cf:any"]}`))
	require.NoError(t, err)
	assert.Equal(t, 200, answer.Status, "the same again")
	answer, err = w.Controller.CreateService(t.Context(), p.service, nil)
	require.NoError(t, err)
	assert.Equal(t, 409, answer.Status)
	elsewhere := p.bound
	elsewhere.Route = w.freshHost()
	answer, err = w.Controller.BindRoute(t.Context(), elsewhere, nil)
	require.NoError(t, err)
	assert.Equal(t, 409, answer.Status)
}

package acceptance_test

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground"
	"github.com/mtls-authz/mtls-authz/playground/controller"
)

// ask asks the API of a world with the operator's credentials.
func (w *world) ask(t *testing.T, method, path string, status int) map[string]any {
	t.Helper()
	w.journal.mu.Lock()
	secrets := w.secrets
	w.journal.mu.Unlock()
	res, got := v1(t, method, w.Controller.URL+path, secrets, func(r *http.Request) {
		r.SetBasicAuth(w.Controller.Username, w.Controller.Password)
		r.Header.Set("X-Vcap-Request-Id", "request of "+t.Name())
	})
	require.Equal(t, status, res.StatusCode, got)
	return got
}

// found are the resources of a list.
func (w *world) found(t *testing.T, path string) []map[string]any {
	t.Helper()
	var list []map[string]any
	for _, one := range w.ask(t, "GET", path, 200)["resources"].([]any) {
		list = append(list, one.(map[string]any))
	}
	return list
}

func only(t *testing.T, list []map[string]any) map[string]any {
	t.Helper()
	require.Len(t, list, 1)
	return list[0]
}

func TestTheAPIShowsWhoMayCallARouteAndWhoSaidSo(t *testing.T) {
	t.Parallel()
	w := policed(t)
	p := w.protect(t, protection{plan: "any", parameters: `{"scope":"org","allow":["cf:app:$frontend"]}`, binding: `{"allow":["cf:space:$observability"],"labels":{"tier":"1"}}`})
	instance := only(t, w.found(t, "/v1/instances?guids="+p.service.GUID))
	owner := playground.Backend.Identity()
	for name, want := range map[string]any{
		"guid": p.service.GUID, "plan": "any", "scope": "org", "mode": "enforce", "organization_guid": owner.Org, "space_guid": owner.Space,
		"created_by": w.Controller.User, "updated_by": w.Controller.User,
	} {
		assert.Equal(t, want, instance[name], name)
	}
	assert.Equal(t, instance, w.ask(t, "GET", "/v1/instances/"+p.service.GUID, 200))
	binding := only(t, w.found(t, "/v1/bindings?routes="+url.QueryEscape(p.route)))
	for name, want := range map[string]any{
		"guid": p.bound.GUID, "route": p.route, "plan": "any", "scope": "org", "mode": "enforce", "service_instance_guid": p.service.GUID,
		"organization_guid": owner.Org, "space_guid": owner.Space, "created_by": w.Controller.User, "last_used_at": nil, "warnings": []any{},
		"labels": map[string]any{"tier": "1"},
	} {
		assert.Equal(t, want, binding[name], name)
	}
	origins := map[string]string{}
	for _, one := range binding["grants"].([]any) {
		grant := one.(map[string]any)
		origins[grant["source"].(string)] = grant["origin"].(string)
	}
	assert.Equal(t, "instance", origins[names.Replace("cf:app:$frontend")])
	assert.Equal(t, "binding", origins[names.Replace("cf:space:$observability")])
	assert.Equal(t, binding, w.ask(t, "GET", "/v1/bindings/"+p.bound.GUID, 200))
	for _, entry := range w.found(t, "/v1/audit?service_instance_guids="+p.service.GUID) {
		assert.Equal(t, []any{"create", w.Controller.User}, []any{entry["action"], entry["by"]})
		assert.NotEmpty(t, entry["request_id"])
		assert.NotEmpty(t, entry["request_identity"])
		assert.NotNil(t, entry["after"])
	}
}

// A binding that was deleted here and is still in Cloud Controller must not
// open its route.
func TestAnOperatorsDeleteClosesTheRouteAndIsAudited(t *testing.T) {
	t.Parallel()
	w := common(t)
	p := w.protect(t, protection{parameters: `{"allow":["cf:app:$frontend"]}`})
	p.call(t, "frontend", "GET", "/").expect(t, "200 allowed")
	w.ask(t, "DELETE", "/v1/bindings/"+p.bound.GUID, 204)
	p.call(t, "frontend", "GET", "/").expect(t, "403 unknown_binding")
	w.ask(t, "GET", "/v1/bindings/"+p.bound.GUID, 404)
	w.ask(t, "DELETE", "/v1/bindings/"+p.bound.GUID, 404)

	entry := only(t, w.found(t, "/v1/audit?actions=delete&kinds=binding&users=operator:"+w.Controller.Username+"&created_ats[gte]=2020-01-01T00:00:00Z&guids="+p.bound.GUID+"&order_by=created_at&per_page=1"))
	assert.Equal(t, []any{p.service.GUID, "request of " + t.Name(), nil}, []any{entry["service_instance_guid"], entry["request_id"], entry["after"]})
	assert.Equal(t, p.route, entry["before"].(map[string]any)["route"])

	// Later Cloud Controller unbinds, as if nothing had been, and binds anew.
	answer, err := w.Controller.UnbindRoute(t.Context(), p.bound)
	require.NoError(t, err)
	assert.Equal(t, controller.Succeeded, answer.Outcome())
	_, _, err = w.BindRoute(t.Context(), p.service, p.route, "")
	require.Error(t, err, "the id is not taken again for an hour")
	assert.Equal(t, p.route, bindAs(t, w, p, "anew").Route)
	p.call(t, "frontend", "GET", "/").expect(t, "200 allowed")
}

// bindAs binds the route of p under another id, as after a bind that failed,
// and tells the router.
func bindAs(t *testing.T, w *world, p *protected, name string) controller.Binding {
	t.Helper()
	second := controller.Binding{GUID: playground.GUID(t.Name() + name), Route: p.route, Service: p.service}
	answer, err := w.Controller.BindRoute(t.Context(), second, nil)
	require.NoError(t, err)
	require.Equal(t, 201, answer.Status)
	var body struct {
		URL string `json:"route_service_url"`
	}
	require.NoError(t, answer.JSON(&body))
	w.addSecrets(body.URL[len(body.URL)-22:])
	require.NoError(t, w.Router.Bind(p.route, body.URL))
	return second
}

// A bind that timed out at Cloud Controller leaves a second binding, if the
// delete that should follow gets lost.
func TestASecondBindingOfARouteIsShownAndCanBeRemoved(t *testing.T) {
	t.Parallel()
	w := common(t)
	p := w.protect(t, protection{parameters: `{"allow":["cf:app:$frontend"]}`})
	second := bindAs(t, w, p, "second")
	bindings := w.found(t, "/v1/bindings?hosts="+p.host)
	require.Len(t, bindings, 2)
	for n, other := range []string{second.GUID, p.bound.GUID} {
		assert.Equal(t, []any{"other bindings have the same route: " + other}, bindings[n]["warnings"])
	}
	w.ask(t, "DELETE", "/v1/bindings/"+p.bound.GUID, 204)
	assert.Equal(t, []any{}, only(t, w.found(t, "/v1/bindings?hosts="+p.host))["warnings"])
	p.call(t, "frontend", "GET", "/").expect(t, "200 allowed")
}

// cf purge-service-instance never tells the broker.
func TestWhatAPurgeLeavesIsFoundAndRemoved(t *testing.T) {
	t.Parallel()
	w := common(t)
	p := w.protect(t, protection{parameters: `{"allow":["cf:app:$frontend"]}`})
	later := url.QueryEscape(time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	assert.Equal(t, p.bound.GUID, only(t, w.found(t, "/v1/bindings?unused_since="+later+"&service_instance_guids="+p.service.GUID))["guid"])
	w.ask(t, "DELETE", "/v1/instances/"+p.service.GUID, 204)
	assert.Empty(t, w.found(t, "/v1/instances?guids="+p.service.GUID))
	assert.Empty(t, w.found(t, "/v1/bindings?service_instance_guids="+p.service.GUID))
	var deleted []any
	for _, entry := range w.found(t, "/v1/audit?actions=delete&service_instance_guids="+p.service.GUID) {
		deleted = append(deleted, entry["guid"])
		assert.Equal(t, "operator:"+w.Controller.Username, entry["by"])
	}
	assert.Equal(t, []any{p.service.GUID, p.bound.GUID}, deleted)
	p.call(t, "frontend", "GET", "/").expect(t, "403 unknown_binding")
}

func TestABrowsersRequestDeletesNothing(t *testing.T) {
	t.Parallel()
	w := common(t)
	p := w.protect(t, protection{parameters: `{"allow":["cf:app:$frontend"]}`})
	for name, value := range map[string]string{"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"} {
		res, _ := v1(t, "DELETE", w.Controller.URL+"/v1/bindings/"+p.bound.GUID, nil, func(r *http.Request) {
			r.SetBasicAuth(w.Controller.Username, w.Controller.Password)
			r.Header.Set(name, value)
		})
		assert.Equal(t, 403, res.StatusCode, name)
	}
	p.call(t, "frontend", "GET", "/").expect(t, "200 allowed")
}

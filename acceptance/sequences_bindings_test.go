package acceptance_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground"
	"github.com/mtls-authz/mtls-authz/playground/controller"
	"github.com/mtls-authz/mtls-authz/playground/controller/faults"
)

func TestSequencesOfBindings(t *testing.T) {
	t.Parallel()
	onBoth(t, sequences{
		"S7 a bound route has an https URL of at most 255 characters, and is enforced":            bindRoute,
		"S8 a binding shows the same URL and its parameters, and never null":                      fetchBinding,
		"S9 the same bind again is 200 with the same URL, and with other content 409":             bindAgain,
		"S10 a bind that is refused leaves nothing, and nothing to delete":                        bindRefused,
		"S11 apps and service keys are refused with 400, and nothing is left":                     bindOthers,
		"S11 routes of every spelling are bound as the router matches them":                       routeSpellings,
		"S16 delete-route unbinds without accepts_incomplete":                                     deleteRoute,
		"S22 what is changed is in force at once here and soon elsewhere, through the router too": inForce,
	})
}

func bindRoute(c *cloud) {
	s := c.created(onlyFrontend)
	b := c.binding(s)
	answer := c.is(201)(c.BindRoute(c.t.Context(), b, nil))
	made := c.urlOf(b, answer)
	assert.LessOrEqual(c.t, len(made.url), 255)
	assert.JSONEq(c.t, `{"route_service_url":"`+made.url+`"}`, string(answer.Body), "and nothing else")
	c.reachesNow(made, allowed, noMatch)
	c.has(s, made)
}

func fetchBinding(c *cloud) {
	s := c.created(onlyFrontend)
	plain, own := c.bound(s, ""), c.bound(s, onlyMonitoring)
	for range c.servers {
		answer := c.is(200)(c.FetchBinding(c.t.Context(), plain.Binding))
		assert.JSONEq(c.t, `{"route_service_url":"`+plain.url+`"}`, string(answer.Body))
		answer = c.is(200)(c.FetchBinding(c.t.Context(), own.Binding))
		assert.JSONEq(c.t, `{"route_service_url":"`+own.url+`","parameters":`+string(given(onlyMonitoring))+`}`, string(answer.Body))
	}
	c.reachesNow(own, allowed, allowed)
	c.reachesNow(plain, allowed, noMatch)
	// Of another instance, the id is unknown.
	elsewhere := own.Binding
	elsewhere.Service = c.created("")
	c.is(404)(c.FetchBinding(c.t.Context(), elsewhere))
	c.is(410)(c.UnbindRoute(c.t.Context(), elsewhere))
	c.reachesNow(own, allowed, allowed)
}

func bindAgain(c *cloud) {
	ctx, s := c.t.Context(), c.created(onlyFrontend)
	b := c.bound(s, onlyMonitoring)
	before := c.seen(s, b)
	for range 3 {
		assert.Equal(c.t, b, c.urlOf(b.Binding, c.is(200)(c.BindRoute(ctx, b.Binding, given(onlyMonitoring)))))
	}
	louder := b.Binding
	louder.Route = strings.ToUpper(b.Route)
	c.is(200)(c.BindRoute(ctx, louder, given(onlyMonitoring)))
	conflict := func(what string, other controller.Binding, parameters string) {
		c.t.Helper()
		assert.Contains(c.t, c.is(409)(c.BindRoute(ctx, other, given(parameters))).Description(), b.GUID, what)
	}
	other := c.created(onlyFrontend)
	for what, edit := range map[string]func(*controller.Binding){
		"route":    func(b *controller.Binding) { b.Route = c.binding(s).Route },
		"path":     func(b *controller.Binding) { b.Route += "/path" },
		"plan":     func(b *controller.Binding) { b.Service.PlanID = planAny },
		"instance": func(b *controller.Binding) { b.Service = other },
	} {
		changed := b.Binding
		edit(&changed)
		conflict(what, changed, onlyMonitoring)
	}
	conflict("no parameters", b.Binding, "")
	conflict("other parameters", b.Binding, onlyFrontend)
	assert.Equal(c.t, before, c.seen(s, b))
	c.reachesNow(b, allowed, allowed)
	c.has(other)
	// Another id for the same route is no conflict: a failed bind may be why.
	second := b.Binding
	second.GUID = uuid.NewString()
	made := c.urlOf(second, c.is(201)(c.BindRoute(ctx, second, nil)))
	c.reachesNow(made, allowed, noMatch)
	c.reachesNow(b, allowed, allowed)
}

func bindRefused(c *cloud) {
	ctx, s := c.t.Context(), c.created(onlyFrontend)
	before := c.seen(s)
	refuse := func(what string, status int, b controller.Binding, parameters string, met ...faults.Fault) {
		c.t.Helper()
		c.network.Next(met...)
		answer, err := c.BindRoute(ctx, b, given(parameters))
		require.NoError(c.t, err)
		require.Equal(c.t, status, answer.Status, "%s: %s", what, answer.Body)
		c.sane(answer)
		assert.Empty(c.t, c.Jobs(), what)
		b.Service = s
		c.goneBinding(b) // the DELETE that precedes another try is answered, too
	}
	for _, parameters := range []string{`{"can-not":1}`, `{"allow":7}`, `{"allow":["nonsense"]}`, `{"mode":"report"}`, `{"scope":"any"}`} {
		refuse(parameters, 400, c.binding(s), parameters)
	}
	unknown := c.binding(c.service())
	refuse("unknown instance", 404, unknown, "")
	for what, edit := range map[string]func(*controller.Binding){
		"unknown service": func(b *controller.Binding) { b.Service.OfferingID = uuid.NewString() },
		"unknown plan":    func(b *controller.Binding) { b.Service.PlanID = uuid.NewString() },
		"no plan":         func(b *controller.Binding) { b.Service.PlanID = "" },
		"no service":      func(b *controller.Binding) { b.Service.OfferingID = "" },
		"another plan":    func(b *controller.Binding) { b.Service.PlanID = planSpace },
		"no route":        func(b *controller.Binding) { b.Route = "" },
	} {
		b := c.binding(s)
		edit(&b)
		refuse(what, 400, b, "")
	}
	for _, body := range []string{"", "{", "[]", "null", "{}", `{"service_id":"` + offering + `"} trailing`} {
		refuse(body, 400, c.binding(s), "", faults.WithBody(body))
	}
	refuse("rotation", 400, c.binding(s), "", c.editBody(func(body map[string]any) { body["predecessor_binding_id"] = uuid.NewString() }))
	refuse("a list of parameters", 400, c.binding(s), "", c.editBody(func(body map[string]any) { body["parameters"] = []string{} }))
	assert.Equal(c.t, before, c.seen(s))
}

func bindOthers(c *cloud) {
	ctx, s := c.t.Context(), c.created(onlyFrontend)
	credential := func(edit func(map[string]any)) faults.Fault {
		return c.editBody(func(body map[string]any) { edit(body["bind_resource"].(map[string]any)) })
	}
	for what, f := range map[string]func(b controller.Binding) (*controller.Answer, error){
		"bind-service": func(b controller.Binding) (*controller.Answer, error) {
			return c.BindApp(ctx, b, playground.Backend.Identity().App)
		},
		"create-service-key": func(b controller.Binding) (*controller.Answer, error) { return c.CreateKey(ctx, b) },
		"a CredHub key": func(b controller.Binding) (*controller.Answer, error) {
			c.network.Next(credential(func(resource map[string]any) { resource["credential_client_id"] = "client" }))
			return c.CreateKey(ctx, b)
		},
		"no bind_resource": func(b controller.Binding) (*controller.Answer, error) {
			c.network.Next(c.editBody(func(body map[string]any) { delete(body, "bind_resource") }))
			return c.CreateKey(ctx, b)
		},
		"an app with a route": func(b controller.Binding) (*controller.Answer, error) {
			c.network.Next(credential(func(resource map[string]any) { resource["route"] = b.Route }))
			return c.BindApp(ctx, b, playground.Backend.Identity().App)
		},
	} {
		b := c.binding(s)
		answer := c.is(400)(f(b))
		assert.Contains(c.t, answer.Description(), "bind-route-service", what)
		c.goneBinding(b)
	}
	c.has(s)
}

// routeSpellings: the router matches lower-cased, path included.
func routeSpellings(c *cloud) {
	ctx, s := c.t.Context(), c.created(onlyFrontend)
	for _, spelling := range []struct {
		route  func(host string) string
		status int
	}{
		{func(h string) string { return h }, 201},
		{func(h string) string { return h + "/path" }, 201},
		{func(h string) string { return h + "/Path/Of-Many_parts" }, 201},
		{func(h string) string { return h + strings.Repeat("/segment", 16) }, 201},
		{strings.ToUpper, 201},
		{func(h string) string { return "a_b-" + h }, 201},
		{func(string) string { return playground.Domain }, 201}, // an empty host
		{func(h string) string { return "*." + h }, 400},
		{func(h string) string { return "*." + h + "/path" }, 400},
		{func(string) string { return "tcp.example.com:1024" }, 400},
		{func(string) string { return "10.0.0.1" }, 400},
		{func(h string) string { return "https://" + h }, 400},
		{func(h string) string { return h + "/a/../b" }, 400},
		{func(string) string { return c.host }, 400},
		{func(string) string { return "*." + playground.Domain }, 400},
	} {
		b := c.binding(s)
		b.Route = spelling.route(b.Route)
		answer := c.is(spelling.status)(c.BindRoute(ctx, b, nil))
		if spelling.status != 201 {
			c.goneBinding(b)
			continue
		}
		made := c.urlOf(b, answer)
		c.reachesNow(made, allowed, noMatch)
		again := b
		again.Route = strings.ToLower(b.Route)
		assert.Equal(c.t, made.url, c.urlOf(b, c.is(200)(c.BindRoute(ctx, again, nil))).url)
		c.is(200)(c.UnbindRoute(ctx, b))
		c.closed(made)
	}
	c.has(s)
}

func deleteRoute(c *cloud) {
	ctx, s := c.t.Context(), c.created(onlyFrontend)
	b, kept := c.bound(s, ""), c.bound(s, "")
	assert.JSONEq(c.t, "{}", string(c.is(200)(c.DeleteRoute(ctx, b.Binding)).Body))
	c.closed(b)
	c.is(410)(c.DeleteRoute(ctx, b.Binding))
	c.goneBinding(b.Binding)
	c.has(s, kept)
	c.reachesNow(kept, allowed, noMatch)
}

// inForce goes through the router as the apps do, and asks each gateway itself.
func inForce(c *cloud) {
	ctx, s := c.t.Context(), c.created(onlyFrontend)
	b := c.bound(s, "")
	require.NoError(c.t, c.router.Register(b.Route, c.app.URL))
	require.NoError(c.t, c.router.Bind(b.Route, b.url))
	for range 2 * len(c.servers) {
		assert.Equal(c.t, allowed, c.throughRouter("frontend", b))
		assert.Equal(c.t, noMatch, c.throughRouter("monitoring", b))
	}
	for _, step := range []struct {
		change               controller.Change
		frontend, monitoring string
	}{
		{controller.Change{Parameters: given(onlyMonitoring)}, noMatch, allowed},
		{controller.Change{}, noMatch, allowed},
		{controller.Change{PlanID: planSpace}, "403 no_matching_grant", "403 scope"},
		{controller.Change{PlanID: planOrg, Parameters: given(`{"allow_add":["cf:app:$frontend"]}`)}, allowed, allowed},
		{controller.Change{Parameters: json.RawMessage(`{"allow":null}`)}, nobody, nobody},
		{controller.Change{Parameters: given(onlyFrontend)}, allowed, noMatch},
	} {
		c.is(200)(c.UpdateService(ctx, s, step.change))
		c.reaches(b, step.frontend, step.monitoring)
		for range 2 * len(c.servers) {
			assert.Equal(c.t, step.frontend, c.throughRouter("frontend", b))
			assert.Equal(c.t, step.monitoring, c.throughRouter("monitoring", b))
		}
	}
	c.is(200)(c.UnbindRoute(ctx, b.Binding))
	c.closed(b)
	// The router may not know yet.
	for range 2 * len(c.servers) {
		assert.Equal(c.t, unbound, c.throughRouter("frontend", b))
	}
	require.NoError(c.t, c.router.Unbind(b.Route))
	reply, err := playground.Call(ctx, c.clients["monitoring"], http.MethodGet, "https://"+b.Route+"/", nil)
	require.NoError(c.t, err)
	assert.Equal(c.t, http.StatusOK, reply.Status, "Cloud Foundry has opened the route")
}

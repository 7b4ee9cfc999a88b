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

func TestSequencesOfServiceInstances(t *testing.T) {
	t.Parallel()
	onBoth(t, sequences{
		"S2 create-service is done when it is answered":                                    createService,
		"S3 the same create again is 200, and with other content 409 that says so":         createAgain,
		"S4 a create that is refused leaves nothing, and nothing to delete":                createRefused,
		"S5 service --params is answered without a query, and never with null":             serviceParams,
		"S6 a rename changes nothing, -c changes what it names, at once":                   updateService,
		"S6 an update that is refused has not happened":                                    updateRefused,
		"S6 whatever previous_values say, only what is stored counts":                      previousValues,
		"S17 delete-service unbinds, deprovisions, and can be repeated":                    deleteService,
		"S17 a deprovision with routes still bound ends in success and closes them":        deleteBound,
		"S18 a plan change moves the scope, and deletes may still carry the former plan":   planChange,
		"S18 orphan mitigation that carries the plan of then deletes what is there by now": planOfThen,
	})
}

func createService(c *cloud) {
	for _, parameters := range []string{"", onlyFrontend} {
		s := c.service()
		answer := c.is(201)(c.CreateService(c.t.Context(), s, given(parameters)))
		assert.JSONEq(c.t, "{}", string(answer.Body), "no dashboard, no operation")
		got := c.instance(s)
		assert.Equal(c.t, planOrg, got.PlanID)
		assert.Equal(c.t, parameters == "", got.Parameters.Allow == nil)
		c.has(s)
	}
}

func createAgain(c *cloud) {
	ctx, s := c.t.Context(), c.created(onlyFrontend)
	b := c.bound(s, "")
	before := c.seen(s, b)
	for range 3 {
		c.is(200)(c.CreateService(ctx, s, given(onlyFrontend)))
	}
	c.is(200)(c.CreateService(ctx, s, given(`{"mtls_allowed_apps":"$frontend"}`))) // the same in other words
	renamed := s
	renamed.Name = "another-name"
	c.is(200)(c.CreateService(ctx, renamed, given(onlyFrontend)))
	plan, space, org := s, s, s
	plan.PlanID = planAny
	space.Space.GUID, org.Space.OrgGUID = playground.Monitoring.Identity().Space, playground.Intruder.Identity().Org
	for name, one := range map[string]controller.Service{"plan": plan, "space": space, "org": org} {
		answer := c.is(409)(c.CreateService(ctx, one, given(onlyFrontend)))
		assert.Contains(c.t, answer.Description(), s.GUID, name)
	}
	for _, parameters := range []string{"", onlyMonitoring, `{"allow":["cf:app:$frontend"],"mode":"report"}`} {
		c.is(409)(c.CreateService(ctx, s, given(parameters)))
	}
	assert.Equal(c.t, before, c.seen(s, b))
	c.reachesNow(b, allowed, noMatch)
}

// createRefused: after these Cloud Controller sends no DELETE of its own, but the
// user's next create-service does.
func createRefused(c *cloud) {
	ctx := c.t.Context()
	refuse := func(what string, s controller.Service, parameters string, met ...faults.Fault) {
		c.t.Helper()
		c.network.Next(met...)
		answer, err := c.CreateService(ctx, s, json.RawMessage(parameters))
		require.NoError(c.t, err)
		require.Equal(c.t, 400, answer.Status, "%s: %s", what, answer.Body)
		c.sane(answer)
		assert.Empty(c.t, c.Jobs(), what)
		c.is(404)(c.FetchService(ctx, s))
		c.network.Next(faults.Edit(func(r *http.Request) { r.URL.RawQuery = c.query(s) }))
		c.is(410)(c.DeleteService(ctx, s))
	}
	for _, parameters := range []string{`{"can-not":1}`, `{"allow":"cf:any"}`, `{"allow":["nonsense"]}`, `{"scope":"any"}`} {
		refuse(parameters, c.service(), parameters)
	}
	for name, edit := range map[string]func(*controller.Service){
		"unknown service": func(s *controller.Service) { s.OfferingID = uuid.NewString() }, "no service": func(s *controller.Service) { s.OfferingID = "" },
		"unknown plan": func(s *controller.Service) { s.PlanID = uuid.NewString() }, "no plan": func(s *controller.Service) { s.PlanID = "" },
		"no org": func(s *controller.Service) { s.Space.OrgGUID = "" }, "no space": func(s *controller.Service) { s.Space.GUID = "" },
		"org that is no guid": func(s *controller.Service) { s.Space.OrgGUID = "acme" },
	} {
		s := c.service()
		edit(&s)
		refuse(name, s, "")
	}
	for _, body := range []string{"", "{", "[]", "null", `"x"`, "\xff", `{"service_id":7}`, `{"a":1}{"b":2}`, strings.Repeat(" ", 1<<20) + "{}"} {
		refuse(body, c.service(), "", faults.WithBody(body))
	}
	for _, parameters := range []string{`[]`, `"x"`, `7`, `true`} {
		refuse(parameters, c.service(), "", c.editBody(func(body map[string]any) { body["parameters"] = json.RawMessage(parameters) }))
	}
	refuse("a form", c.service(), "", faults.Edit(func(r *http.Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded") }))
}

// query is what a DELETE of Cloud Controller's carries when the ids are right.
func (c *cloud) query(controller.Service) string {
	return "accepts_incomplete=true&plan_id=" + planOrg + "&service_id=" + offering
}

// editBody changes the JSON of a request on its way.
func (c *cloud) editBody(edit func(map[string]any)) faults.Fault {
	return func(request *http.Request, broker http.RoundTripper) (*http.Response, error) {
		var body map[string]any
		if err := json.NewDecoder(request.Body).Decode(&body); err != nil {
			return nil, err
		}
		edit(body)
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		return faults.WithBody(string(text))(request, broker)
	}
}

func serviceParams(c *cloud) {
	ctx, s := c.t.Context(), c.created("")
	c.is(200)(c.FetchService(ctx, s)) // its outcome says that nothing is null
	b := c.bound(s, "")
	answer := c.is(200)(c.FetchBinding(ctx, b.Binding))
	assert.JSONEq(c.t, `{"route_service_url":"`+b.url+`"}`, string(answer.Body))
	c.is(200)(c.UpdateService(ctx, s, controller.Change{Parameters: given(onlyFrontend)}))
	var got struct {
		ServiceID  string `json:"service_id"`
		PlanID     string `json:"plan_id"`
		Parameters map[string]json.RawMessage
	}
	require.NoError(c.t, c.is(200)(c.FetchService(ctx, s)).JSON(&got))
	assert.Equal(c.t, []string{offering, planOrg}, []string{got.ServiceID, got.PlanID})
	assert.JSONEq(c.t, names.Replace(`["cf:app:$frontend"]`), string(got.Parameters["allow"]))
	// What was read can be given back.
	raw, err := json.Marshal(got.Parameters)
	require.NoError(c.t, err)
	c.is(200)(c.UpdateService(ctx, s, controller.Change{Parameters: raw}))
	c.reaches(b, allowed, noMatch)
}

func updateService(c *cloud) {
	ctx, s := c.t.Context(), c.created(`{"allow":["cf:app:$frontend"],"labels":{"team":"a"}}`)
	b := c.bound(s, "")
	c.reachesNow(b, allowed, noMatch)
	before := c.seen(s, b)
	for _, name := range []string{"another-name", "another-name", "my-authz"} {
		answer := c.is(200)(c.UpdateService(ctx, s, controller.Change{Name: name}))
		assert.JSONEq(c.t, "{}", string(answer.Body))
		assert.Equal(c.t, before, c.seen(s, b), "parameters of {} change nothing")
		c.reaches(b, allowed, noMatch)
	}
	for range 2 { // repeated: nothing more
		c.is(200)(c.UpdateService(ctx, s, controller.Change{Parameters: given(onlyMonitoring)}))
		c.reaches(b, noMatch, allowed)
		assert.Equal(c.t, map[string]string{"team": "a"}, c.instance(s).Parameters.Labels, "what is not named stays")
	}
	c.network.Next(faults.Repeat)
	c.is(200)(c.UpdateService(ctx, s, controller.Change{Parameters: given(`{"allow_add":["cf:app:$frontend"]}`)}))
	c.soon(b, allowed, allowed)
	c.network.Next(faults.LoseAnswer)
	_, err := c.UpdateService(ctx, s, controller.Change{Parameters: given(`{"allow":null}`)})
	require.Error(c.t, err)
	assert.Empty(c.t, c.Jobs(), "an update is never mitigated")
	c.reaches(b, nobody, nobody)
	c.is(200)(c.UpdateService(ctx, s, controller.Change{Parameters: given(`{"allow":null}`)}))
	c.has(s, b)
}

func updateRefused(c *cloud) {
	ctx, s := c.t.Context(), c.created(onlyFrontend)
	b := c.bound(s, "")
	before := c.seen(s, b)
	for _, parameters := range []string{
		`{"can-not":1}`, `{"allow":["nonsense"]}`, `{"allow":["cf:app:$monitoring"],"can-not":1}`, `{"scope":"any"}`,
		`{"allow_remove":["cf:app:$frontend"],"allow_add":["nonsense"]}`, `{"allow":["cf:app:$monitoring"],"mode":"off"}`,
	} {
		c.is(400)(c.UpdateService(ctx, s, controller.Change{Parameters: given(parameters), PlanID: planOrg}))
		assert.Equal(c.t, before, c.seen(s, b), parameters)
		c.reaches(b, allowed, noMatch)
	}
	// A refused parameter takes the plan change with it.
	c.is(400)(c.UpdateService(ctx, s, controller.Change{Parameters: given(`{"can-not":1}`), PlanID: planAny}))
	c.is(400)(c.UpdateService(ctx, s, controller.Change{PlanID: uuid.NewString(), Parameters: given(onlyMonitoring)}))
	for _, body := range []string{"", "{", "[]", `{"service_id":"` + offering + `","parameters":[]}`} {
		c.network.Next(faults.WithBody(body))
		c.is(400)(c.UpdateService(ctx, s, controller.Change{}))
	}
	assert.Equal(c.t, before, c.seen(s, b))
	c.reaches(b, allowed, noMatch)
	c.is(404)(c.UpdateService(ctx, c.service(), controller.Change{Parameters: given(onlyFrontend)}))
}

func previousValues(c *cloud) {
	ctx, s := c.t.Context(), c.created(onlyFrontend)
	b := c.bound(s, "")
	before := c.seen(s, b)
	for _, previous := range []string{
		`null`, `{}`, `{"maintenance_info":null}`, `{"maintenance_info":{"version":"1.0.0"}}`, `{"plan_id":"` + planAny + `"}`, `{"plan_id":"nonsense","service_id":"other"}`,
		`{"organization_id":"other","space_id":"other"}`, `{"unheard":"of"}`,
	} {
		c.network.Next(c.editBody(func(body map[string]any) { body["previous_values"] = json.RawMessage(previous) }))
		c.is(200)(c.UpdateService(ctx, s, controller.Change{}))
		assert.Equal(c.t, before, c.seen(s, b), previous)
	}
	c.network.Next(c.editBody(func(body map[string]any) {
		delete(body, "plan_id")
		delete(body, "parameters")
		delete(body, "context")
	}))
	c.is(200)(c.UpdateService(ctx, s, controller.Change{}))
	assert.Equal(c.t, before, c.seen(s, b), "what is not sent does not change")
	c.reaches(b, allowed, noMatch)
}

func deleteService(c *cloud) {
	ctx, s := c.t.Context(), c.created(onlyFrontend)
	first, second := c.bound(s, ""), c.bound(s, "")
	c.is(200)(c.UnbindRoute(ctx, first.Binding))
	c.closed(first)
	c.reaches(second, allowed, noMatch)
	c.has(s, second)
	c.is(200)(c.UnbindRoute(ctx, second.Binding))
	c.closed(second)
	assert.JSONEq(c.t, "{}", string(c.is(200)(c.DeleteService(ctx, s)).Body))
	for range 2 {
		c.gone(s)
		c.goneBinding(first.Binding)
	}
	c.is(404)(c.BindRoute(ctx, c.binding(s), nil))
	c.is(404)(c.UpdateService(ctx, s, controller.Change{}))
}

func deleteBound(c *cloud) {
	ctx, s, other := c.t.Context(), c.created(onlyFrontend), c.created(onlyFrontend)
	first, second, kept := c.bound(s, ""), c.bound(s, onlyMonitoring), c.bound(other, "")
	c.reachesNow(second, allowed, allowed)
	c.is(200)(c.DeleteService(ctx, s))
	c.closed(first)
	c.closed(second)
	c.gone(s)
	c.goneBinding(first.Binding)
	c.goneBinding(second.Binding)
	c.is(409)(c.CreateService(ctx, s, given(onlyFrontend)))
	c.has(other, kept)
	c.reachesNow(kept, allowed, noMatch)
}

func planChange(c *cloud) {
	ctx, s := c.t.Context(), c.service()
	s.PlanID = planSpace
	c.is(201)(c.CreateService(ctx, s, given(`{"allow":["cf:any"]}`)))
	b, other := c.bound(s, ""), c.bound(s, "")
	c.reachesNow(b, allowed, "403 scope")
	former := s
	for range 2 {
		c.is(200)(c.UpdateService(ctx, former, controller.Change{PlanID: planOrg}))
		c.reaches(b, allowed, allowed)
		assert.Equal(c.t, planOrg, c.instance(s).PlanID)
	}
	s.PlanID = planOrg
	c.is(200)(c.UpdateService(ctx, s, controller.Change{PlanID: planSpace}))
	c.reaches(b, allowed, "403 scope")
	c.is(200)(c.UpdateService(ctx, former, controller.Change{PlanID: planOrg}))
	// Deletes with the former plan, and with the current one.
	old := b.Binding
	old.Service = former
	c.is(200)(c.UnbindRoute(ctx, old))
	c.closed(b)
	other.Service = s
	c.is(200)(c.UnbindRoute(ctx, other.Binding))
	c.closed(other)
	c.is(200)(c.DeleteService(ctx, former))
	c.gone(s)
}

func planOfThen(c *cloud) {
	ctx, s := c.t.Context(), c.created(onlyFrontend)
	b := c.binding(s)
	c.network.Next(faults.LoseAnswer)
	c.lost(c.BindRoute(ctx, b, nil))
	c.is(200)(c.UpdateService(ctx, s, controller.Change{PlanID: planAny}))
	c.is(200)(c.FetchBinding(ctx, b))
	require.NoError(c.t, c.RunJobs(ctx))
	c.goneBinding(b)
	c.has(s)
}

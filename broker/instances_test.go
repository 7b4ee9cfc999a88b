package broker_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/broker"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/playground/controller"
)

var noChange = controller.Change{Name: "renamed"}

func change(parameters string) controller.Change {
	return controller.Change{Parameters: raw(parameters)}
}

func TestProvision(t *testing.T) { // S2, S3
	b := newTestbed(t)
	s := service(grants.ScopeOrg)
	given := raw(`{"allow":["` + app1 + `"],"labels":{"team":"x"}}`)
	require.JSONEq(t, "{}", string(b.created()(b.CreateService(ctx, s, given)).Body))
	require.JSONEq(t, "{}", string(b.ok()(b.CreateService(ctx, s, given)).Body))
	b.ok()(b.CreateService(ctx, s, raw(`{"labels":{"team":"x"},"status":{"read":"only"},"allow":["`+app1+`"]}`)))

	b.conflict()(b.CreateService(ctx, s, nil))
	b.conflict()(b.CreateService(ctx, s, raw(`{"allow":["`+app2+`"],"labels":{"team":"x"}}`)))
	b.conflict()(b.CreateService(ctx, service(grants.ScopeAny), given))
	for _, elsewhere := range []controller.Space{{GUID: home.OrgGUID, OrgGUID: home.OrgGUID}, {GUID: home.GUID, OrgGUID: home.GUID}} {
		other := s
		other.Space = elsewhere
		answer := b.conflict()(b.CreateService(ctx, other, given))
		require.Contains(t, answer.Description(), "exists already with other content")
	}
	require.JSONEq(t, string(given), b.parametersOf(s))
}

func TestRefusedProvisionLeavesNothing(t *testing.T) { // S4
	b := newTestbed(t)
	s := service(grants.ScopeOrg)
	for name, f := range map[string]func(*controller.Service){
		"unknown service":  func(s *controller.Service) { s.OfferingID = "other" },
		"no service":       func(s *controller.Service) { s.OfferingID = "" },
		"unknown plan":     func(s *controller.Service) { s.PlanID = broker.ServiceID },
		"no plan":          func(s *controller.Service) { s.PlanID = "" },
		"plan by its name": func(s *controller.Service) { s.PlanID = "org" },
		"no org":           func(s *controller.Service) { s.Space.OrgGUID = "" },
		"no space":         func(s *controller.Service) { s.Space.GUID = "" },
		"org no guid":      func(s *controller.Service) { s.Space.OrgGUID = "my-org" },
		"nil space":        func(s *controller.Service) { s.Space.GUID = "00000000-0000-0000-0000-000000000000" },
		"upper-case space": func(s *controller.Service) { s.Space.GUID = "AAAAAAAA-1111-4111-8111-111111111111" },
		"id with a slash":  func(s *controller.Service) { s.GUID = "a/b" },
		"id with a dot":    func(s *controller.Service) { s.GUID = ".." },
		"id with a space":  func(s *controller.Service) { s.GUID = "a b" },
		"id too long":      func(s *controller.Service) { s.GUID = strings.Repeat("a", 129) },
		"id no UTF-8":      func(s *controller.Service) { s.GUID = "\xff" },
	} {
		t.Run(name, func(t *testing.T) {
			wrong := s
			f(&wrong)
			if wrong.GUID == ".." {
				return // a client cannot even send it
			}
			b.rejected()(b.CreateService(ctx, wrong, nil))
			wrong.OfferingID, wrong.PlanID = s.OfferingID, s.PlanID
			b.gone()(b.DeleteService(ctx, wrong)) // as for any id that was refused
		})
	}
	b.expect(http.StatusNotFound, controller.Rejected)(b.FetchService(ctx, s))
}

// Another place in the context than in the request would make one of the two
// the owner by accident.
func TestContextMustNameTheOwner(t *testing.T) {
	b := newTestbed(t)
	s := service(grants.ScopeOrg)
	body := func(context string) string {
		return `{"service_id":"` + s.OfferingID + `","plan_id":"` + s.PlanID + `","organization_guid":"` + home.OrgGUID + `","space_guid":"` + home.GUID +
			`","bind_resource":{"route":"r.example"},"context":` + context + `}`
	}
	wrong := []string{
		`{"organization_guid":"` + home.GUID + `","space_guid":"` + home.GUID + `"}`,
		`{"organization_guid":"` + home.OrgGUID + `","space_guid":"` + home.OrgGUID + `"}`,
		`{"space_guid":"x"}`, `{"organization_guid":"x"}`,
	}
	for _, context := range wrong {
		refused(t, http.StatusBadRequest, "not those of the service instance")(b.do("PUT", instancePath, body(context)))
	}
	b.created()(b.CreateService(ctx, s, nil))
	for _, context := range wrong {
		refused(t, http.StatusBadRequest, "not those of the service instance")(b.do("PUT", bindingPath, body(context)))
		refused(t, http.StatusBadRequest, "not those of the service instance")(b.do("PATCH", instancePath, body(context)))
	}
	b.gone()(b.UnbindRoute(ctx, routeOf(s, bindingA, "r.example")))
}

// Every refusal is one line that names the entry.
func TestRefusedParameters(t *testing.T) { // S4, S6, S10
	b := newTestbed(t)
	s := service(grants.ScopeOrg)
	b.created()(b.CreateService(ctx, s, raw(`{"allow":["`+app1+`"]}`)))
	past := `{"source":"` + app2 + `","expires":"2026-05-04T10:15:00Z"}`
	for _, c := range []struct {
		parameters string
		names      []string
	}{
		{`{"can-not":1}`, []string{`"can-not"`, "allow"}},
		{`{"Allow":["cf:any"]}`, []string{`"Allow"`}},
		{`{"scope":"any"}`, []string{`"any"`, `"org"`, "wider than the plan's"}},
		{`{"scope":"galaxy"}`, []string{`"galaxy"`}},
		{`{"allow":"cf:any"}`, []string{"allow", "a list"}},
		{`{"allow":["` + app2 + `","cf:app:nope"]}`, []string{"allow[1]", "nope"}},
		{`{"allow":["spiffe://x"]}`, []string{"allow[0]", "spiffe:", "reserved"}},
		{`{"allow":["` + app2 + `","` + app2 + `"]}`, []string{"allow[1]", app2, "twice"}},
		{`{"allow":["cf:any","` + app2 + `"]}`, []string{"allow[0]", "cf:any"}},
		{`{"allow":["` + app2 + `",{"source":"` + app2 + `","methods":["GET"]}]}`, []string{"allow[1]", "with and without conditions"}},
		{`{"allow":[{"source":"` + app2 + `","methods":[]}]}`, []string{"allow[0]", "methods is empty"}},
		{`{"allow":[{"source":"` + app2 + `","methods":["get"]}]}`, []string{"allow[0]", `"get"`}},
		{`{"allow":[{"source":"` + app2 + `","paths":["x"]}]}`, []string{"allow[0]", "paths", `"x"`}},
		{`{"allow":[{"source":"` + app2 + `","routes":["UPPER.example"]}]}`, []string{"allow[0]", "routes", "UPPER.example"}},
		{`{"allow":[{"source":"` + app2 + `","methos":["GET"]}]}`, []string{"allow[0]", `"methos"`}},
		{`{"allow":[` + past + `]}`, []string{"allow[0]", app2, "past"}},
		{`{"labels":{"a":"not\nallowed"}}`, []string{`"a"`}},
		{`{"annotations":{"a":5}}`, []string{"annotations", "a string"}},
		{`{"mtls_allowed_apps":"x"}`, []string{"mtls_allowed_apps", `"x"`}},
		{`{"mtls_allow_any":true,"allow":[]}`, []string{"mtls_allow_any", "allow"}},
	} {
		created, bound := s, routeOf(s, bindingA, "r.example")
		created.GUID = "new"
		for op, answer := range map[string]*controller.Answer{
			"create": b.rejected()(b.CreateService(ctx, created, raw(c.parameters))),
			"update": b.rejected()(b.UpdateService(ctx, s, change(c.parameters))),
			"bind":   b.rejected()(b.BindRoute(ctx, bound, raw(c.parameters))),
		} {
			for _, name := range c.names {
				require.Contains(t, answer.Description(), name, op+" "+c.parameters)
			}
		}
		b.gone()(b.DeleteService(ctx, created))
		b.gone()(b.UnbindRoute(ctx, bound))
	}
	for parameters, name := range map[string]string{
		`{"allow_add":["` + app1 + `"]}`: "allow_add", `{"allow_remove":["` + app1 + `"]}`: "allow_remove",
	} {
		other := s
		other.GUID = "new"
		require.Contains(t, b.rejected()(b.CreateService(ctx, other, raw(parameters))).Description(), name)
	}
	for parameters, name := range map[string]string{
		`{"allow_add":["nobody"]}`: "allow_add[0]", `{"allow_remove":["` + app1 + `",5]}`: "allow_remove[1]", `{"allow_add":[` + past + `]}`: "allow_add[0]",
	} {
		require.Contains(t, b.rejected()(b.UpdateService(ctx, s, change(parameters))).Description(), name)
	}
	require.JSONEq(t, `{"allow":["`+app1+`"]}`, b.parametersOf(s), "nothing of it was applied")
}

func TestUpdate(t *testing.T) { // S6, S18
	b := newTestbed(t)
	s := service(grants.ScopeOrg)
	b.created()(b.CreateService(ctx, s, raw(`{"scope":"space","allow":["`+app1+`"],"labels":{"team":"x"}}`)))
	before := string(b.ok()(b.FetchService(ctx, s)).Body)
	require.JSONEq(t, "{}", string(b.ok()(b.UpdateService(ctx, s, noChange)).Body))
	b.ok()(b.UpdateService(ctx, s, noChange))
	require.Equal(t, before, string(b.ok()(b.FetchService(ctx, s)).Body), "{} changes nothing")

	for range 2 {
		b.ok()(b.UpdateService(ctx, s, change(`{"allow_add":["`+app2+`"],"labels":{"team":null,"tier":"1"}}`)))
		require.JSONEq(t, `{"scope":"space","allow":["`+app1+`","`+app2+`"],"labels":{"tier":"1"}}`, b.parametersOf(s))
	}
	require.Contains(t, b.rejected()(b.UpdateService(ctx, s, change(`{"scope":"any"}`))).Description(), "wider")

	wider := s
	wider.PlanID = broker.PlanID(grants.ScopeAny)
	b.ok()(b.UpdateService(ctx, s, controller.Change{PlanID: wider.PlanID, Parameters: raw(`{"scope":"any"}`)}))
	var got struct {
		PlanID string `json:"plan_id"`
	}
	require.NoError(t, b.ok()(b.FetchService(ctx, s)).JSON(&got))
	require.Equal(t, wider.PlanID, got.PlanID)
	require.Contains(t, b.rejected()(b.UpdateService(ctx, wider, controller.Change{PlanID: s.PlanID})).Description(), "wider", "the scope that was given does not fit")
	b.ok()(b.UpdateService(ctx, wider, controller.Change{PlanID: s.PlanID, Parameters: raw(`{"scope":null}`)}))

	unknown := s
	unknown.GUID = "unknown"
	b.expect(http.StatusNotFound, controller.Rejected)(b.UpdateService(ctx, unknown, noChange))
	b.rejected()(b.UpdateService(ctx, s, controller.Change{PlanID: "unknown"}))
	refused(t, 400, "service_id missing")(b.do("PATCH", instancePath, `{"parameters":{}}`))
	refused(t, 400, "not in the catalog")(b.do("PATCH", instancePath, `{"service_id":"x","parameters":{}}`))
}

// No plan, no parameters, null parameters: nothing may change. What the
// platform says of the past is not believed.
func TestUpdateOfWhatIsLeftOut(t *testing.T) {
	b := newTestbed(t)
	s := service(grants.ScopeOrg)
	b.created()(b.CreateService(ctx, s, raw(`{"allow":["`+app1+`"]}`)))
	before := string(b.ok()(b.FetchService(ctx, s)).Body)
	for _, body := range []string{
		`{"service_id":"` + s.OfferingID + `"}`,
		`{"service_id":"` + s.OfferingID + `","parameters":null}`,
		`{"service_id":"` + s.OfferingID + `","plan_id":"` + s.PlanID + `","parameters":{},"previous_values":{"maintenance_info":null}}`,
		`{"service_id":"` + s.OfferingID + `","previous_values":{"plan_id":"x","service_id":"y","organization_id":"z","space_id":"","maintenance_info":{"version":"1.0.0"}}}`,
	} {
		res, answer := b.do("PATCH", instancePath, body)
		require.Equal(t, http.StatusOK, res.StatusCode, answer)
		require.JSONEq(t, "{}", answer)
	}
	require.Equal(t, before, string(b.ok()(b.FetchService(ctx, s)).Body))
}

// Grants could be added until neither a create nor a fetch could carry them.
func TestParametersCannotGrowBeyondOneRequest(t *testing.T) {
	b := newTestbed(t)
	s := service(grants.ScopeOrg)
	b.created()(b.CreateService(ctx, s, nil))
	add := func(n int) controller.Change {
		var entries []string
		for i := range 900 {
			entries = append(entries, fmt.Sprintf(`{"source":"cf:app:d76446a1-f429-4444-8797-%04x%08x","reason":"%s"}`, n, i+1, strings.Repeat("r", 250)))
		}
		return change(`{"allow_add":[` + strings.Join(entries, ",") + `]}`)
	}
	for n := range 3 {
		b.ok()(b.UpdateService(ctx, s, add(n)))
	}
	require.Contains(t, b.rejected()(b.UpdateService(ctx, s, add(3))).Description(), "at most 1048576 are allowed")
}

// An entry that has ended since is no reason to answer a repeated request
// otherwise than the first time.
func TestRepeatAfterAGrantHasExpired(t *testing.T) {
	b := newTestbed(t)
	s := service(grants.ScopeOrg)
	given := raw(`{"allow":[{"source":"` + app1 + `","expires":"2026-05-04T11:00:00Z"}]}`)
	r := routeOf(s, bindingA, "r.example")
	b.created()(b.CreateService(ctx, s, given))
	first := urlOf(t, b.created()(b.BindRoute(ctx, r, given)))
	b.wait(time.Hour)
	b.ok()(b.CreateService(ctx, s, given))
	require.Equal(t, first, urlOf(t, b.ok()(b.BindRoute(ctx, r, given))))
	b.ok()(b.UpdateService(ctx, s, noChange))
	b.ok()(b.UpdateService(ctx, s, change(`{"labels":{"a":"b"}}`)))
	b.rejected()(b.UpdateService(ctx, s, change(string(given))))
	other := s
	other.GUID = "new"
	b.rejected()(b.CreateService(ctx, other, given))
	b.rejected()(b.BindRoute(ctx, routeOf(s, bindingB, "r.example"), given))
}

func TestReportModeSwitchedOff(t *testing.T) {
	b := newTestbed(t)
	s, r := service(grants.ScopeOrg), routeOf(service(grants.ScopeOrg), bindingA, "r.example")
	b.created()(b.CreateService(ctx, s, raw(`{"mode":"report","report_routes":["r.example","q.example"],"allow":["`+app1+`"]}`)))
	b.created()(b.BindRoute(ctx, r, nil))
	require.Equal(t, "report", b.statusOf(s).Mode)

	b.cfg.AllowReport = false
	b.restart()
	is := b.statusOf(s)
	require.Equal(t, "enforce", is.Mode)
	require.Equal(t, "enforce", is.Routes[0].Mode)
	require.Contains(t, strings.Join(is.Warnings, "\n"), "report mode is switched off")
	other := s
	other.GUID = "new"
	for _, parameters := range []string{`{"mode":"report"}`, `{"report_routes":["x.example"]}`} {
		require.Contains(t, b.rejected()(b.CreateService(ctx, other, raw(parameters))).Description(), "switched off")
	}
	require.Contains(t, b.rejected()(b.UpdateService(ctx, s, change(`{"report_routes":["x.example"]}`))).Description(), "switched off")
	b.ok()(b.UpdateService(ctx, s, noChange))
	b.ok()(b.UpdateService(ctx, s, change(`{"allow_remove":["`+app1+`"]}`))) // revoking must always work
	b.ok()(b.UpdateService(ctx, s, change(`{"report_routes":["r.example"]}`)))
	b.ok()(b.UpdateService(ctx, s, change(`{"mode":"enforce"}`)))
	b.rejected()(b.UpdateService(ctx, s, change(`{"mode":"report"}`)))
	require.JSONEq(t, `{"mode":"enforce","report_routes":["r.example"],"allow":[]}`, b.parametersOf(s))
	b.created()(b.CreateService(ctx, other, raw(`{"mode":"enforce","report_routes":[]}`)))
}

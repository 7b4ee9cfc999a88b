package broker_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/mtls-authz/mtls-authz/grants/route"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/broker"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/playground/controller"
)

func TestBind(t *testing.T) { // S7, S8, S9, S16
	b := newTestbed(t)
	s := service(grants.ScopeOrg)
	b.created()(b.CreateService(ctx, s, nil))
	r := routeOf(s, bindingA, "Backend.Apps.identity/Path")
	given := raw(`{"allow":["` + app1 + `"],"scope":"space"}`)
	answer := b.created()(b.BindRoute(ctx, r, given))
	first := urlOf(t, answer)
	require.Equal(t, "https://gateway.apps.example/r/"+bindingA+"/"+b.cfg.Tokens.Token(bindingA), first)
	require.JSONEq(t, `{"route_service_url":"`+first+`"}`, string(answer.Body), "and nothing else")
	require.JSONEq(t, `{"route_service_url":"`+first+`","parameters":`+string(given)+`}`, string(b.ok()(b.FetchBinding(ctx, r)).Body))
	access := b.cfg.Store.View().Access(bindingA)
	require.Equal(t, route.Route{Host: "backend.apps.identity", Path: "/path"}, access.Route)
	require.Equal(t, grants.ScopeSpace, access.Scope)

	require.Equal(t, first, urlOf(t, b.ok()(b.BindRoute(ctx, r, given))))
	require.Equal(t, first, urlOf(t, b.ok()(b.BindRoute(ctx, routeOf(s, bindingA, "backend.apps.identity/path"), given))))
	other := s
	other.GUID = "other"
	b.created()(b.CreateService(ctx, other, nil))
	b.conflict()(b.BindRoute(ctx, routeOf(s, bindingA, "other.apps.identity"), given))
	b.conflict()(b.BindRoute(ctx, routeOf(s, bindingA, "backend.apps.identity"), given))
	b.conflict()(b.BindRoute(ctx, r, nil))
	b.conflict()(b.BindRoute(ctx, routeOf(service(grants.ScopeAny), bindingA, r.Route), given))
	b.conflict()(b.BindRoute(ctx, routeOf(other, bindingA, r.Route), given))
	b.gone()(b.UnbindRoute(ctx, routeOf(other, bindingA, "")))
	require.Equal(t, access.Revision, b.cfg.Store.View().Access(bindingA).Revision, "nothing of it changed the binding")

	plain := routeOf(s, bindingB, "plain.apps.identity")
	require.JSONEq(t, `{"route_service_url":"`+urlOf(t, b.created()(b.BindRoute(ctx, plain, raw("{}"))))+`"}`, string(b.ok()(b.FetchBinding(ctx, plain)).Body), "no parameters, no null")

	require.JSONEq(t, "{}", string(b.ok()(b.DeleteRoute(ctx, r)).Body))
	require.Nil(t, b.cfg.Store.View().Access(bindingA))
	b.gone()(b.DeleteRoute(ctx, r))
	b.expect(http.StatusNotFound, controller.Rejected)(b.FetchBinding(ctx, r))
}

// A bind without a url would be accepted, and leave the route open; another
// url than the first would leave it closed.
func TestRouteServiceURLIsTheSameForEver(t *testing.T) {
	b := newTestbed(t)
	s := service(grants.ScopeOrg)
	b.created()(b.CreateService(ctx, s, nil))
	r := routeOf(s, bindingA, "*.deep.example")
	b.cfg.AllowWildcards = true
	b.restart()
	first := urlOf(t, b.created()(b.BindRoute(ctx, r, nil)))
	for name, change := range map[string]func(){
		"GATEWAY_URL":            func() { b.cfg.GatewayURL = "https://moved.example.com" },
		"GATEWAY_URL too long":   func() { b.cfg.GatewayURL = "https://" + strings.Repeat("long.", 40) + "example.com" },
		"token key":              func() { b.cfg.Tokens = bytes.Repeat([]byte{1}, 32) },
		"no wildcards any more":  func() { b.cfg.AllowWildcards = false },
		"the gateway moved here": func() { b.cfg.OwnHosts = []string{"x.deep.example"} },
		"all of it":              func() {},
	} {
		change()
		b.restart()
		require.Equal(t, first, urlOf(t, b.ok()(b.BindRoute(ctx, r, nil))), name)
		require.Equal(t, first, urlOf(t, b.ok()(b.FetchBinding(ctx, r))), name)
	}
}

func TestURLFitsCloudControllersColumn(t *testing.T) {
	b := newTestbed(t)
	s := service(grants.ScopeOrg)
	b.created()(b.CreateService(ctx, s, nil))
	rest := len("/r/") + len(bindingA) + 1 + 22
	url := func(length int) string { return "https://" + strings.Repeat("g", length-rest-len("https://")) }
	b.cfg.GatewayURL = url(256)
	b.restart()
	require.Contains(t, b.rejected()(b.BindRoute(ctx, routeOf(s, bindingA, "r.example"), nil)).Description(), "GATEWAY_URL")
	b.cfg.GatewayURL = url(255)
	b.restart()
	require.Len(t, urlOf(t, b.created()(b.BindRoute(ctx, routeOf(s, bindingA, "r.example"), nil))), 255)
}

func TestWithoutATokenKeyNothingIsBound(t *testing.T) {
	b := newTestbed(t)
	s := service(grants.ScopeOrg)
	b.created()(b.CreateService(ctx, s, nil))
	b.cfg.Tokens = []byte{}
	b.restart()
	b.expect(http.StatusInternalServerError, controller.Orphaned)(b.BindRoute(ctx, routeOf(s, bindingA, "r.example"), nil))
	require.Nil(t, b.cfg.Store.View().Access(bindingA))
}

func TestRoutesThatAreRefused(t *testing.T) { // S10, S11
	b := newTestbed(t)
	s := service(grants.ScopeOrg)
	b.created()(b.CreateService(ctx, s, nil))
	for name, description := range map[string]string{
		"tcp.example.com:1024": "port", "[::1]": "", "10.0.0.1": "IP address", "127.1": "IP address", "0x7f.1": "IP address", "2130706433": "IP address",
		"https://a.example": "", "a..example": "", "a.example.": "", ".a.example": "", "-a.example": "hyphen", "bücher.example": "xn--", "a.example/../b": "dot segment",
		"a.example/%2e": "", "a.example/x?y": "", "user@a.example": "", "a.example\n": "", " ": "", "/path": "", strings.Repeat("a", 300) + ".example": "",
		"*.example": "wildcard", "*": "", "a.*.example": "", "*.*.example": "",
		"gateway.apps.example": "gateway itself", "GATEWAY.apps.example/x": "gateway itself", "own.apps.example": "gateway itself",
	} {
		answer := b.rejected()(b.BindRoute(ctx, routeOf(s, bindingA, name), nil))
		require.Contains(t, answer.Description(), description, name)
		b.gone()(b.UnbindRoute(ctx, routeOf(s, bindingA, name)))
	}
	require.Equal(t, bindHere, b.rejected()(b.BindRoute(ctx, routeOf(s, bindingA, ""), nil)).Description())
	unknown := s
	unknown.GUID = "unknown"
	answer := b.expect(http.StatusNotFound, controller.Rejected)(b.BindRoute(ctx, routeOf(unknown, bindingA, "r.example"), nil))
	require.Contains(t, answer.Description(), `"unknown"`)
	for _, f := range []func(*controller.Service){
		func(s *controller.Service) { s.PlanID = broker.PlanID(grants.ScopeAny) }, // not the instance's
		func(s *controller.Service) { s.PlanID = "x" }, func(s *controller.Service) { s.OfferingID = "x" },
		func(s *controller.Service) { s.PlanID = "" }, func(s *controller.Service) { s.OfferingID = "" },
	} {
		wrong := s
		f(&wrong)
		b.rejected()(b.BindRoute(ctx, routeOf(wrong, bindingA, "r.example"), nil))
	}
	for _, id := range []string{"a/b", "a b", "a%2e", "é", "-a", strings.Repeat("a", 129), "a\x00"} {
		b.rejected()(b.BindRoute(ctx, routeOf(s, id, "r.example"), nil))
		b.gone()(b.UnbindRoute(ctx, routeOf(s, id, "r.example")))
	}
}

func TestRoutesBelowTheGatewaysOwnWildcard(t *testing.T) {
	b := newTestbed(t)
	b.cfg.OwnHosts = []string{"*.gateway.example"}
	b.restart()
	s := service(grants.ScopeOrg)
	b.created()(b.CreateService(ctx, s, nil))
	for _, name := range []string{"any.gateway.example", "ANY.gateway.example/path", "deep.any.gateway.example"} {
		require.Contains(t, b.rejected()(b.BindRoute(ctx, routeOf(s, bindingA, name), nil)).Description(), "gateway itself", name)
	}
	b.created()(b.BindRoute(ctx, routeOf(s, bindingA, "any-gateway.example"), nil))
}

func TestWildcardsWhereTheOperatorAllowsThem(t *testing.T) {
	b := newTestbed(t)
	b.cfg.AllowWildcards = true
	b.restart()
	s := service(grants.ScopeOrg)
	b.created()(b.CreateService(ctx, s, nil))
	for _, name := range []string{"*.apps.example", "*.example"} {
		require.Contains(t, b.rejected()(b.BindRoute(ctx, routeOf(s, bindingA, name), nil)).Description(), "gateway itself", "it lies over the gateway's own")
	}
	b.created()(b.BindRoute(ctx, routeOf(s, bindingA, "*.deep.apps.example"), nil))
}

func TestAppsAndServiceKeysAreNotBound(t *testing.T) { // S11
	b := newTestbed(t)
	s := service(grants.ScopeOrg)
	b.created()(b.CreateService(ctx, s, nil))
	const app = "44444444-4444-4444-8444-444444444444"
	for name, rest := range map[string]string{
		"app":                    `,"app_guid":"` + app + `","bind_resource":{"app_guid":"` + app + `","space_guid":"` + home.GUID + `"}`,
		"app, older":             `,"app_guid":"` + app + `"`,
		"app and route":          `,"app_guid":"` + app + `","bind_resource":{"route":"r.example"}`,
		"app and route, newer":   `,"bind_resource":{"app_guid":"` + app + `","route":"r.example"}`,
		"service key":            `,"bind_resource":{}`,
		"service key, older":     ``,
		"service key, null":      `,"bind_resource":null`,
		"service key of CredHub": `,"bind_resource":{"credential_client_id":"cc"}`,
		"client and route":       `,"bind_resource":{"credential_client_id":"cc","route":"r.example"}`,
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, http.StatusBadRequest, bindHere)(b.do("PUT", bindingPath, `{"service_id":"`+s.OfferingID+`","plan_id":"`+s.PlanID+`"`+rest+`}`))
		})
	}
	for _, parameter := range []string{`"mode":"report"`, `"report_routes":[]`, `"assert":true`} {
		answer := b.rejected()(b.BindRoute(ctx, routeOf(s, bindingA, "r.example"), raw("{"+parameter+"}")))
		require.Contains(t, answer.Description(), "on the service instance")
	}
	b.gone()(b.UnbindRoute(ctx, routeOf(s, bindingA, "r.example")))
}

// A lost answer makes Cloud Controller bind the route again under a new id and
// delete the old one, in any order.
func TestRouteBoundTwice(t *testing.T) { // S12, as far as one process sees it
	for _, oldFirst := range []bool{true, false} {
		b := newTestbed(t)
		s := service(grants.ScopeOrg)
		b.created()(b.CreateService(ctx, s, nil))
		old, again := routeOf(s, bindingA, "r.example"), routeOf(s, bindingB, "r.example")
		b.created()(b.BindRoute(ctx, old, nil))
		if oldFirst {
			b.ok()(b.UnbindRoute(ctx, old))
			b.created()(b.BindRoute(ctx, again, nil))
		} else {
			b.created()(b.BindRoute(ctx, again, nil))
			require.Contains(t, strings.Join(b.statusOf(s).Warnings, "\n"), "other bindings have the same route: "+bindingA+" (r.example)")
			b.ok()(b.UnbindRoute(ctx, old))
		}
		b.gone()(b.UnbindRoute(ctx, old))
		require.NotNil(t, b.cfg.Store.View().Access(bindingB))
		b.ok()(b.FetchBinding(ctx, again))
	}
}

func TestRestartBetweenAnyTwoSteps(t *testing.T) { // S20
	b := newTestbed(t)
	s := service(grants.ScopeOrg)
	r := routeOf(s, bindingA, "r.example")
	given := raw(`{"allow":["` + app1 + `"]}`)
	b.created()(b.CreateService(ctx, s, given))
	b.restart()
	b.ok()(b.CreateService(ctx, s, given))
	b.restart()
	url := urlOf(t, b.created()(b.BindRoute(ctx, r, given)))
	b.restart()
	require.Equal(t, url, urlOf(t, b.ok()(b.BindRoute(ctx, r, given))))
	b.restart()
	b.ok()(b.UpdateService(ctx, s, change(`{"allow_add":["`+app2+`"]}`)))
	before := string(b.ok()(b.FetchService(ctx, s)).Body)
	b.restart()
	require.Equal(t, before, string(b.ok()(b.FetchService(ctx, s)).Body))
	require.Equal(t, url, urlOf(t, b.ok()(b.FetchBinding(ctx, r))))
	b.ok()(b.UnbindRoute(ctx, r))
	b.restart()
	b.gone()(b.UnbindRoute(ctx, r))
	b.ok()(b.DeleteService(ctx, s))
	b.restart()
	b.gone()(b.DeleteService(ctx, s))
}

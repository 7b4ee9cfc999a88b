package broker_test

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/playground/controller"
	"github.com/mtls-authz/mtls-authz/store"
)

// What Cloud Controller has taken back must not be created by its late request:
// nobody would delete it again.
func TestDeleteThatOvertakesItsBind(t *testing.T) { // S13
	b := newTestbed(t)
	s := service(grants.ScopeOrg)
	b.created()(b.CreateService(ctx, s, nil))
	late := routeOf(s, bindingA, "a.example")
	b.gone()(b.UnbindRoute(ctx, late))
	require.Contains(t, b.conflict()(b.BindRoute(ctx, late, nil)).Description(), `service binding "`+bindingA+`" was deleted less than an hour ago`)
	b.restart()
	b.conflict()(b.BindRoute(ctx, late, nil))
	b.gone()(b.UnbindRoute(ctx, late))
	b.created()(b.BindRoute(ctx, routeOf(s, bindingB, "a.example"), nil)) // what it tries instead
	require.Nil(t, b.cfg.Store.View().Access(bindingA))

	b.ok()(b.UnbindRoute(ctx, routeOf(s, bindingB, "a.example")))
	b.conflict()(b.BindRoute(ctx, routeOf(s, bindingB, "a.example"), nil))
	b.wait(time.Hour)
	b.created()(b.BindRoute(ctx, late, nil))
	b.created()(b.BindRoute(ctx, routeOf(s, bindingB, "a.example"), nil))
}

func TestDeleteThatOvertakesItsProvision(t *testing.T) { // S14
	b := newTestbed(t)
	s := service(grants.ScopeOrg)
	b.gone()(b.DeleteService(ctx, s))
	require.Contains(t, b.conflict()(b.CreateService(ctx, s, nil)).Description(), `service instance "`+s.GUID+`" was deleted less than an hour ago`)
	b.expect(http.StatusNotFound, controller.Rejected)(b.FetchService(ctx, s))
	b.gone()(b.DeleteService(ctx, s))

	again := s // the same name, another id
	again.GUID = "55555555-5555-4555-8555-555555555555"
	b.created()(b.CreateService(ctx, again, nil))
	b.ok()(b.DeleteService(ctx, again))
	b.conflict()(b.CreateService(ctx, again, nil))
	b.expect(http.StatusNotFound, controller.Rejected)(b.BindRoute(ctx, routeOf(again, bindingA, "a.example"), nil))
}

// Whatever the order in which they are worked on, nothing is left.
func TestDeleteDuringItsPut(t *testing.T) { // S13, S14
	b := newTestbed(t)
	s := service(grants.ScopeOrg)
	b.created()(b.CreateService(ctx, s, nil))
	for range 20 {
		b.wait(time.Hour)
		var running sync.WaitGroup
		running.Go(func() {
			a, err := b.BindRoute(ctx, routeOf(s, bindingA, "a.example"), nil)
			if err != nil || a.Status != http.StatusCreated && a.Status != http.StatusConflict {
				t.Error(a, err)
			}
		})
		running.Go(func() {
			a, err := b.UnbindRoute(ctx, routeOf(s, bindingA, "a.example"))
			if err != nil || a.Status != http.StatusOK && a.Status != http.StatusGone {
				t.Error(a, err)
			}
		})
		running.Wait()
		require.Nil(t, b.cfg.Store.View().Access(bindingA))
		b.conflict()(b.BindRoute(ctx, routeOf(s, bindingA, "a.example"), nil))
		b.gone()(b.UnbindRoute(ctx, routeOf(s, bindingA, "a.example")))
	}
}

func TestAuditSaysWhoChangedWhatInWhichRequest(t *testing.T) {
	b := newTestbed(t)
	s := service(grants.ScopeOrg)
	vcap := func(r *http.Request) { r.Header.Set("X-Vcap-Request-Id", "vcap-1") }
	res, body := b.do("PUT", instancePath, `{"service_id":"`+s.OfferingID+`","plan_id":"`+s.PlanID+`","organization_guid":"`+home.OrgGUID+`","space_guid":"`+home.GUID+`","parameters":{"allow":["`+app1+`"]}}`, vcap)
	require.Equal(t, http.StatusCreated, res.StatusCode, body)
	bound := b.created()(b.BindRoute(ctx, routeOf(s, bindingA, "a.example"), nil))
	unbound := b.ok()(b.UnbindRoute(ctx, routeOf(s, bindingA, "a.example")))

	list, total, err := b.cfg.Store.Audit(ctx, store.AuditFilter{}, store.Page{Descending: true})
	require.NoError(t, err)
	require.Equal(t, 3, total)
	require.Equal(t, store.Cause{RequestID: "vcap-1", RequestIdentity: "request-1"}, list[2].Cause)
	require.JSONEq(t, `{"plan_id":"`+s.PlanID+`","plan":"org","org":"`+home.OrgGUID+`","space":"`+home.GUID+`","parameters":{"allow":["`+app1+`"]}}`, string(list[2].After))
	require.Equal(t, "developer", list[1].By)
	require.Equal(t, bound.RequestID, list[1].RequestIdentity)
	require.JSONEq(t, `{"route":"a.example","parameters":{}}`, string(list[1].After))
	require.Equal(t, "delete", list[0].Action)
	require.Equal(t, unbound.RequestID, list[0].RequestIdentity)
	for _, entry := range list {
		require.NotContains(t, string(entry.Before)+string(entry.After), b.cfg.Tokens.Token(bindingA))
	}
}

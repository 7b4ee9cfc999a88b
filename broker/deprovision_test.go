package broker_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/broker"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/playground/controller"
)

func TestDeprovision(t *testing.T) { // S17, S18
	b := newTestbed(t)
	s := service(grants.ScopeOrg)
	b.created()(b.CreateService(ctx, s, nil))
	b.created()(b.BindRoute(ctx, routeOf(s, bindingA, "a.example"), nil))
	b.created()(b.BindRoute(ctx, routeOf(s, bindingB, "b.example"), nil))
	b.ok()(b.UpdateService(ctx, s, controller.Change{PlanID: broker.PlanID(grants.ScopeAny)}))
	for _, query := range []string{"", "?service_id=" + s.OfferingID, "?plan_id=" + s.PlanID, "?service_id=x&plan_id=" + s.PlanID, "?plan_id=x&service_id=" + s.OfferingID} {
		refused(t, 400, "")(b.do("DELETE", instancePath+query, ""))
		refused(t, 400, "")(b.do("DELETE", bindingPath+query, ""))
	}
	// Both with the plan as it was before.
	require.JSONEq(t, "{}", string(b.ok()(b.UnbindRoute(ctx, routeOf(s, bindingA, ""))).Body))
	require.JSONEq(t, "{}", string(b.ok()(b.DeleteService(ctx, s)).Body))
	b.gone()(b.DeleteService(ctx, s))
	b.gone()(b.UnbindRoute(ctx, routeOf(s, bindingB, "")))
	b.expect(http.StatusNotFound, controller.Rejected)(b.FetchService(ctx, s))
	require.Nil(t, b.cfg.Store.View().Access(bindingB), "what was still bound went along")
}

func TestEverythingSynchronousHasSucceeded(t *testing.T) {
	b := newTestbed(t)
	s := service(grants.ScopeOrg)
	b.created()(b.CreateService(ctx, s, nil))
	b.created()(b.BindRoute(ctx, routeOf(s, bindingA, "a.example"), nil))
	for _, path := range []string{instancePath, bindingPath} {
		for _, query := range []string{"", "?operation=x&plan_id=y&service_id=z"} {
			res, body := b.do("GET", path+"/last_operation"+query, "")
			require.Equal(t, http.StatusOK, res.StatusCode)
			require.JSONEq(t, `{"state":"succeeded"}`, body)
		}
	}
	for _, path := range []string{"/v2/service_instances/x", "/v2/service_instances/x/service_bindings/" + bindingA, instancePath + "/service_bindings/x", instancePath + "/service_bindings/a%2fb", "/v2/service_instances/%00"} {
		refused(t, http.StatusNotFound, "does not exist in this broker")(b.do("GET", path, ""))
		refused(t, http.StatusNotFound, "does not exist in this broker")(b.do("GET", path+"/last_operation", ""))
	}
}

func TestManyAtOnce(t *testing.T) { // S15
	b := newTestbed(t)
	s := service(grants.ScopeOrg)
	var mu sync.Mutex
	statuses := map[string]int{}
	count := func(what string, a *controller.Answer, err error) {
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			t.Error(err)
			return
		}
		statuses[fmt.Sprintf("%s %d", what, a.Status)]++
	}
	var running sync.WaitGroup
	for range 8 {
		running.Go(func() { a, err := b.CreateService(ctx, s, nil); count("create", a, err) })
	}
	running.Wait()
	for n := range 8 {
		running.Go(func() { a, err := b.BindRoute(ctx, routeOf(s, bindingA, "a.example"), nil); count("same bind", a, err) })
		running.Go(func() {
			a, err := b.BindRoute(ctx, routeOf(s, fmt.Sprintf("b%d", n), fmt.Sprintf("b%d.example", n)), nil)
			count("other bind", a, err)
		})
		running.Go(func() {
			a, err := b.UpdateService(ctx, s, change(fmt.Sprintf(`{"allow_add":["cf:app:d76446a1-f429-4444-8797-00000000000%d"]}`, n+1)))
			count("update", a, err)
		})
	}
	running.Wait()
	for range 8 {
		running.Go(func() { a, err := b.UnbindRoute(ctx, routeOf(s, bindingA, "")); count("unbind", a, err) })
	}
	running.Wait()
	require.Equal(t, map[string]int{
		"create 201": 1, "create 200": 7, "same bind 201": 1, "same bind 200": 7, "other bind 201": 8, "update 200": 8, "unbind 200": 1, "unbind 410": 7,
	}, statuses)
	var got struct{ Allow []json.RawMessage }
	require.NoError(t, json.Unmarshal([]byte(b.parametersOf(s)), &got))
	require.Len(t, got.Allow, 8, "no update was lost")
}

package acceptance_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground/controller"
	"github.com/mtls-authz/mtls-authz/playground/controller/faults"
)

// Every gateway is gone between any two steps, killed or stopped in turns.
func TestS20NothingIsLostWhenTheGatewaysRestartBetweenAnyTwoSteps(t *testing.T) {
	t.Parallel()
	for database, state := range databases {
		for name, first := range map[string]int{"SIGKILL first": 0, "SIGTERM first": 1} {
			t.Run(database+", "+name, func(t *testing.T) {
				t.Parallel()
				c := state.own(t).play(t)
				restarts := first
				restartedSequence(c, func() {
					restarts++
					for i := range c.servers {
						c.restart(i, restarts%2 == 1)
					}
				})
			})
		}
	}
}

// restart ends a gateway and starts another on the same state.
func (c *cloud) restart(i int, kill bool) {
	c.t.Helper()
	end := c.stop
	if kill {
		end = c.kill
	}
	require.NoError(c.t, end(i))
	require.NoError(c.t, c.start(i))
}

func restartedSequence(c *cloud, restart func()) {
	ctx, s := c.t.Context(), c.created(`{"allow":["cf:app:$frontend"],"labels":{"team":"a"}}`)
	restart()
	c.is(200)(c.CreateService(ctx, s, given(`{"allow":["cf:app:$frontend"],"labels":{"team":"a"}}`)))
	c.has(s)
	b := c.bound(s, "")
	before := c.seen(s, b)
	restart()
	c.reachesNow(b, allowed, noMatch)
	assert.Equal(c.t, before, c.seen(s, b))
	assert.Equal(c.t, b.url, c.urlOf(b.Binding, c.is(200)(c.BindRoute(ctx, b.Binding, nil))).url)
	c.is(200)(c.UpdateService(ctx, s, controller.Change{Name: "another-name"}))
	c.is(200)(c.UpdateService(ctx, s, controller.Change{Parameters: given(onlyMonitoring), PlanID: planAny}))
	restart()
	c.reachesNow(b, noMatch, allowed)
	assert.Equal(c.t, planAny, c.instance(s).PlanID)
	assert.Equal(c.t, map[string]string{"team": "a"}, c.instance(s).Parameters.Labels)
	s.PlanID = planAny

	// A bind whose answer was lost, and one that never arrived.
	lost, late := c.binding(s), c.binding(s)
	held := &faults.Late{}
	c.network.Next(faults.LoseAnswer, held.Hold)
	c.lost(c.BindRoute(ctx, lost, nil))
	c.lost(c.BindRoute(ctx, late, nil))
	restart()
	orphan, again := c.there(lost), c.retry(lost, "")
	restart()
	require.NoError(c.t, c.RunJobs(ctx))
	restart()
	status, err := held.Arrive()
	require.NoError(c.t, err)
	assert.Equal(c.t, 409, status, "what was deleted is remembered")
	c.is(409)(c.BindRoute(ctx, lost, nil))
	c.goneBinding(lost)
	c.goneBinding(late)
	c.closed(orphan)
	c.reachesNow(again, noMatch, allowed)
	c.has(s, b, again)

	c.is(200)(c.UnbindRoute(ctx, b.Binding))
	restart()
	c.closed(b)
	c.goneBinding(b.Binding)
	c.is(200)(c.DeleteService(ctx, s))
	restart()
	c.closed(again)
	c.gone(s)
	c.is(409)(c.CreateService(ctx, s, nil))
}

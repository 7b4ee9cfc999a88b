package acceptance_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground/controller"
	"github.com/mtls-authz/mtls-authz/playground/controller/faults"
)

func TestSequencesOfLateRequests(t *testing.T) {
	t.Parallel()
	onBoth(t, sequences{
		"S13 a DELETE that overtakes its bind leaves no orphan":                overtakenBind,
		"S13 a late bind that still arrives before its DELETE is deleted":      lateBind,
		"S13 a DELETE during a slow bind leaves no orphan":                     slowBind,
		"S13 a DELETE and its bind at the same time leave no orphan":           racingBind,
		"S14 a DELETE that overtakes its create-service leaves no orphan":      overtakenService,
		"S14 a DELETE during a slow create-service leaves no orphan":           slowService,
		"S14 a DELETE and its create-service at the same time leave no orphan": racingService,
		"S14 a failed create-service is repeated under the same name":          sameName,
		"S14 a late update of a service instance that was deleted is nothing":  lateUpdate,
	})
}

func overtakenBind(c *cloud) {
	ctx, s := c.t.Context(), c.created(onlyFrontend)
	old := c.binding(s)
	late := &faults.Late{}
	c.network.Next(late.Hold)
	c.lost(c.BindRoute(ctx, old, nil))
	c.is(410)(c.UnbindRoute(ctx, old))
	require.NoError(c.t, c.RunJobs(ctx)) // and once more
	made := c.retry(old, "")
	for range 2 * len(c.servers) { // at every gateway
		status, err := late.Arrive()
		require.NoError(c.t, err)
		assert.Equal(c.t, 409, status, "410 or 5xx would start another DELETE")
	}
	c.goneBinding(old)
	c.has(s, made)
	c.reachesNow(made, allowed, noMatch)
}

func lateBind(c *cloud) {
	ctx, s := c.t.Context(), c.created(onlyFrontend)
	old := c.binding(s)
	late := &faults.Late{}
	c.network.Next(late.Hold)
	c.lost(c.BindRoute(ctx, old, nil))
	made := c.retry(old, "")
	status, err := late.Arrive()
	require.NoError(c.t, err)
	assert.Equal(c.t, 201, status)
	orphan := c.there(old)
	c.reachesNow(orphan, allowed, noMatch)
	c.has(s, made, orphan)
	require.NoError(c.t, c.RunJobs(ctx))
	c.closed(orphan)
	status, err = late.Arrive() // a router repeats what it could not deliver
	require.NoError(c.t, err)
	assert.Equal(c.t, 409, status)
	c.has(s, made)
	c.reachesNow(made, allowed, noMatch)
}

// during sends a create whose body is slow, runs f meanwhile, and returns the
// answer to the create.
func (c *cloud) during(create func() (*controller.Answer, error), f func()) *controller.Answer {
	c.t.Helper()
	slow := faults.NewSlow()
	c.network.Next(slow.Trickle)
	var answer *controller.Answer
	var err error
	var running sync.WaitGroup
	running.Go(func() { answer, err = create() })
	<-slow.Begun()
	f()
	slow.Finish()
	running.Wait()
	require.NoError(c.t, err)
	return answer
}

func slowBind(c *cloud) {
	ctx, s := c.t.Context(), c.created(onlyFrontend)
	b := c.binding(s)
	create := func() (*controller.Answer, error) { return c.BindRoute(ctx, b, nil) }
	c.is(409)(c.during(create, func() { c.is(410)(c.UnbindRoute(ctx, b)) }), nil)
	c.goneBinding(b)
	// A slow bind that nobody deletes is as good as any.
	b = c.binding(s)
	answer := c.is(201)(c.during(create, func() { c.is(404)(c.FetchBinding(ctx, b)) }), nil)
	c.reachesNow(c.urlOf(b, answer), allowed, noMatch)
	// Its instance deleted meanwhile: nothing to bind to.
	b = c.binding(s)
	c.is(404)(c.during(create, func() { c.is(200)(c.DeleteService(ctx, s)) }), nil)
	c.goneBinding(b)
	c.gone(s)
}

func racingBind(c *cloud) {
	s := c.created(onlyFrontend)
	for range 10 {
		b := c.binding(s)
		c.race(
			func() (*controller.Answer, error) { return c.BindRoute(c.t.Context(), b, nil) },
			func() (*controller.Answer, error) { return c.UnbindRoute(c.t.Context(), b) })
		c.goneBinding(b)
	}
	c.has(s)
}

// race sends a create and its DELETE at once: either may be the first.
func (c *cloud) race(create, remove func() (*controller.Answer, error)) {
	c.t.Helper()
	created, removed := c.together(create, remove)
	order := [2]int{created.Status, removed.Status}
	assert.Contains(c.t, [][2]int{{201, 200}, {409, 410}}, order)
}

// together sends two requests at once.
func (c *cloud) together(first, second func() (*controller.Answer, error)) (a, b *controller.Answer) {
	c.t.Helper()
	answers := c.allAtOnce(first, second)
	return answers[0], answers[1]
}

func overtakenService(c *cloud) {
	ctx, s := c.t.Context(), c.service()
	late := &faults.Late{}
	c.network.Next(late.Hold)
	c.lost(c.CreateService(ctx, s, given(onlyFrontend)))
	require.NoError(c.t, c.RunJobs(ctx))
	for range 2 * len(c.servers) {
		status, err := late.Arrive()
		require.NoError(c.t, err)
		assert.Equal(c.t, 409, status)
	}
	c.gone(s)
	c.is(404)(c.BindRoute(ctx, c.binding(s), nil))
}

func slowService(c *cloud) {
	ctx, s := c.t.Context(), c.service()
	create := func() (*controller.Answer, error) { return c.CreateService(ctx, s, given(onlyFrontend)) }
	c.is(409)(c.during(create, func() { c.is(410)(c.DeleteService(ctx, s)) }), nil)
	c.gone(s)
	s = c.service()
	c.is(201)(c.during(create, func() { c.is(404)(c.FetchService(ctx, s)) }), nil)
	c.has(s)
	// The same create overtakes itself.
	s = c.service()
	c.is(200)(c.during(create, func() { c.is(201)(create()) }), nil)
	c.has(s)
}

func racingService(c *cloud) {
	for range 10 {
		s := c.service()
		c.race(
			func() (*controller.Answer, error) { return c.CreateService(c.t.Context(), s, given(onlyFrontend)) },
			func() (*controller.Answer, error) { return c.DeleteService(c.t.Context(), s) })
		c.gone(s)
	}
}

// sameName: another id, and a DELETE of the old one, which the broker has refused
// or made.
func sameName(c *cloud) {
	ctx := c.t.Context()
	refused, made := c.service(), c.service()
	c.is(400)(c.CreateService(ctx, refused, given(`{"allow":7}`)))
	c.DiscardService(refused)
	c.is(201)(c.CreateService(ctx, made, given(onlyFrontend)))
	require.NoError(c.t, c.RunJobs(ctx))
	b := c.bound(made, "")
	c.gone(refused)
	c.is(409)(c.CreateService(ctx, refused, given(onlyFrontend)))
	c.has(made, b)
	c.reachesNow(b, allowed, noMatch)
}

func lateUpdate(c *cloud) {
	ctx, s := c.t.Context(), c.created(onlyFrontend)
	b := c.bound(s, "")
	late := &faults.Late{}
	c.network.Next(late.Hold)
	_, err := c.UpdateService(ctx, s, controller.Change{Parameters: given(`{"allow":["cf:any"]}`)})
	require.Error(c.t, err)
	c.reachesNow(b, allowed, noMatch)
	c.is(200)(c.DeleteService(ctx, s))
	status, err := late.Arrive()
	require.NoError(c.t, err)
	assert.Equal(c.t, 404, status)
	c.gone(s)
	c.closed(b)
}

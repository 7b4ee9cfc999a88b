package acceptance_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground/controller"
	"github.com/mtls-authz/mtls-authz/playground/controller/faults"
)

func TestSequencesOfLostAnswers(t *testing.T) {
	t.Parallel()
	onBoth(t, sequences{
		"S12 a bind whose answer was lost is retried under a new id before the old one is deleted": func(c *cloud) { retryFirst(c, faults.LoseAnswer) },
		"S12 a bind whose answer was lost is retried under a new id after the old one is deleted":  func(c *cloud) { deleteFirst(c, faults.LoseAnswer) },
		"S12 a bind that was done and answered 502 is retried before the old one is deleted":       func(c *cloud) { retryFirst(c, badGateway) },
		"S12 a bind that was done and answered 502 is retried after the old one is deleted":        func(c *cloud) { deleteFirst(c, badGateway) },
		"S12 a bind that was done and answered in half is retried before the old one is deleted":   func(c *cloud) { retryFirst(c, halfAnswer) },
		"S12 a bind whose connection broke is deleted only when the user tries again":              brokenConnection,
		"S12 binds of one route that fail again and again leave one binding":                       manyRetries,
		"S12 a create-service whose answer was lost is retried under a new id in either order":     retryService,
		"S12 an unbind and a delete-service whose answers were lost are repeated":                  lostDeletes,
	})
}

var (
	badGateway = faults.Instead(502, "502 Bad Gateway: Registered endpoint failed to handle the request.\n")
	halfAnswer = faults.Instead(201, `{"route_service_url":"https:`)
)

// orphaned asserts that a create failed so that Cloud Controller deletes.
func (c *cloud) orphaned(b controller.Binding, answer *controller.Answer, err error) {
	c.t.Helper()
	if err != nil {
		c.lost(answer, err)
	} else {
		require.Equal(c.t, controller.Orphaned, answer.Outcome())
	}
	require.Equal(c.t, []string{"binding " + b.GUID}, c.Jobs())
}

// retry is cf bind-route-service again: another id for the same route.
func (c *cloud) retry(old controller.Binding, parameters string) bound {
	c.t.Helper()
	b := old
	b.GUID = uuid.NewString()
	return c.urlOf(b, c.is(201)(c.BindRoute(c.t.Context(), b, given(parameters))))
}

// there is the binding that Cloud Controller does not know of.
func (c *cloud) there(b controller.Binding) bound {
	c.t.Helper()
	return c.urlOf(b, c.is(200)(c.FetchBinding(c.t.Context(), b)))
}

func retryFirst(c *cloud, fault faults.Fault) {
	ctx, s := c.t.Context(), c.created(onlyFrontend)
	other := c.bound(s, "")
	old := c.binding(s)
	c.network.Next(fault)
	answer, err := c.BindRoute(ctx, old, given(onlyMonitoring))
	c.orphaned(old, answer, err)
	orphan := c.there(old)

	made := c.retry(old, onlyMonitoring)
	assert.NotEqual(c.t, orphan.url, made.url)
	c.reachesNow(made, allowed, allowed)
	before := c.seen(s, made, other)
	c.Discard(old)                       // the second job for the same id
	require.NoError(c.t, c.RunJobs(ctx)) // 200, then 410
	assert.Empty(c.t, c.Jobs())
	c.closed(orphan)
	c.goneBinding(old)
	assert.NotEqual(c.t, before, c.seen(s, made, other), "one route less")
	c.has(s, made, other)
	c.reachesNow(made, allowed, allowed)
	c.reachesNow(other, allowed, noMatch)
	c.is(200)(c.UpdateService(ctx, s, controller.Change{Parameters: given(`{"allow":null}`)}))
	c.reaches(made, noMatch, allowed)
}

func deleteFirst(c *cloud, fault faults.Fault) {
	ctx, s := c.t.Context(), c.created(onlyFrontend)
	old := c.binding(s)
	c.network.Next(fault)
	answer, err := c.BindRoute(ctx, old, nil)
	c.orphaned(old, answer, err)
	orphan := c.there(old)
	require.NoError(c.t, c.RunJobs(ctx))
	c.closed(orphan)
	made := c.retry(old, "")
	c.reachesNow(made, allowed, noMatch)
	c.Discard(old)
	require.NoError(c.t, c.RunJobs(ctx))
	c.goneBinding(old)
	c.closed(orphan)
	c.has(s, made)
	c.reachesNow(made, allowed, noMatch)
}

// brokenConnection: after a reset Cloud Controller sends no DELETE, and the
// binding that it does not know of protects its route until the user tries again.
func brokenConnection(c *cloud) {
	ctx, s := c.t.Context(), c.created(onlyFrontend)
	old := c.binding(s)
	c.network.Next(faults.Reset)
	_, err := c.BindRoute(ctx, old, nil)
	var unanswered *controller.Unanswered
	require.ErrorAs(c.t, err, &unanswered)
	require.Equal(c.t, controller.Failed, unanswered.Outcome())
	require.Empty(c.t, c.Jobs())
	orphan := c.there(old)
	c.reachesNow(orphan, allowed, noMatch)
	c.Discard(old)
	made := c.retry(old, "")
	c.reachesNow(made, allowed, noMatch)
	require.NoError(c.t, c.RunJobs(ctx))
	c.closed(orphan)
	c.has(s, made)
	c.reachesNow(made, allowed, noMatch)
}

func manyRetries(c *cloud) {
	ctx, s := c.t.Context(), c.created(onlyFrontend)
	b := c.binding(s)
	var orphans []bound
	for _, fault := range []faults.Fault{faults.LoseAnswer, badGateway, halfAnswer, faults.LoseAnswer} {
		b.GUID = uuid.NewString()
		c.network.Next(fault)
		_, _ = c.BindRoute(ctx, b, nil)
		orphans = append(orphans, c.there(b))
	}
	require.Len(c.t, c.Jobs(), len(orphans))
	c.network.Next(faults.Lose, badGateway) // the first two deletions fail as well
	require.Error(c.t, c.RunJobs(ctx))
	made := c.retry(b, "")
	require.Len(c.t, c.Jobs(), 2)
	require.NoError(c.t, c.RunJobs(ctx))
	for _, orphan := range orphans {
		c.closed(orphan)
		c.goneBinding(orphan.Binding)
	}
	c.has(s, made)
	c.reachesNow(made, allowed, noMatch)
}

func retryService(c *cloud) {
	ctx := c.t.Context()
	for _, deleteFirst := range []bool{true, false} {
		for _, fault := range []faults.Fault{faults.LoseAnswer, badGateway} {
			old, again := c.service(), c.service()
			c.network.Next(fault)
			_, _ = c.CreateService(ctx, old, given(onlyFrontend))
			require.Equal(c.t, []string{"service instance " + old.GUID}, c.Jobs())
			c.is(200)(c.FetchService(ctx, old))
			if deleteFirst {
				require.NoError(c.t, c.RunJobs(ctx))
			}
			c.is(201)(c.CreateService(ctx, again, given(onlyFrontend)))
			b := c.bound(again, "")
			c.DiscardService(old)
			require.NoError(c.t, c.RunJobs(ctx))
			c.gone(old)
			c.has(again, b)
			c.reachesNow(b, allowed, noMatch)
		}
	}
}

// lostDeletes: Cloud Controller keeps what it could not delete, and the user
// deletes again.
func lostDeletes(c *cloud) {
	ctx, s := c.t.Context(), c.created(onlyFrontend)
	for _, fault := range []faults.Fault{faults.LoseAnswer, badGateway, faults.Reset, faults.Repeat} {
		b := c.bound(s, "")
		c.network.Next(fault)
		_, _ = c.UnbindRoute(ctx, b.Binding)
		assert.Empty(c.t, c.Jobs(), "a delete is never mitigated")
		c.closed(b)
		c.is(410)(c.UnbindRoute(ctx, b.Binding))
	}
	c.network.Next(faults.LoseAnswer)
	_, err := c.DeleteService(ctx, s)
	require.Error(c.t, err)
	c.gone(s)
}

package acceptance_test

import (
	"encoding/json"
	"fmt"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground/controller"
)

// atOnce is how many requests are sent at once, in turns to the gateways. Changes
// wait for each other, five seconds at most, also on a machine that is busy.
const atOnce = 4

func TestSequencesInParallel(t *testing.T) {
	t.Parallel()
	onBoth(t, sequences{
		"S15 the same bind many times at once is one 201, and the same URL for all":       sameBinds,
		"S15 binds of one id with different content at once: one wins":                    differentBinds,
		"S15 binds of many routes of one instance at once are all bound":                  manyBinds,
		"S15 the same create-service many times at once is one 201":                       sameCreates,
		"S15 updates at once are all applied":                                             manyUpdates,
		"S15 the same unbind many times at once is one 200":                               sameUnbinds,
		"S15 binds while their instance is deleted leave nothing":                         bindsDuringDelete,
		"S15 updates and unbinds of one instance at once are both in force when answered": updatesAndUnbinds,
	})
}

// allAtOnce sends requests at once.
func (c *cloud) allAtOnce(requests ...func() (*controller.Answer, error)) []*controller.Answer {
	c.t.Helper()
	answers, problems := make([]*controller.Answer, len(requests)), make([]error, len(requests))
	start := make(chan struct{})
	var running sync.WaitGroup
	for i, send := range requests {
		running.Go(func() {
			<-start
			answers[i], problems[i] = send()
		})
	}
	close(start)
	running.Wait()
	for i := range requests {
		require.NoError(c.t, problems[i])
		c.sane(answers[i])
	}
	return answers
}

// count sends a request so many times at once and counts the statuses.
func (c *cloud) count(n int, send func(i int) (*controller.Answer, error)) (statuses map[int]int, answers []*controller.Answer) {
	c.t.Helper()
	requests := make([]func() (*controller.Answer, error), n)
	for i := range requests {
		requests[i] = func() (*controller.Answer, error) { return send(i) }
	}
	answers = c.allAtOnce(requests...)
	statuses = map[int]int{}
	for _, answer := range answers {
		statuses[answer.Status]++
	}
	return statuses, answers
}

func sameBinds(c *cloud) {
	s := c.created(onlyFrontend)
	for range 5 {
		b := c.binding(s)
		statuses, answers := c.count(atOnce, func(int) (*controller.Answer, error) { return c.BindRoute(c.t.Context(), b, nil) })
		require.Equal(c.t, map[int]int{201: 1, 200: atOnce - 1}, statuses)
		made := c.urlOf(b, answers[0])
		for _, answer := range answers {
			assert.Equal(c.t, made.url, c.urlOf(b, answer).url)
		}
		c.reachesNow(made, allowed, noMatch)
		c.has(s, made)
		c.is(200)(c.UnbindRoute(c.t.Context(), b))
	}
}

func differentBinds(c *cloud) {
	s := c.created("")
	for range 5 {
		b := c.binding(s)
		parameters := []string{onlyFrontend, onlyMonitoring}
		statuses, answers := c.count(atOnce, func(i int) (*controller.Answer, error) {
			return c.BindRoute(c.t.Context(), b, given(parameters[i%2]))
		})
		require.Equal(c.t, map[int]int{201: 1, 200: atOnce/2 - 1, 409: atOnce / 2}, statuses)
		for i, answer := range answers {
			if answer.Status != 201 {
				continue
			}
			if made := c.urlOf(b, answer); i%2 == 0 {
				c.reachesNow(made, allowed, noMatch)
			} else {
				c.reachesNow(made, noMatch, allowed)
			}
		}
	}
}

func manyBinds(c *cloud) {
	s := c.created(onlyFrontend)
	bindings := make([]controller.Binding, 2*atOnce)
	for i := range bindings {
		bindings[i] = c.binding(s)
	}
	statuses, answers := c.count(len(bindings), func(i int) (*controller.Answer, error) { return c.BindRoute(c.t.Context(), bindings[i], nil) })
	require.Equal(c.t, map[int]int{201: len(bindings)}, statuses)
	made := make([]bound, len(bindings))
	for i, answer := range answers {
		made[i] = c.urlOf(bindings[i], answer)
		c.reachesNow(made[i], allowed, noMatch)
	}
	c.has(s, made...)
}

func sameCreates(c *cloud) {
	for range 5 {
		s := c.service()
		statuses, _ := c.count(atOnce, func(int) (*controller.Answer, error) { return c.CreateService(c.t.Context(), s, given(onlyFrontend)) })
		require.Equal(c.t, map[int]int{201: 1, 200: atOnce - 1}, statuses)
		c.has(s)
	}
}

func manyUpdates(c *cloud) {
	s := c.created(`{"allow":["cf:app:$monitoring"]}`)
	b := c.bound(s, "")
	statuses, _ := c.count(atOnce, func(i int) (*controller.Answer, error) {
		add := fmt.Sprintf(`{"allow_add":["cf:app:%s"],"labels":{"update%d":"yes"}}`, uuid.NewString(), i)
		return c.UpdateService(c.t.Context(), s, controller.Change{Parameters: json.RawMessage(add)})
	})
	require.Equal(c.t, map[int]int{200: atOnce}, statuses)
	got := c.instance(s).Parameters
	var allow []string
	require.NoError(c.t, json.Unmarshal(got.Allow, &allow))
	assert.Len(c.t, allow, 1+atOnce, "no update was lost")
	assert.Len(c.t, got.Labels, atOnce)
	c.reachesNow(b, noMatch, allowed)
}

func sameUnbinds(c *cloud) {
	s := c.created(onlyFrontend)
	for range 5 {
		b := c.bound(s, "")
		statuses, _ := c.count(atOnce, func(i int) (*controller.Answer, error) {
			if i%2 == 0 {
				return c.DeleteRoute(c.t.Context(), b.Binding)
			}
			return c.UnbindRoute(c.t.Context(), b.Binding)
		})
		require.Equal(c.t, map[int]int{200: 1, 410: atOnce - 1}, statuses)
		c.closed(b)
	}
	c.has(s)
}

func bindsDuringDelete(c *cloud) {
	ctx := c.t.Context()
	for range 5 {
		s := c.created(onlyFrontend)
		bindings := make([]controller.Binding, atOnce)
		for i := range bindings {
			bindings[i] = c.binding(s)
		}
		statuses, answers := c.count(atOnce+1, func(i int) (*controller.Answer, error) {
			if i == atOnce {
				return c.DeleteService(ctx, s)
			}
			return c.BindRoute(ctx, bindings[i], nil)
		})
		require.Equal(c.t, map[int]int{200: 1, 201: statuses[201], 404: atOnce - statuses[201]}, nonZero(statuses, 201, 404))
		c.gone(s)
		for i, answer := range answers {
			if answer.Status == 201 {
				b := c.urlOf(bindings[i], answer)
				c.closed(b)
				c.goneBinding(b.Binding)
			}
		}
	}
}

// nonZero has these statuses even if there were none.
func nonZero(statuses map[int]int, also ...int) map[int]int {
	for _, status := range also {
		statuses[status] += 0
	}
	return statuses
}

func updatesAndUnbinds(c *cloud) {
	ctx, s := c.t.Context(), c.created(onlyFrontend)
	for range 5 {
		kept, gone := c.bound(s, ""), c.bound(s, "")
		c.together(
			func() (*controller.Answer, error) {
				return c.UpdateService(ctx, s, controller.Change{Parameters: given(onlyMonitoring)})
			},
			func() (*controller.Answer, error) { return c.UnbindRoute(ctx, gone.Binding) })
		c.soon(kept, noMatch, allowed)
		c.soon(gone, unbound, unbound)
		c.has(s, kept)
		c.is(200)(c.UnbindRoute(ctx, kept.Binding))
		c.is(200)(c.UpdateService(ctx, s, controller.Change{Parameters: given(onlyFrontend)}))
	}
}

package load_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/acceptance/peers/load"
)

func callers(n int, call load.Caller) []load.Caller {
	list := make([]load.Caller, n)
	for i := range list {
		list[i] = call
	}
	return list
}

func TestAtARateEachRequestIsSentOnce(t *testing.T) {
	var sent atomic.Int64
	result, err := load.Run(t.Context(), callers(4, func(context.Context) error { sent.Add(1); return nil }), 100, 250*time.Millisecond)
	require.NoError(t, err)
	assert.Equal(t, 25, result.Requests, "those that were due, however late")
	assert.EqualValues(t, 25, sent.Load())
}

// A request that waits for the one before is as late as its caller sees it.
func TestLatencyCountsFromWhenARequestWasDue(t *testing.T) {
	const one = 20 * time.Millisecond
	result, err := load.Run(t.Context(), callers(1, func(context.Context) error { time.Sleep(one); return nil }), 100, 100*time.Millisecond)
	require.NoError(t, err)
	assert.Equal(t, 10, result.Requests)
	assert.GreaterOrEqual(t, result.Quantile(1), 10*one-90*time.Millisecond)
}

func TestAtFullSpeedACallerSendsOneAfterTheOther(t *testing.T) {
	const all = 60
	enough := errors.New("enough")
	var sent atomic.Int64
	var list []load.Caller
	for range 3 {
		var inside atomic.Bool
		list = append(list, func(context.Context) error {
			assert.True(t, inside.CompareAndSwap(false, true), "two requests of one caller at a time")
			defer inside.Store(false)
			time.Sleep(time.Millisecond)
			if sent.Add(1) > all {
				return enough
			}
			return nil
		})
	}
	result, err := load.Run(t.Context(), list, 0, time.Hour)
	assert.ErrorIs(t, err, enough)
	assert.Equal(t, all, result.Requests)
	assert.GreaterOrEqual(t, result.Quantile(0), time.Millisecond)
	assert.LessOrEqual(t, result.Quantile(0.5), result.Quantile(1))
}

func TestTheFirstWrongAnswerEndsAll(t *testing.T) {
	wrong := errors.New("status 403")
	_, err := load.Run(t.Context(), callers(3, func(context.Context) error { return wrong }), 0, time.Hour)
	assert.ErrorIs(t, err, wrong)
}

func TestNoRequestsHaveNoLatency(t *testing.T) {
	assert.Zero(t, load.Result{}.Quantile(0.5))
}

package load_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/mtls-authz/mtls-authz/gateway/load"
)

func TestPlacesAreBoundedInAll(t *testing.T) {
	l := load.New(2, 2)
	assert.True(t, l.Enter())
	assert.True(t, l.Enter())
	assert.False(t, l.Enter())
	assert.EqualValues(t, 2, l.InFlight(), "who was turned away takes no place")
	l.Leave()
	assert.True(t, l.Enter())
}

func TestOneRouteCannotTakeTheOthersPlaces(t *testing.T) {
	l := load.New(10, 1)
	assert.True(t, l.EnterRoute("noisy"))
	assert.False(t, l.EnterRoute("noisy"))
	assert.True(t, l.EnterRoute("quiet"))
	l.LeaveRoute("noisy")
	assert.True(t, l.EnterRoute("noisy"))
}

func TestCountsSurviveParallelUse(t *testing.T) {
	l := load.New(1000, 1000)
	var group sync.WaitGroup
	for range 100 {
		group.Go(func() {
			for range 100 {
				assert.True(t, l.Enter())
				assert.True(t, l.EnterRoute("r"))
				l.LeaveRoute("r")
				l.Leave()
			}
		})
	}
	group.Wait()
	assert.Zero(t, l.InFlight())
}

package tally_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/mtls-authz/mtls-authz/cache/tally"
	"github.com/mtls-authz/mtls-authz/rego"
	"github.com/mtls-authz/mtls-authz/rego/reads"
)

func TestTalliesAreByPolicyAndShape(t *testing.T) {
	var all tally.Tallies
	one, other := &reads.Key{Shape: 1}, &reads.Key{Shape: reads.Shapes}
	var counting sync.WaitGroup
	for range 8 {
		counting.Go(func() {
			for range 100 {
				all.Of([32]byte{1}, one).Count(rego.Local)
			}
		})
	}
	counting.Wait()
	all.Of([32]byte{1}, other).Count(rego.Miss)
	assert.Len(t, all.Policies(), 1)
	shapes := all.Policies()[0].Shapes()
	assert.Len(t, shapes, 2)
	assert.Same(t, one, shapes[0].Key())
	assert.Equal(t, uint64(800), shapes[0].Of(rego.Local))
	assert.Equal(t, uint64(1), shapes[1].Asked())

	for n := byte(2); n < 50; n++ {
		all.Of([32]byte{n}, one)
	}
	assert.Len(t, all.Policies(), 3, "only the policies seen last")
	assert.Equal(t, byte(49), all.Policies()[0].Digest[0])
}

// The first evaluation takes ten times the others, and does not count for long.
func TestAnEstimateForgetsOutliers(t *testing.T) {
	var e tally.Estimate
	assert.Zero(t, e.Value())
	e.Add(time.Millisecond)
	assert.Equal(t, time.Millisecond, e.Value())
	for range 7 {
		e.Add(100 * time.Microsecond)
	}
	assert.Less(t, e.Value(), 120*time.Microsecond)
	e.Add(time.Second)
	e.Add(100 * time.Microsecond)
	assert.Less(t, e.Value(), 100*time.Millisecond)
	assert.Equal(t, int64(10), e.Samples())
}

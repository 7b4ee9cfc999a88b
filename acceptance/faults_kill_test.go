package acceptance_test

import (
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// killings are how often each test kills a gateway.
func killings() int {
	if heavy {
		return 100
	}
	return 5
}

// seedOf is the seed of a random test, MTLS_AUTHZ_SEED to play one again.
func seedOf(t *testing.T) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if given := os.Getenv("MTLS_AUTHZ_SEED"); given != "" {
		var err error
		seed, err = strconv.ParseUint(given, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("MTLS_AUTHZ_SEED=%d", seed)
	return seed
}

// What was acknowledged is there, what was not is there wholly or not at all and
// can be repeated; nothing else is there.
func TestAGatewayKilledInTheMidstOfChangesLosesNothingAndInventsNothing(t *testing.T) {
	t.Parallel()
	for database, state := range databases {
		t.Run(database, func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seedOf(t), 0))
			cluster := state.own(t)
			var developers []*developer
			for range 4 {
				developers = append(developers, newDeveloper(cluster.play(t), random.Uint64()))
			}
			for kill := range killings() {
				var working sync.WaitGroup
				for _, d := range developers {
					working.Go(d.work)
				}
				time.Sleep(time.Duration(random.Int64N(int64(80 * time.Millisecond))))
				victim := random.IntN(len(cluster.servers))
				require.NoError(t, cluster.kill(victim))
				for _, d := range developers {
					d.rest()
				}
				working.Wait()
				require.NoError(t, cluster.start(victim))
				for _, d := range developers {
					d.check()
				}
				if t.Failed() {
					t.Fatalf("after kill %d", kill+1)
				}
			}
			changes := int64(0)
			for _, d := range developers {
				changes += d.changes.Load()
				d.leave()
			}
			t.Logf("%d kills in %d changes", killings(), changes)
		})
	}
}

package acceptance_test

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The gateway uses the memory that Cloud Foundry gives an instance, and stays
// below it; whoever knows better says so in Go's own variables.
func TestMemoryOfAnInstance(t *testing.T) {
	t.Parallel()
	const none = 1 << 62 // more than there is
	for name, c := range map[string]struct {
		env       []string
		percent   float64
		limit     float64
		unlimited bool
	}{
		"of a manifest": {env: []string{"MEMORY_LIMIT=1g"}, percent: 200, limit: 0.8 * (1 << 30)},
		"not known":     {env: []string{"MEMORY_LIMIT="}, percent: 100, unlimited: true},
		"no such thing": {env: []string{"MEMORY_LIMIT=much"}, percent: 100, unlimited: true},
		"Go's own":      {env: []string{"MEMORY_LIMIT=1g", "GOGC=50", "GOMEMLIMIT=300MiB"}, percent: 50, limit: 300 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, setup{env: append([]string{"ROUTER_TRUST=assume"}, c.env...)})
			read := func(name string) float64 {
				value, err := strconv.ParseFloat(w.metric(t, name), 64)
				require.NoError(t, err)
				return value
			}
			assert.InDelta(t, c.percent, read("go_gc_gogc_percent"), 0)
			limit := read("go_gc_gomemlimit_bytes")
			if c.unlimited {
				assert.Greater(t, limit, float64(none))
				return
			}
			assert.InDelta(t, c.limit, limit, 1)
		})
	}
}

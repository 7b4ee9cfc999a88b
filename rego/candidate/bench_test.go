package candidate_test

import (
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/rego"
	"github.com/mtls-authz/mtls-authz/rego/candidate"
)

// BenchmarkObserve is what a candidate costs a request at the default share,
// evaluating in the background.
func BenchmarkObserve(b *testing.B) {
	policy := compiled(b, nil)
	c, err := candidate.New(candidate.Config{
		Policy: func() *rego.Policy { return policy }, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
	})
	require.NoError(b, err)
	go c.Run(b.Context())
	r := request(policy, access(b, backend, "cf:any"), "GET /api/v1/orders/17")
	decision := rego.Decision{Allow: true, Policy: "route:cf:any", Cache: rego.Local}
	b.ReportAllocs()
	for b.Loop() {
		c.Observe("6f1c1b1e-52a3-4a43-9d3f-8a2c7f1f5e11", r, decision)
	}
}

package recording_test

import (
	"fmt"
	"io"
	"testing"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/rego"
	"github.com/mtls-authz/mtls-authz/rego/recording"
)

// BenchmarkObserve is what recording costs a request, over a thousand routes;
// the target is 100 ns and one allocation.
func BenchmarkObserve(b *testing.B) {
	policy := compiled(b, nil)
	for _, routes := range []int{1, 1000} {
		b.Run(fmt.Sprintf("routes=%d", routes), func(b *testing.B) {
			requests := make([]*rego.Request, routes)
			for i := range requests {
				requests[i] = request(policy, access(b, fmt.Sprintf("app-%d.apps.identity", i), "cf:app:"+frontend), "GET /api/v1/orders/17")
			}
			decision := rego.Decision{Allow: true, Policy: "route:cf:app:" + frontend, Cache: rego.Local}
			r := recording.New(recording.Config{})
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				r.Observe("6f1c1b1e-52a3-4a43-9d3f-8a2c7f1f5e11", requests[i%routes], decision)
			}
		})
	}
}

// BenchmarkReadOut is the cost of one line about a route with 10,000 grants.
func BenchmarkReadOut(b *testing.B) {
	entries := make([]string, grants.MaxGrants)
	for i := range entries {
		entries[i] = fmt.Sprintf("cf:app:d76446a1-f429-4444-8797-%012d", i)
	}
	r := recording.New(recording.Config{})
	r.Observe("id", request(compiled(b, nil), access(b, backend, entries...), "GET /api/v1/orders/17"), rego.Decision{})
	b.ReportAllocs()
	for b.Loop() {
		if err := r.Write(io.Discard, recording.Filter{Limit: 1}); err != nil {
			b.Fatal(err)
		}
	}
}

package rego_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/rego"
)

// BenchmarkDecide is an uncached decision of the built-in policy that allows;
// the target is 60 µs whatever the number of grants.
func BenchmarkDecide(b *testing.B) {
	policy := compiled(b, nil)
	for _, shape := range []struct{ name, terms string }{
		{"plain", ``}, {"paths", `,"methods":["GET","HEAD"],"paths":["/metrics","/api/**"]`},
	} {
		for _, n := range []int{1, 10, 10_000} {
			b.Run(fmt.Sprintf("%s/grants=%d", shape.name, n), func(b *testing.B) {
				entries := []string{`{"source":"cf:app:` + frontend + `"` + shape.terms + `}`}
				for i := 1; i < n; i++ {
					entries = append(entries, fmt.Sprintf(`{"source":"cf:app:d76446a1-f429-4444-8797-%012d"%s}`, i, shape.terms))
				}
				benchmark(b, request(b, policy, "GET /api/v1/orders/17", entries...))
			})
		}
	}
}

// BenchmarkDecideWithChecks is the same with three small checks beside it.
func BenchmarkDecideWithChecks(b *testing.B) {
	policy := compiled(b, files{
		"a.rego":    "package site.check.office_hours\nallow if input.now.minute < 1200\n",
		"b.rego":    "package site.check.blocked\nallow if not data.blocked[input.caller.app]\n",
		"c.rego":    "package site.check.no_cross_org_delete\nallow if input.request.method != \"DELETE\"\nallow if input.caller.org == input.owner.org\n",
		"data.json": `{"blocked":{"` + metrics + `":true}}`,
	})
	benchmark(b, request(b, policy, "GET /api/v1/orders/17", "cf:app:"+frontend))
}

// BenchmarkFirstDecide is the first decision after a change of 10,000 grants,
// which puts them into OPA's form.
func BenchmarkFirstDecide(b *testing.B) {
	policy := compiled(b, nil)
	entries := make([]string, 10_000)
	for i := range entries {
		entries[i] = fmt.Sprintf(`{"source":"cf:app:d76446a1-f429-4444-8797-%012d"}`, i)
	}
	r := request(b, policy, "GET /", entries...)
	b.ReportAllocs()
	for b.Loop() {
		r.Live = &grants.Live{Access: r.Live.Access, Rules: r.Live.Rules}
		_, err := policy.Decide(b.Context(), r)
		require.NoError(b, err)
	}
}

func benchmark(b *testing.B, r *rego.Request) {
	decision, err := r.Policy.Decide(b.Context(), r)
	require.NoError(b, err)
	require.True(b, decision.Allow)
	r.Now = r.Now.Add(time.Second)
	b.ReportAllocs()
	for b.Loop() {
		if decision, err := r.Policy.Decide(b.Context(), r); err != nil || !decision.Allow {
			b.Fatal(decision, err)
		}
	}
}

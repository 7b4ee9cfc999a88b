package grants_test

import (
	"fmt"
	"testing"

	"github.com/mtls-authz/mtls-authz/grants/parameters"

	"github.com/mtls-authz/mtls-authz/grants/route"
)

// BenchmarkMatch is the guard after every decision. Its cost must hardly grow
// with the number of grants.
func BenchmarkMatch(b *testing.B) {
	segments := route.Segments("/api/orders/17")
	for _, n := range []int{1, 10_000} {
		entries := fmt.Sprintf(`{"source":"%s","methods":["GET"],"paths":["/api/**"]}`, app)
		if n > 1 {
			entries += "," + numbered(1, n)
		}
		access := parameters.NewAccess(bound(given(b, `{"allow":[`+entries+`]}`)))
		for name, who := range map[string]string{"allowed": frontend, "denied": metrics} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				live, c := access.Live(now, nil), callerOf(who, shop, acme)
				b.ReportAllocs()
				for b.Loop() {
					if _, ok := live.Match(c, "GET", segments); ok != (who == frontend) {
						b.Fatal("wrong answer")
					}
				}
			})
		}
	}
}

// BenchmarkLive is the look at a route's unexpired grants that each request
// takes.
func BenchmarkLive(b *testing.B) {
	access, operator := parameters.NewAccess(bound(allowing(b, app))), site(b, org)
	b.ReportAllocs()
	for b.Loop() {
		access.Live(now, operator)
	}
}

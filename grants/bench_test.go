package grants_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/grants"
)

// BenchmarkMatch is the guard after every decision. Its cost must hardly grow
// with the number of grants.
func BenchmarkMatch(b *testing.B) {
	segments := grants.Segments("/api/orders/17")
	for _, n := range []int{1, 10_000} {
		entries := fmt.Sprintf(`{"source":"%s","methods":["GET"],"paths":["/api/**"]}`, app)
		if n > 1 {
			entries += "," + numbered(1, n)
		}
		access := grants.NewAccess(bound(given(b, `{"allow":[`+entries+`]}`)))
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
	access, operator := grants.NewAccess(bound(allowing(b, app))), site(b, org)
	b.ReportAllocs()
	for b.Loop() {
		access.Live(now, operator)
	}
}

func BenchmarkUpdate(b *testing.B) {
	for _, n := range []int{10, 9_999} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			p, patch := given(b, `{"allow":[`+numbered(0, n)+`]}`), []byte(`{"allow_add":["`+app+`"]}`)
			b.ReportAllocs()
			for b.Loop() {
				_, err := p.Update(patch, now)
				require.NoError(b, err)
			}
		})
	}
}

// BenchmarkParseStored is what the start of a gateway costs for each binding:
// ten grants, bare or with conditions.
func BenchmarkParseStored(b *testing.B) {
	narrowed := make([]string, 10)
	for i := range narrowed {
		narrowed[i] = fmt.Sprintf(`{"source":"cf:app:d76446a1-f429-4444-8797-%012x","methods":["GET","HEAD"],"paths":["/metrics","/api/**"]}`, i)
	}
	for name, text := range map[string]string{"bare": `{"allow":[` + numbered(0, 10) + `]}`, "narrowed": `{"allow":` + list(narrowed...) + `}`} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, err := grants.ParseStored([]byte(text))
				require.NoError(b, err)
			}
		})
	}
}

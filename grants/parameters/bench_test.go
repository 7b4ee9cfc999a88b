package parameters_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/grants/parameters"
)

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
				_, err := parameters.ParseStored([]byte(text))
				require.NoError(b, err)
			}
		})
	}
}

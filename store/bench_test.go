package store_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/store"
)

// tenThousand makes a file of 1,000 instances with 10 grants and 10 bindings
// each.
func tenThousand(b *testing.B) string {
	file := newFile(b)
	require.NoError(b, open(b, file).Close())
	var instances, bindings []string
	for i := range 1000 {
		var sources []string
		for g := range 10 {
			sources = append(sources, app(i*10+g))
		}
		instances = append(instances, fmt.Sprintf(`('i%d','plan','any','%s','%s','%s',%d,0,'',0,'')`, i, guid(1), guid(2), allow(sources...), i))
		for n := range 10 {
			bindings = append(bindings, fmt.Sprintf(`('b%d','i%d','r%d.apps.identity','{}','https://gw.example/r/x',%d,0,'')`, i*10+n, i, i*10+n, i))
		}
	}
	sqlOn(b, file, `INSERT INTO instances VALUES `+strings.Join(instances, ","))
	sqlOn(b, file, `INSERT INTO bindings VALUES `+strings.Join(bindings, ","))
	return file
}

func BenchmarkOpen10000Bindings(b *testing.B) {
	file := tenThousand(b)
	var before, after runtime.MemStats
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		runtime.GC()
		runtime.ReadMemStats(&before)
		b.StartTimer()
		s, err := store.Open(ctx, store.Config{URL: "sqlite://" + file})
		require.NoError(b, err)
		b.StopTimer()
		runtime.GC()
		runtime.ReadMemStats(&after)
		require.NotNil(b, s.View().Access("b9999"))
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/10_000, "heap-B/binding")
		require.NoError(b, s.Close())
		b.StartTimer()
	}
}

func BenchmarkViewAccess(b *testing.B) {
	s := open(b, tenThousand(b))
	view := s.View()
	ids := make([]string, 10_000)
	for n := range ids {
		ids[n] = fmt.Sprintf("b%d", n)
	}
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for n := 0; pb.Next(); n++ {
			if view.Access(ids[n%len(ids)]) == nil {
				b.Error("missing")
			}
		}
	})
}

func BenchmarkCreateBinding(b *testing.B) {
	s := open(b, newFile(b))
	create(b, s, "i", "{}")
	for n := 0; b.Loop(); n++ {
		_, _, err := s.CreateBinding(ctx, binding(b, "i", fmt.Sprintf("b%d", n), "{}"))
		require.NoError(b, err)
		b.StopTimer()
		require.NoError(b, s.DeleteBinding(ctx, "i", fmt.Sprintf("b%d", n)))
		b.StartTimer()
	}
}

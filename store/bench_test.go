package store_test

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/store"
	"github.com/mtls-authz/mtls-authz/store/crowd"
)

// bindingsOfBench is how many bindings, with 10 grants each, the benchmarks
// start with; MTLS_AUTHZ_BENCH_BINDINGS=100000 is the size to design for.
func bindingsOfBench() int {
	if n, err := strconv.Atoi(os.Getenv("MTLS_AUTHZ_BENCH_BINDINGS")); err == nil {
		return n
	}
	return 10_000
}

// generate fills a database: 10 bindings to an instance, 10 grants a binding.
func generate(b testing.TB, fresh database, bindings int) string {
	url := fresh(b)
	require.NoError(b, crowd.Crowd{
		Bindings: bindings, Org: guid(1), Space: func(int) identity.GUID { return guid(2) }, Allow: func(n int) (sources []string) {
			for g := range 10 {
				sources = append(sources, app(n*10+g))
			}
			return sources
		},
	}.Fill(ctx, url))
	return url
}

// onEachBench measures PostgreSQL as it is installed, with durable commits.
func onEachBench(b *testing.B, bench func(*testing.B, database)) {
	b.Run("sqlite", func(b *testing.B) { bench(b, databases["sqlite"]) })
	b.Run("postgres", func(b *testing.B) { bench(b, ownPostgres(b).newDatabase) })
}

// median measures what f does for each n, without what clean does after it.
func median(b *testing.B, f, clean func(n int)) {
	var took []time.Duration
	for n := 0; b.Loop(); n++ {
		started := time.Now()
		f(n)
		took = append(took, time.Since(started))
		b.StopTimer()
		clean(n)
		b.StartTimer()
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
}

func BenchmarkOpen(b *testing.B) {
	onEachBench(b, func(b *testing.B, fresh database) {
		n := bindingsOfBench()
		url := generate(b, fresh, n)
		var before, after runtime.MemStats
		b.ReportAllocs()
		for b.Loop() {
			b.StopTimer()
			runtime.GC()
			runtime.ReadMemStats(&before)
			b.StartTimer()
			s, err := store.Open(ctx, store.Config{URL: url})
			require.NoError(b, err)
			b.StopTimer()
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(after.Sys)/(1<<20), "MiB-from-OS")
			runtime.GC()
			runtime.ReadMemStats(&after)
			require.NotNil(b, s.View().Access(fmt.Sprintf("b%d", n-1)))
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(n), "heap-B/binding")
			require.NoError(b, s.Close())
			b.StartTimer()
		}
	})
}

// BenchmarkChangeSeenElsewhere is the time from the begin of a bind until
// another gateway decides by it.
func BenchmarkChangeSeenElsewhere(b *testing.B) {
	onEachBench(b, func(b *testing.B, fresh database) {
		url := fresh(b)
		here, there := open(b, url), open(b, url)
		create(b, here, "i", "{}")
		id := func(n int) string { return fmt.Sprintf("b%d", n) }
		median(b, func(n int) {
			bind(b, here, "i", id(n), "{}")
			for there.View().Access(id(n)) == nil {
				time.Sleep(100 * time.Microsecond)
			}
		}, func(n int) { require.NoError(b, here.DeleteBinding(ctx, by, "i", id(n))) })
	})
}

func BenchmarkViewAccess(b *testing.B) {
	s := open(b, generate(b, databases["sqlite"], 10_000))
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

func BenchmarkCreateInstance(b *testing.B) {
	onEachBench(b, func(b *testing.B, fresh database) {
		s := open(b, fresh(b))
		median(b, func(n int) { create(b, s, fmt.Sprintf("i%d", n), allow(app(1))) }, func(int) {})
	})
}

func BenchmarkCreateBinding(b *testing.B) {
	onEachBench(b, func(b *testing.B, fresh database) {
		s := open(b, fresh(b))
		create(b, s, "i", "{}")
		id := func(n int) string { return fmt.Sprintf("b%d", n) }
		median(b, func(n int) { bind(b, s, "i", id(n), "{}") },
			func(n int) { require.NoError(b, s.DeleteBinding(ctx, by, "i", id(n))) })
	})
}

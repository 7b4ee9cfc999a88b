package acceptance_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// figures prints numbers instead of judging: make bench-policies, make bench-overload.
func figures(t *testing.T) {
	t.Helper()
	if os.Getenv("MTLS_AUTHZ_FIGURES") == "" {
		t.Skip("make bench-policies and make bench-overload print them")
	}
}

// sample is a request of an even stream: when it was due, and how long after
// that its answer was there.
type sample struct {
	due  time.Time
	took time.Duration
}

// stream sends requests at a rate, whether or not those before are answered,
// until it is ended, which returns what became of them.
func (w *turntable) stream(rate int) (end func() []sample) {
	var mu sync.Mutex
	var samples []sample
	due, stop := make(chan time.Time, 10*rate), make(chan struct{})
	var working sync.WaitGroup
	for range 64 {
		working.Go(func() {
			for at := range due {
				a := w.ask("/always")
				one := sample{at, time.Since(at)}
				assert.Equal(w.t, allowed, a.outcome)
				mu.Lock()
				samples = append(samples, one)
				mu.Unlock()
			}
		})
	}
	working.Go(func() {
		defer close(due)
		for next := time.Now(); ; next = next.Add(time.Second / time.Duration(rate)) {
			select {
			case <-stop:
				return
			case <-time.After(time.Until(next)):
				due <- next
			}
		}
	})
	return func() []sample { close(stop); working.Wait(); return samples }
}

// quantile of what the requests took that were due in a time.
func quantile(samples []sample, from, until time.Time, q float64) time.Duration {
	var took []time.Duration
	for _, s := range samples {
		if !s.due.Before(from) && s.due.Before(until) {
			took = append(took, s.took)
		}
	}
	slices.Sort(took)
	if len(took) == 0 {
		return 0
	}
	return took[int(q*float64(len(took)-1))]
}

// loadAverage is what else this machine does.
func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return string(text[:min(14, len(text))])
}

// What swaps cost the requests that meet them. A swap lasts from when the new
// files are complete until half a second after the gateway says they are in
// force: the gate, and a cache that is empty again.
func TestFiguresOfSwaps(t *testing.T) { // alone
	figures(t)
	rate, swaps := 1000, 10
	if given := os.Getenv("BENCH_RATE"); given != "" {
		var err error
		rate, err = strconv.Atoi(given)
		require.NoError(t, err)
	}
	w := newTurntable(t)
	const rest = 2 * time.Second
	end := w.stream(rate)
	time.Sleep(rest) // connections are made
	from := time.Now()
	time.Sleep(5 * time.Second)
	calm := time.Now()
	var windows [][2]time.Time
	for n := 1; n <= swaps; n++ {
		began := w.bundle.put(t, "data.json", turn(n))
		revision, err := w.server(0).awaitRevision(w.revisions[len(w.revisions)-1])
		require.NoError(t, err)
		now, err := w.server(0).revision()
		require.NoError(t, err)
		w.revisions = append(w.revisions, now)
		windows = append(windows, [2]time.Time{began, revision.Add(500 * time.Millisecond)})
		time.Sleep(time.Until(revision.Add(rest)))
	}
	samples := end()

	steady := quantile(samples, from, calm, 0.99)
	bound, within := 2*steady+10*time.Millisecond, 0
	for n, window := range windows {
		p99 := quantile(samples, window[0], window[1], 0.99)
		if p99 <= bound {
			within++
		}
		fmt.Printf("swap %2d: %5d ms until in force, p50 %v, p99 %v, slowest %v\n", n+1, window[1].Sub(window[0]).Milliseconds()-500,
			quantile(samples, window[0], window[1], 0.5).Round(time.Microsecond), p99.Round(time.Microsecond), quantile(samples, window[0], window[1], 1).Round(time.Microsecond))
	}
	took := samples[len(samples)-1].due.Sub(samples[0].due).Seconds()
	fmt.Printf("%d requests, %.0f a second (asked for %d); load average %s\n", len(samples), float64(len(samples))/took, rate, loadAverage())
	fmt.Printf("steady: p50 %v, p99 %v; p99 within twice that and 10 ms (%v) in %d of %d swaps\n",
		quantile(samples, from, calm, 0.5).Round(time.Microsecond), steady.Round(time.Microsecond), bound.Round(time.Microsecond), within, swaps)
}

// What a candidate on a tenth of the decisions costs: two gateways that differ
// in nothing else take turns.
func TestFiguresOfACandidate(t *testing.T) { // alone
	figures(t)
	dir := filepath.Join(t.TempDir(), "candidate")
	require.NoError(t, writeFiles(dir, map[string]string{"check.rego": turning, "data.json": turn(1)}))
	without, with := newTurntable(t), newTurntable(t, "POLICY_CANDIDATE="+dir, "POLICY_CANDIDATE_SHARE=0.1")
	sides := []*turntable{without, with}
	for _, w := range sides {
		w.rate(2 * time.Second) // connections are made
	}
	var ratios []float64
	var cpu, all [2][]float64
	for round := range 60 {
		var rates [2]float64
		for turn := range sides {
			i := (turn + round) % 2 // what changes slowly harms both
			before := sides[i].server(0).metric(t, "process_cpu_seconds_total")
			rates[i] = sides[i].rate(500 * time.Millisecond)
			cpu[i] = append(cpu[i], (sides[i].server(0).metric(t, "process_cpu_seconds_total")-before)*1e6/(rates[i]/2))
			all[i] = append(all[i], rates[i])
		}
		ratios = append(ratios, rates[1]/rates[0])
	}
	for _, list := range [][]float64{ratios, cpu[0], cpu[1], all[0], all[1]} {
		slices.Sort(list)
	}
	n := len(ratios)
	fmt.Printf("requests/s without a candidate %.0f, with one on 10 %% %.0f (medians of %d); ratio of neighbours %.3f (median; quartiles %.3f and %.3f)\n",
		all[0][n/2], all[1][n/2], n, ratios[n/2], ratios[n/4], ratios[3*n/4])
	fmt.Printf("processor time of the gateway for a request: without %.0f us, with %.0f us (medians), ratio %.3f; evaluated %.0f, dropped %.0f; load average %s\n",
		cpu[0][n/2], cpu[1][n/2], cpu[1][n/2]/cpu[0][n/2],
		with.server(0).metric(t, `mtls_authz_candidate_decisions_total{result="same"}`), with.server(0).metric(t, "mtls_authz_candidate_dropped_total"), loadAverage())
}

// rate is how many requests a second 16 callers get answered.
func (w *turntable) rate(during time.Duration) float64 {
	began := time.Now()
	var calling sync.WaitGroup
	counts := make([]int, 16)
	for i := range counts {
		calling.Go(func() {
			for time.Since(began) < during {
				a := w.ask("/always")
				assert.Equal(w.t, allowed, a.outcome)
				counts[i]++
			}
		})
	}
	calling.Wait()
	all := 0
	for _, n := range counts {
		all += n
	}
	return float64(all) / time.Since(began).Seconds()
}

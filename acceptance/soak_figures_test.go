package acceptance_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// observations are what is seen during a soak.
type observations struct {
	mu       sync.Mutex
	outcomes map[string]int
	counts   map[string]int
	mistakes []string
	took     []time.Duration // a sample of them
	answers  int
	samples  map[int][]held // by gateway
}

// held is what a gateway holds at a moment: bytes, descriptors, goroutines.
type held struct{ memory, descriptors, goroutines int }

func newObservations() *observations {
	return &observations{outcomes: map[string]int{}, counts: map[string]int{}, samples: map[int][]held{}}
}

// samplesOfTimes are enough for a hundredth.
const samplesOfTimes = 100_000

func (o *observations) answer(outcome string, took time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.outcomes[outcome]++
	o.answers++
	if len(o.took) < samplesOfTimes {
		o.took = append(o.took, took)
	} else if at := rand.IntN(o.answers); at < samplesOfTimes {
		o.took[at] = took // each answer has the same chance
	}
}

func (o *observations) count(what string, n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.counts[what] += n
}

func (o *observations) wrong(what string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mistakes = append(o.mistakes, what)
}

func (o *observations) sample(gateway int, h held) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.samples[gateway] = append(o.samples[gateway], h)
}

// holds is what the process of a server holds now.
func (s *server) holds(t *testing.T) (h held) {
	t.Helper()
	process := fmt.Sprintf("/proc/%d/", s.command.Process.Pid)
	status, err := os.ReadFile(process + "status")
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(status), "VmRSS:")
	require.True(t, found, "no VmRSS in /proc")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	require.NoError(t, err)
	descriptors, err := os.ReadDir(process + "fd")
	require.NoError(t, err)
	return held{kib << 10, len(descriptors), int(s.metric(t, "go_goroutines"))}
}

// trend is the middle of the first third and of the last third of the samples, of
// one of what is held, and the most.
func trend(samples []held, of func(held) int) (first, last, most int) {
	middle := func(part []held) int {
		values := make([]int, len(part))
		for i, h := range part {
			values[i] = of(h)
			most = max(most, values[i])
		}
		slices.Sort(values)
		return values[len(values)/2]
	}
	third := len(samples) / 3
	middle(samples)
	return middle(samples[:third]), middle(samples[len(samples)-third:]), most
}

// kinds of what is held, in the units of the table.
var heldKinds = []struct {
	name string
	of   func(held) int
	// slack is what may be added to the first third's and half of it.
	slack int
}{
	{"memory, MiB", func(h held) int { return h.memory >> 20 }, 32},
	{"descriptors", func(h held) int { return h.descriptors }, 32},
	{"goroutines", func(h held) int { return h.goroutines }, 64},
}

// print prints the table of figures.
func (o *observations) print(during time.Duration, capacity float64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	fmt.Printf("| what | figure |\n| --- | --- |\n| time | %v |\n| capacity of gateways and callers on this machine | %.0f requests/s |\n| requests | %d, %.0f/s (70 %% are %.0f) |\n",
		during, capacity, o.answers, float64(o.answers)/during.Seconds(), 0.7*capacity)
	slices.Sort(o.took)
	if n := len(o.took); n > 0 {
		fmt.Printf("| took: p50, p99, slowest seen | %v, %v, %v |\n", o.took[n/2].Round(10*time.Microsecond), o.took[n*99/100].Round(10*time.Microsecond), o.took[n-1].Round(time.Millisecond))
	}
	for _, outcome := range slices.Sorted(maps.Keys(o.outcomes)) {
		fmt.Printf("| %s | %d |\n", outcome, o.outcomes[outcome])
	}
	for _, what := range slices.Sorted(maps.Keys(o.counts)) {
		fmt.Printf("| %s | %d |\n", what, o.counts[what])
	}
	for _, gateway := range slices.Sorted(maps.Keys(o.samples)) {
		for _, kind := range heldKinds {
			first, last, most := trend(o.samples[gateway], kind.of)
			fmt.Printf("| gateway %d: %s: first third, last third, most | %d, %d, %d |\n", gateway, kind.name, first, last, most)
		}
	}
	fmt.Printf("| wrong answers | %d |\n| load average at the end | %s |\n", len(o.mistakes), loadAverage())
}

// judge asserts that every answer was right and that nothing has grown.
func (s *soak) judge() {
	o := s.seen
	o.mu.Lock()
	defer o.mu.Unlock()
	assert.Empty(s.t, o.mistakes[:min(20, len(o.mistakes))])
	for _, outcome := range []string{allowed, noMatch, nobody, unbound, closedByPolicy, "403 untrusted_certificate"} {
		assert.NotZero(s.t, o.outcomes[outcome], "nobody has heard %q", outcome)
	}
	for gateway, samples := range o.samples {
		for _, kind := range heldKinds {
			first, last, _ := trend(samples, kind.of)
			assert.LessOrEqual(s.t, last, first+first/2+kind.slack, "gateway %d: %s has grown", gateway, kind.name)
		}
	}
}

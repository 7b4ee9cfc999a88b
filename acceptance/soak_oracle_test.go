package acceptance_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// elsewhere is how long a change may take to be in force on the gateways that did
// not take it.
const elsewhere = time.Second

// fact is something that changes while gateways answer. Each gateway holds one of
// its values at any moment; while a change is on its way nobody knows which.
type fact[T comparable] struct {
	// away are the times without the database, through which a change comes to the
	// other gateways. Nil: it does not come through the database.
	away *outages

	mu    sync.Mutex
	steps []step[T]
}

// step is a value: it may be in force from begun on, and it is in force at each
// gateway from settled on; the zero time means that it is not known to be yet.
type step[T comparable] struct {
	value   T
	begun   time.Time
	settled []time.Time
	// acknowledged is when the change came to be known to the gateway that took it.
	acknowledged time.Time
}

// kept is how many former values are remembered: no request lasts as long.
const kept = 16

// begin says that the value may now be in force.
func (f *fact[T]) begin(value T, gateways int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.steps = append(f.steps[max(0, len(f.steps)-kept):], step[T]{value: value, begun: time.Now(), settled: make([]time.Time, gateways)})
}

// nobodyKnows is the gateway that has taken a change, where that is not known.
const nobodyKnows = -1

// acknowledge says that a gateway has taken the change; the others follow.
func (f *fact[T]) acknowledge(gateway int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	last := &f.steps[len(f.steps)-1]
	last.acknowledged = time.Now()
	for i := range last.settled {
		last.settled[i] = last.acknowledged.Add(elsewhere)
	}
	if gateway != nobodyKnows {
		last.settled[gateway] = last.acknowledged
	}
}

// settle says that one gateway holds the value, and nothing of the others.
func (f *fact[T]) settle(gateway int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.steps[len(f.steps)-1].settled[gateway] = time.Now()
}

// possible are the values that a gateway may have held at some moment between two.
func (f *fact[T]) possible(gateway int, from, until time.Time) (values []T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := len(f.steps) - 1; i >= 0; i-- {
		s := f.steps[i]
		if s.begun.After(until) {
			continue
		}
		if !slices.Contains(values, s.value) {
			values = append(values, s.value)
		}
		if settled := f.settledAt(s, gateway); !settled.IsZero() && !settled.After(from) {
			break // nothing that was before it is left
		}
	}
	return values
}

// settledAt: a gateway that does not reach the database has the second from when
// it does.
func (f *fact[T]) settledAt(s step[T], gateway int) time.Time {
	settled := s.settled[gateway]
	if f.away == nil || settled.IsZero() || settled.Equal(s.acknowledged) {
		return settled
	}
	switch end, touched := f.away.touch(s.acknowledged, settled); {
	case !touched:
		return settled
	case end.IsZero():
		return time.Time{}
	default:
		return end.Add(elsewhere)
	}
}

// outages are the times during which something was away.
type outages struct {
	mu    sync.Mutex
	spans [][2]time.Time
}

func (o *outages) begin() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.spans = append(o.spans, [2]time.Time{time.Now()})
}

func (o *outages) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.spans[len(o.spans)-1][1] = time.Now()
}

// touch tells whether something was away at some moment between two, and when it
// was back, zero: not yet.
func (o *outages) touch(from, until time.Time) (end time.Time, touched bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, span := range slices.Backward(o.spans) {
		if span[0].After(until) || !span[1].IsZero() && span[1].Before(from) {
			continue
		}
		return span[1], true
	}
	return time.Time{}, false
}

// The oracle itself: a change is in force at once where it was made, a second
// later elsewhere, and either answer is right in between.
func TestTheOracleKnowsWhatMayBeInForce(t *testing.T) {
	t.Parallel()
	start := time.Now()
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	changed := func(away *outages) *fact[string] {
		return &fact[string]{away: away, steps: []step[string]{
			{value: "old", begun: at(-1000), settled: []time.Time{at(-900), at(-900)}},
			{value: "new", begun: at(100), acknowledged: at(200), settled: []time.Time{at(200), at(1200)}},
		}}
	}
	outage := func(from, until time.Time) *outages { return &outages{spans: [][2]time.Time{{from, until}}} }
	for name, test := range map[string]struct {
		away                 *outages
		gateway, from, until int
		want                 []string
	}{
		"before":                          {nil, 0, 0, 50, []string{"old"}},
		"while it begins":                 {nil, 0, 0, 150, []string{"new", "old"}},
		"as it is acknowledged":           {nil, 0, 199, 300, []string{"new", "old"}},
		"at once, where it was made":      {nil, 0, 200, 201, []string{"new"}},
		"elsewhere, within a second":      {nil, 1, 1199, 1300, []string{"new", "old"}},
		"elsewhere, after a second":       {nil, 1, 1200, 1201, []string{"new"}},
		"the database was away before":    {outage(at(0), at(150)), 1, 1200, 1201, []string{"new"}},
		"the database is away":            {outage(at(500), time.Time{}), 1, 9000, 9001, []string{"new", "old"}},
		"the database is away, made here": {outage(at(500), time.Time{}), 0, 9000, 9001, []string{"new"}},
		"it has just come back":           {outage(at(500), at(5000)), 1, 5999, 6001, []string{"new", "old"}},
		"it came back a second ago":       {outage(at(500), at(5000)), 1, 6000, 6001, []string{"new"}},
		"it went away later":              {outage(at(1300), at(5000)), 1, 2000, 2001, []string{"new"}},
	} {
		assert.Equal(t, test.want, changed(test.away).possible(test.gateway, at(test.from), at(test.until)), name)
	}
}

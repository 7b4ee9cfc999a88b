package acceptance_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// turning is a bundle that decides otherwise each time that its data change.
const turning = `package site.check.turning
import rego.v1
default allow := false
allow if input.request.path == "/always"
allow if {
	input.request.path == "/even"
	data.site.turn % 2 == 0
}
allow if {
	input.request.path == "/odd"
	data.site.turn % 2 == 1
}
`

func turn(n int) string { return fmt.Sprintf(`{"site":{"turn":%d}}`, n) }

// right is what one hears under a turn of the bundle.
func right(path string, turn int) string {
	if path == "/always" || path == [2]string{"/even", "/odd"}[turn%2] {
		return allowed
	}
	return closedByPolicy
}

// No request fails because the policy is swapped, and each is answered by one
// policy: the one that its line names, and none that was replaced before it
// began.
func TestPoliciesAreSwappedUnderLoad(t *testing.T) {
	t.Parallel()
	const swaps = 10
	w := newTurntable(t)
	w.call(4)
	for range swaps {
		w.next()
	}
	w.end()

	turns := map[string]int{}
	for n, revision := range w.revisions {
		turns[revision] = n
	}
	require.Len(t, turns, swaps+1)
	answered := map[int]int{}
	for _, a := range w.answers {
		line := w.server(0).decision(t, a.decision)
		revision, _ := line["policy_revision"].(string)
		n, known := turns[revision]
		require.True(t, known, "a policy that was never in force: %v", line["raw"])
		assert.Equal(t, right(a.path, n), a.outcome, "%v", line["raw"])
		assert.GreaterOrEqual(t, n, a.turn, "decided by a policy that was replaced before: %v", line["raw"])
		answered[n]++
	}
	assert.Len(t, answered, swaps+1, "every policy has decided")
	t.Logf("%d requests, by turn: %v", len(w.answers), answered)
}

// turntable is a gateway whose policy turns, and its callers.
type turntable struct {
	*cloud
	b      bound
	bundle *liveBundle
	// revisions are those of the turns so far.
	revisions []string
	// turned is the last turn that the gateway has said is in force.
	turned  atomic.Int64
	stopped atomic.Bool
	calling sync.WaitGroup

	mu      sync.Mutex
	answers []turned
}

// turned is what one caller heard.
type turned struct {
	path, outcome, decision string
	// turn is that which was in force for certain when the request began.
	turn int
}

func newTurntable(t *testing.T, env ...string) *turntable {
	t.Helper()
	dir := t.TempDir()
	bundle := newLiveBundle(t, turning, turn(0))
	storeURL, err := newSQLite(dir)
	require.NoError(t, err)
	c, err := newCluster(dir, storeURL, 1, append([]string{"POLICY_BUNDLE=" + bundle.dir}, env...)...)
	t.Cleanup(func() { require.NoError(t, c.close()) })
	require.NoError(t, err)
	w := &turntable{cloud: c.play(t), bundle: bundle}
	w.b = w.bound(w.created(onlyFrontend), "")
	revision, err := w.server(0).revision()
	require.NoError(t, err)
	w.revisions = []string{revision}
	return w
}

// call starts callers who call until the end.
func (w *turntable) call(callers int) {
	w.t.Cleanup(w.end) // also after a failure
	for range callers {
		w.calling.Go(func() {
			for i := 0; !w.stopped.Load(); i++ {
				a := w.ask([]string{"/always", "/even", "/odd"}[i%3])
				w.mu.Lock()
				w.answers = append(w.answers, a)
				w.mu.Unlock()
			}
		})
	}
}

// ask is one request.
func (w *turntable) ask(path string) turned {
	a := turned{path: path, turn: int(w.turned.Load())}
	reply, err := w.send(w.t.Context(), 0, "frontend", w.b.Route+path, w.b.url)
	if a.decision = reply.Header.Get(decisionHeader); a.decision == "" {
		assert.Fail(w.t, "a request failed", "%s: %d %v", path, reply.Status, err)
	}
	a.outcome, err = outcomeOf(reply, err)
	assert.NoError(w.t, err)
	return a
}

// next swaps the policy, and waits until each of its callers has heard more.
func (w *turntable) next() (took time.Duration) {
	w.t.Helper()
	before := w.revisions[len(w.revisions)-1]
	complete := w.bundle.put(w.t, "data.json", turn(len(w.revisions)))
	at, err := w.server(0).awaitRevision(before)
	require.NoError(w.t, err)
	revision, err := w.server(0).revision()
	require.NoError(w.t, err)
	w.revisions = append(w.revisions, revision)
	w.turned.Add(1)
	heard := w.heard()
	require.NoError(w.t, until("more answers", func() error {
		if w.heard() < heard+12 {
			return fmt.Errorf("%d after %d", w.heard(), heard)
		}
		return nil
	}))
	return at.Sub(complete)
}

func (w *turntable) heard() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.answers)
}

func (w *turntable) end() {
	w.stopped.Store(true)
	w.calling.Wait()
}

package gateway_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/gateway"
	"github.com/mtls-authz/mtls-authz/rego"
)

const patience = 30 * time.Second

// openStream starts the gateway as a server, with an app that sends an event
// every few milliseconds, and opens a stream of this media type.
func openStream(t *testing.T, media, given string, edit func(*gateway.Config)) (*world, *http.Response) {
	w := newWorld(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", media)
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, "data: x\n"); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
			time.Sleep(5 * time.Millisecond)
		}
	}, edit)
	w.bind("backend.apps.identity", given)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	g := w.gateway.(*gateway.Gateway)
	go g.Run(ctx)
	server := httptest.NewServer(g)
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	forged := w.request()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+forged.URL.Path, nil)
	require.NoError(t, err)
	request.Header = forged.Header
	res, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	t.Cleanup(func() { _ = res.Body.Close() })
	require.Equal(t, http.StatusOK, res.StatusCode)
	return w, res
}

const (
	allowsFrontend = `{"allow":["cf:any"]}`
	allowsNobody   = `{"allow":["cf:app:99999999-9999-4999-8999-999999999999"]}`
)

func TestAnEventStreamIsCutWhenItsPermissionEnds(t *testing.T) {
	for name, revoke := range map[string]func(*world){
		"the grant is taken back": func(w *world) { w.bind("backend.apps.identity", allowsNobody) },
		"no grant is left":        func(w *world) { w.bind("backend.apps.identity", `{}`) },
		"unbound":                 (*world).unbind,
		"bound to another route":  func(w *world) { w.bind("other.apps.identity", allowsFrontend) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, res := openStream(t, "text/event-stream; charset=utf-8", allowsFrontend, nil)
			revoke(w)
			_, err := io.Copy(io.Discard, res.Body)
			require.Error(t, err, "cut, not ended")
			require.NotErrorIs(t, err, context.DeadlineExceeded)
			w.mu.Lock()
			defer w.mu.Unlock()
			assert.Contains(t, w.lines.String(), `"stream cut"`)
		})
	}
}

func TestAPolicyThatStopsAllowingCutsEventStreams(t *testing.T) {
	var allows atomic.Bool
	allows.Store(true)
	w, res := openStream(t, "text/event-stream", allowsFrontend, func(c *gateway.Config) {
		c.Decider = deciderFunc(func(*rego.Request) (rego.Decision, error) {
			return rego.Decision{Allow: allows.Load(), Reason: rego.ReasonPolicyDenied}, nil
		})
	})
	allows.Store(false)
	w.bind("backend.apps.identity", allowsFrontend) // a new revision: it is asked again
	_, err := io.Copy(io.Discard, res.Body)
	require.Error(t, err)
	require.NotErrorIs(t, err, context.DeadlineExceeded)
}

// One missed deadline cuts nobody; a policy that gives no decision any more does.
func TestAStreamOutlivesAPolicyThatFailsForAMoment(t *testing.T) {
	var asked atomic.Int64
	w, res := openStream(t, "text/event-stream", allowsFrontend, func(c *gateway.Config) {
		c.Decider = deciderFunc(func(*rego.Request) (rego.Decision, error) {
			if n := asked.Add(1); n == 2 || n > 3 {
				return rego.Decision{}, rego.ErrPolicy
			}
			return rego.Decision{Allow: true}, nil
		})
	})
	w.bind("backend.apps.identity", allowsFrontend)
	lines := bufio.NewReader(res.Body)
	for asked.Load() < 3 { // the second time it fails, the third it does not
		_, err := lines.ReadString('\n')
		require.NoError(t, err)
	}
	w.bind("backend.apps.identity", allowsFrontend)
	_, err := io.Copy(io.Discard, lines)
	require.Error(t, err)
	require.NotErrorIs(t, err, context.DeadlineExceeded)
	assert.EqualValues(t, 6, asked.Load(), "three times in a row")
}

// What is permitted still, or is no stream, goes on through several rounds.
func TestStreamsThatGoOn(t *testing.T) {
	for name, c := range map[string]struct{ media, given, then string }{
		"permitted":           {"text/event-stream", allowsFrontend, allowsFrontend},
		"not enforced":        {"text/event-stream", allowsFrontend, `{"mode":"report"}`},
		"a download":          {"application/octet-stream", allowsFrontend, allowsNobody},
		"what looks like one": {"application/x-text/event-stream", allowsFrontend, allowsNobody},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, res := openStream(t, c.media, c.given, nil)
			w.bind("backend.apps.identity", c.then)
			lines := bufio.NewReader(res.Body)
			for end := time.Now().Add(2500 * time.Millisecond); time.Now().Before(end); {
				_, err := lines.ReadString('\n')
				require.NoError(t, err)
			}
		})
	}
}

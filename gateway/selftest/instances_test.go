package selftest_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/gateway/selftest"
	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/playground"
	"github.com/mtls-authz/mtls-authz/playground/ca"
	"github.com/mtls-authz/mtls-authz/playground/router"
	"github.com/mtls-authz/mtls-authz/store/board"
)

// proven is a world in which a first instance has proven the domain, and told of
// it; probes do not get through any more.
func proven(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, router.SanitizeSet)
	first := w.gateway()
	w.serve(first)
	w.bind("b", backend)
	w.run(first)
	w.eventually("told", func() bool { return len(w.notes("router-proof")) == 1 })
	w.blocked.Store(true)
	return w
}

func (w *world) notes(kind string) []board.Note {
	w.t.Helper()
	notes, err := w.store.Board().Read(w.t.Context(), kind)
	require.NoError(w.t, err)
	return notes
}

func TestAnotherInstanceServesByASharedProof(t *testing.T) {
	t.Parallel()
	w := proven(t)
	second := w.gateway()
	assert.NoError(t, w.trust(second, w.bound["b"], backend))
	w.clock.advance(5*time.Minute - time.Second)
	assert.NoError(t, w.trust(second, w.bound["b"], backend), "a verdict like its own")
	w.clock.advance(2 * time.Second)
	assert.Error(t, w.trust(second, w.bound["b"], backend), "and no longer than that")
}

// A proof is one of a place, of a time, and of a kind of certificate.
func TestASharedProofIsOfWhatItProves(t *testing.T) {
	t.Parallel()
	other := func(w *world) func(*selftest.Config) {
		root, err := ca.NewRoot("another")
		require.NoError(w.t, err)
		credential, err := root.Instance(playground.Authz.Identity())
		require.NoError(w.t, err)
		pair := credential.TLS()
		pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0])
		require.NoError(w.t, err)
		return func(c *selftest.Config) { c.Router.Certificate = func() *tls.Certificate { return &pair } }
	}
	for name, test := range map[string]func(*world) func(*selftest.Config){
		"too old": func(w *world) func(*selftest.Config) {
			w.clock.advance(2 * time.Minute)
			return func(*selftest.Config) {}
		},
		"from the future": func(w *world) func(*selftest.Config) {
			w.clock.advance(-time.Minute)
			return func(*selftest.Config) {}
		},
		"of another router": func(*world) func(*selftest.Config) {
			return func(c *selftest.Config) { c.Router.Address = func(string) string { return "127.0.0.1:1" } }
		},
		"of another form": func(*world) func(*selftest.Config) {
			return func(c *selftest.Config) { c.Format = func(string) identity.Format { return identity.Envoy } }
		},
		"of another issuer": other,
		"for who cannot prove": func(*world) func(*selftest.Config) {
			return func(c *selftest.Config) { c.Router.Certificate = nil }
		},
		"and the database is away": func(*world) func(*selftest.Config) {
			return func(c *selftest.Config) { c.Board = noBoard{} }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := proven(t)
			assert.Error(t, w.trust(w.gateway(test(w)), w.bound["b"], backend))
		})
	}
	t.Run("of another domain", func(t *testing.T) {
		t.Parallel()
		w := proven(t)
		assert.Error(t, w.trust(w.gateway(), w.bind("c", "x.other.identity"), "x.other.identity"))
	})
}

// noBoard is a database that is away.
type noBoard struct{}

func (noBoard) Post(context.Context, string, ...board.Note) error { return errors.New("away") }

func (noBoard) Read(context.Context, string) ([]board.Note, error) { return nil, errors.New("away") }

func TestWithoutTheDatabaseEachInstanceProvesForItself(t *testing.T) {
	t.Parallel()
	w := newWorld(t, router.SanitizeSet)
	s := w.gateway(func(c *selftest.Config) { c.Board = noBoard{} })
	w.serve(s)
	bound := w.bind("b", backend)
	w.run(s)
	assert.NoError(t, w.trust(s, bound, backend))
}

// listening is a board that tells whether alarms were looked for.
type listening struct {
	*board.Board
	looks atomic.Int64
}

func (l *listening) Read(ctx context.Context, kind string) ([]board.Note, error) {
	notes, err := l.Board.Read(ctx, kind)
	if kind == "router-alarm" {
		l.looks.Add(1)
	}
	return notes, err
}

// Whatever the clocks say.
func TestAnAlarmOfOneInstanceStopsAnother(t *testing.T) {
	t.Parallel()
	for name, skew := range map[string]time.Duration{"same clock": 0, "slow clock": -40 * time.Second, "fast clock": 40 * time.Second} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := proven(t)
			ear := &listening{Board: w.store.Board()}
			second := w.gateway(func(c *selftest.Config) { c.Board = ear })
			w.run(second)
			w.eventually("it has started", func() bool { return ear.looks.Load() > 0 })
			w.eventually("served by the second", func() bool { return w.trust(second, w.bound["b"], backend) == nil })
			require.NoError(t, w.store.Board().Post(t.Context(), "router-alarm", board.Note{
				Name: "apps.identity " + w.router.Addr(), At: w.clock.Now().Add(skew), Until: w.clock.Now().Add(5 * time.Minute),
			}))
			w.eventually("stopped", func() bool {
				return strings.Contains(text(w.trust(second, w.bound["b"], backend)), "another instance has seen it")
			})
			// Heard once: the next proof of its own counts.
			w.blocked.Store(false)
			w.eventuallyAsTimePasses("its own proof", func() bool {
				return w.trust(second, w.bound["b"], backend) == nil
			})
		})
	}
}

func TestAnInstanceThatStartsHearsAlarms(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		ago  time.Duration
		want string
	}{
		"the last word is the alarm": {-time.Second, "sanitize_set"},
		"disproven since":            {time.Minute, "none"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := proven(t)
			require.NoError(t, w.store.Board().Post(t.Context(), "router-alarm", board.Note{
				Name: "apps.identity " + w.router.Addr(), At: w.clock.Now().Add(-test.ago), Until: w.clock.Now().Add(4 * time.Minute),
			}))
			second := w.gateway()
			w.run(second)
			w.eventually(test.want, func() bool { return strings.Contains(text(w.trust(second, w.bound["b"], backend)), test.want) })
		})
	}
}

func TestASentinelIsToldToOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, router.AlwaysForward)
	s := w.gateway()
	w.serve(s)
	require.Error(t, w.trust(s, w.bind("b", backend), backend))
	w.eventually("told", func() bool { return len(w.notes("router-alarm")) == 1 })
	assert.Equal(t, "apps.identity "+w.router.Addr(), w.notes("router-alarm")[0].Name)
	assert.Empty(t, w.notes("router-proof"))
}

func TestRunEndsWithItsContext(t *testing.T) {
	t.Parallel()
	w := newWorld(t, router.SanitizeSet)
	s := w.gateway()
	w.serve(s)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); s.Run(ctx) }()
	w.eventually("proven", func() bool { untrusted, _ := s.Findings(); return len(untrusted) == 0 })
	cancel()
	<-ended
}

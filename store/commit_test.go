package store_test

import (
	"bytes"
	"fmt"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/grants/parameters"
	"github.com/mtls-authz/mtls-authz/store"
)

// What a [relay] does with the next COMMIT.
type cut int32

const (
	asIs      cut = iota
	before        // it never arrives
	after         // it is done, and the answer is lost
	late          // it arrives when the client has gone
	forGood       // it is done, and nobody gets through any more
	unplugged     // nobody gets through
)

// relay stands between a store and PostgreSQL.
type relay struct {
	listener net.Listener
	server   string
	cut      atomic.Int32
	running  sync.WaitGroup
}

// newRelay returns a relay and the URL of the database through it.
func newRelay(t *testing.T, database string) (*relay, string) {
	u, err := url.Parse(database)
	require.NoError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r := &relay{listener: listener, server: u.Host}
	r.running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			r.running.Go(func() { r.serve(client) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		r.running.Wait()
	})
	u.Host = listener.Addr().String()
	return r, u.String()
}

func (r *relay) serve(client net.Conn) {
	defer func() { _ = client.Close() }()
	if cut(r.cut.Load()) == unplugged {
		return
	}
	server, err := net.Dial("tcp", r.server)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	// What the server says is kept from the client once that is cut off.
	var deaf atomic.Bool
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		defer func() { _ = client.Close() }()
		copyTo(server, func(data []byte) bool {
			if deaf.Load() {
				return false
			}
			_, err := client.Write(data)
			return err == nil
		})
	}()
	copyTo(client, func(data []byte) bool {
		if bytes.Equal(data, []byte("Q\x00\x00\x00\x0bcommit\x00")) {
			switch how := cut(r.cut.Swap(int32(asIs))); how {
			case before, unplugged:
				return false
			case after:
			case late:
				_ = client.Close()
				time.Sleep(200 * time.Millisecond)
			case forGood:
				r.cut.Store(int32(unplugged))
			case asIs:
				_, err := server.Write(data)
				return err == nil
			}
			deaf.Store(true)
			if _, err := server.Write(data); err == nil {
				<-answered
			}
			return false
		}
		if cut(r.cut.Load()) == unplugged {
			return false
		}
		_, err := server.Write(data)
		return err == nil
	})
}

func copyTo(from net.Conn, take func([]byte) bool) {
	buffer := make([]byte, 1<<16)
	for {
		n, err := from.Read(buffer)
		if err != nil || !take(buffer[:n]) {
			return
		}
	}
}

// An error of COMMIT does not tell what became of it. Whoever is told of a
// failure that was none leaves an orphan behind, and of a success that was none,
// a route without protection.
func TestCommitThatIsNotAnswered(t *testing.T) {
	calls := map[string]func(*store.Store) error{
		"create": func(s *store.Store) error { _, err := s.CreateInstance(ctx, by, instance(t, "new", "{}")); return err },
		"bind": func(s *store.Store) error {
			_, _, err := s.CreateBinding(ctx, by, binding(t, "i", "new", "{}"))
			return err
		},
		"update": func(s *store.Store) error { return s.UpdateInstance(ctx, by, "i", setTo(parameters.Parameters{})) },
		"unbind": func(s *store.Store) error { return s.DeleteBinding(ctx, by, "i", "b1") },
		"delete": func(s *store.Store) error { return s.DeleteInstance(ctx, by, "healthy") },
	}
	for _, c := range []struct {
		how             cut
		calls           []string
		told, committed bool
	}{
		{before, []string{"bind", "delete"}, false, false},
		{after, []string{"create", "bind", "update", "unbind", "delete"}, true, true},
		{late, []string{"bind", "unbind"}, true, true},
		{forGood, []string{"bind", "delete"}, false, true},
	} {
		for _, name := range c.calls {
			t.Run(fmt.Sprint(name, c.how), func(t *testing.T) { testCommitThatIsNotAnswered(t, c.how, calls[name], c.told, c.committed) })
		}
	}
}

func testCommitThatIsNotAnswered(t *testing.T, how cut, call func(*store.Store) error, told, committed bool) {
	instances, bindings := []string{"i", "healthy", "new"}, []string{"b1", "b2", "b3", "new"}
	database := newPostgres(t)
	direct := twoInstances(t, database)
	r, through := newRelay(t, database)
	timeout := patience
	if how == forGood {
		timeout = 500 * time.Millisecond
	}
	s := openWith(t, store.Config{URL: through, Timeout: timeout, UsageInterval: time.Hour})
	before := state(t, s, instances, bindings)
	r.cut.Store(int32(how))
	var inForce map[string]any // when it returns
	err := call(s)
	if told {
		require.NoError(t, err)
		inForce = state(t, s, instances, bindings)
	} else {
		require.ErrorIs(t, err, store.ErrUnavailable)
	}
	r.cut.Store(int32(asIs))
	await(t, func() bool { return s.Ping(ctx) == nil })
	want := state(t, open(t, database), instances, bindings)
	require.Equal(t, committed, !equal(want, before), "nothing lost, nothing invented")
	if told {
		require.Equal(t, want, inForce)
	}
	for _, s := range []*store.Store{s, direct} {
		await(t, func() bool { return equal(want, state(t, s, instances, bindings)) })
	}
	_, total, err := direct.Audit(ctx, store.AuditFilter{}, store.Page{})
	require.NoError(t, err)
	require.Equal(t, committed, total > 5)
}

// The same revision, given to another's change, is not this one's.
func TestAnothersChangeIsNotTakenForOnesOwn(t *testing.T) {
	database := newPostgres(t)
	other := twoInstances(t, database)
	r, through := newRelay(t, database)
	s := openWith(t, store.Config{URL: through, UsageInterval: time.Hour})
	changed := make(chan error, 1)
	err := s.UpdateInstance(ctx, by, "i", func(i store.Instance) (store.Instance, error) {
		i.Parameters = given(t, allow(app(9)))
		r.cut.Store(int32(before))
		go func() { changed <- other.UpdateInstance(ctx, by, "i", setTo(i.Parameters)) }()
		return i, nil
	})
	require.NoError(t, <-changed)
	require.ErrorIs(t, err, store.ErrUnavailable, "the other's is the same to the last letter, and yet not this one")
}

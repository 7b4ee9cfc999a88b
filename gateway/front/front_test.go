package front_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/gateway/front"
)

const patience = 30 * time.Second

// served is a front with a handler.
type served struct {
	address string
	// leave is SIGTERM, ended what Serve returned then.
	leave context.CancelFunc
	ended chan error
	log   *bytes.Buffer
}

func serve(t *testing.T, handler http.HandlerFunc, edit func(*front.Config)) *served {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &served{address: listener.Addr().String(), ended: make(chan error, 1), log: &bytes.Buffer{}}
	cfg := front.Config{
		Handler: handler, Streams: func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/r/") },
		BodyTimeout: time.Second, HeaderTimeout: patience, IdleTimeout: patience, MaxHeaderBytes: 16 << 10, MaxURIBytes: 1000, MaxConnections: 100,
		Drain: patience, Farewell: func(context.Context) {}, Log: slog.New(slog.NewJSONHandler(s.log, nil)),
	}
	if edit != nil {
		edit(&cfg)
	}
	var ctx context.Context
	ctx, s.leave = context.WithCancel(t.Context())
	go func() { s.ended <- front.Serve(ctx, listener, cfg) }()
	t.Cleanup(s.leave)
	return s
}

func (s *served) dial(t *testing.T) net.Conn {
	conn, err := net.Dial("tcp", s.address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	return conn
}

// ask sends a request on a connection and reads the answer.
func ask(t *testing.T, conn net.Conn, path string) *http.Response {
	_, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
	require.NoError(t, err)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, res.Body)
	require.NoError(t, err)
	return res
}

// readBody answers with what became of the body.
func readBody(w http.ResponseWriter, r *http.Request) {
	n, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		w.WriteHeader(http.StatusRequestTimeout)
	}
	fmt.Fprintf(w, "%d %v %v", n, err, errors.Is(err, front.ErrSlow))
}

// drip sends a body of n bytes, one every interval, and returns the status.
func drip(t *testing.T, conn net.Conn, path string, n int, interval time.Duration) int {
	_, err := fmt.Fprintf(conn, "PUT %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", path, n)
	require.NoError(t, err)
	go func() {
		for range n {
			if _, err := conn.Write([]byte("x")); err != nil {
				return
			}
			time.Sleep(interval)
		}
	}()
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	return res.StatusCode
}

func TestBodiesMustKeepAPace(t *testing.T) {
	for name, c := range map[string]struct {
		path string
		rate int
		want int
	}{
		"too slow":                  {"/r/x", 100, http.StatusRequestTimeout},
		"slow, but fast enough":     {"/r/x", 5, http.StatusOK},
		"any pace":                  {"/r/x", 0, http.StatusOK},
		"a time for what is no app": {"/v2/x", 0, http.StatusRequestTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, readBody, func(c2 *front.Config) { c2.MinBodyRate = c.rate })
			assert.Equal(t, c.want, drip(t, s.dial(t), c.path, 40, 50*time.Millisecond)) // 20 bytes a second, for two
		})
	}
}

// Waiting for a slow app is not the client's fault, nor is what comes after its
// body.
func TestSlowAppsDoNotMakeSlowClients(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		buffer := make([]byte, 1)
		for {
			n, err := r.Body.Read(buffer)
			if err != nil || n == 0 {
				break
			}
			time.Sleep(300 * time.Millisecond)
		}
		select {
		case <-r.Context().Done():
			w.WriteHeader(http.StatusTeapot)
		case <-time.After(1500 * time.Millisecond):
		}
	}, func(c *front.Config) { c.MinBodyRate = 1000 })
	conn := s.dial(t)
	_, err := io.WriteString(conn, "PUT /r/x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
	require.NoError(t, err)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	assert.Equal(t, http.StatusOK, res.StatusCode)
}

func TestTooManyConnectionsAreSurplusAndServeOneRequest(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if front.Surplus(r.Context()) {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}, func(c *front.Config) { c.MaxConnections = 2 })
	first, second, third := s.dial(t), s.dial(t), s.dial(t)
	assert.Equal(t, http.StatusOK, ask(t, first, "/").StatusCode)
	assert.Equal(t, http.StatusOK, ask(t, second, "/").StatusCode)
	surplus := ask(t, third, "/")
	assert.Equal(t, http.StatusServiceUnavailable, surplus.StatusCode)
	assert.True(t, surplus.Close)
	require.NoError(t, first.Close())
	require.Eventually(t, func() bool { return ask(t, s.dial(t), "/").StatusCode == http.StatusOK }, patience, 10*time.Millisecond, "its place is free")
}

func TestHeadsAreBounded(t *testing.T) {
	s := serve(t, func(http.ResponseWriter, *http.Request) {}, nil)
	conn := s.dial(t)
	_, err := fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: x\r\nX-Long: %s\r\n\r\n", strings.Repeat("x", 64<<10))
	if err == nil {
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		assert.Equal(t, http.StatusRequestHeaderFieldsTooLarge, res.StatusCode)
	}
}

func TestTargetsAreBounded(t *testing.T) {
	s := serve(t, func(http.ResponseWriter, *http.Request) {}, nil)
	longest := "/" + strings.Repeat("a", 999)
	for target, want := range map[string]int{
		longest: http.StatusOK, longest + "a": http.StatusRequestURITooLong,
		"/?" + longest: http.StatusRequestURITooLong, "http://x" + longest: http.StatusRequestURITooLong,
	} {
		assert.Equal(t, want, ask(t, s.dial(t), target).StatusCode, "%.10s, %d bytes", target, len(target))
	}
	conn := s.dial(t)
	_, err := fmt.Fprintf(conn, "PUT %sa HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n", longest)
	require.NoError(t, err)
	answer, err := io.ReadAll(conn)
	require.NoError(t, err, "it ends without the body")
	assert.Contains(t, string(answer), "414")
}

// Slowloris: a head that does not end costs its own connection only.
func TestHeadsThatDoNotEndAreCut(t *testing.T) {
	s := serve(t, func(http.ResponseWriter, *http.Request) {}, func(c *front.Config) { c.HeaderTimeout = 50 * time.Millisecond })
	conn := s.dial(t)
	_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nX-")
	require.NoError(t, err)
	_, err = io.ReadAll(conn)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
}

func TestItServesUntilASecondIsQuiet(t *testing.T) {
	s := serve(t, func(http.ResponseWriter, *http.Request) {}, nil)
	idle := s.dial(t)
	ask(t, idle, "/")
	s.leave()
	for range 5 { // the router has not heard yet
		res := ask(t, s.dial(t), "/")
		assert.Equal(t, http.StatusOK, res.StatusCode)
		time.Sleep(300 * time.Millisecond)
	}
	res := ask(t, idle, "/")
	assert.True(t, res.Close, "an idle connection is used once more, and closed with the answer")
	require.NoError(t, <-s.ended)
	_, err := net.Dial("tcp", s.address)
	require.Error(t, err)
}

func TestRequestsInFlightFinish(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-release
		_, _ = io.WriteString(w, "whole")
	}, nil)
	conn := s.dial(t)
	_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	require.NoError(t, err)
	<-entered
	s.leave()
	time.AfterFunc(1500*time.Millisecond, func() { close(release) })
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	assert.Equal(t, "whole", string(body))
	require.NoError(t, <-s.ended)
}

func TestTheEndComesWhateverIsInFlight(t *testing.T) {
	entered, farewell := make(chan struct{}), make(chan struct{})
	s := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
	}, func(c *front.Config) {
		c.Drain = 200 * time.Millisecond
		c.Farewell = func(context.Context) { close(farewell) }
	})
	conn := s.dial(t)
	_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	require.NoError(t, err)
	<-entered
	s.leave()
	require.NoError(t, <-s.ended)
	<-farewell
	assert.Contains(t, s.log.String(), `"requests":1`)
}

package router_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground/router"
)

// Each step waits for the one before to have passed the router: with a buffer
// anywhere the test would never end.
func TestAnswersPassUnbuffered(t *testing.T) {
	for _, contentType := range []string{"text/event-stream", "application/octet-stream"} {
		t.Run(contentType, func(t *testing.T) {
			w := newWorld(t)
			next := make(chan struct{})
			w.app(func(rw http.ResponseWriter, _ *http.Request) {
				rw.Header().Set("Content-Type", contentType)
				rw.Header().Set("Content-Length", "6")
				for _, event := range []string{"1\n", "2\n", "3\n"} {
					_, _ = io.WriteString(rw, event)
					_ = http.NewResponseController(rw).Flush()
					<-next
				}
			}, host)
			res, err := w.client().Get("https://" + host + "/")
			require.NoError(t, err)
			defer res.Body.Close()
			lines := bufio.NewReader(res.Body)
			for _, want := range []string{"1\n", "2\n", "3\n"} {
				got, err := lines.ReadString('\n')
				require.NoError(t, err)
				assert.Equal(t, want, got)
				next <- struct{}{}
			}
		})
	}
}

func TestRequestBodiesPassUnbuffered(t *testing.T) {
	w := newWorld(t)
	got := make(chan string)
	w.app(func(_ http.ResponseWriter, r *http.Request) {
		lines := bufio.NewReader(r.Body)
		for range 3 {
			line, _ := lines.ReadString('\n')
			got <- line
		}
	}, host)
	body, writer := io.Pipe()
	req, err := http.NewRequest(http.MethodPost, "https://"+host+"/", body)
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() {
		res, err := w.client().Do(req)
		if err == nil {
			err = res.Body.Close()
		}
		done <- err
	}()
	for _, line := range []string{"1\n", "2\n", "3\n"} {
		_, err := io.WriteString(writer, line)
		require.NoError(t, err)
		assert.Equal(t, line, <-got)
	}
	require.NoError(t, writer.Close())
	require.NoError(t, <-done)
}

func TestFullDuplexAnswersWhileTheRequestFlows(t *testing.T) {
	w := newWorld(t, func(c *router.Config) { c.FullDuplex = true })
	w.app(func(rw http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(rw).EnableFullDuplex()
		lines := bufio.NewReader(r.Body)
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				return
			}
			_, _ = io.WriteString(rw, "echo "+line)
			_ = http.NewResponseController(rw).Flush()
		}
	}, host)
	body, writer := io.Pipe()
	req, err := http.NewRequest(http.MethodPost, "https://"+host+"/", body)
	require.NoError(t, err)
	go func() { _, _ = io.WriteString(writer, "1\n") }()
	res, err := w.client().Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	lines := bufio.NewReader(res.Body)
	for _, next := range []string{"2\n", "3\n", ""} {
		got, err := lines.ReadString('\n')
		require.NoError(t, err)
		assert.True(t, strings.HasPrefix(got, "echo "))
		if next == "" {
			require.NoError(t, writer.Close())
			continue
		}
		_, err = io.WriteString(writer, next)
		require.NoError(t, err)
	}
}

func TestTrailersOfAnswersPass(t *testing.T) {
	w := newWorld(t)
	w.app(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Trailer", "X-Announced")
		_, _ = io.WriteString(rw, "body")
		rw.Header().Set("X-Announced", "1")
		rw.Header().Set(http.TrailerPrefix+"X-Unannounced", "2")
	}, host)
	res := w.get(w.client(), "https://"+host+"/")
	assert.Equal(t, "1", res.Trailer.Get("X-Announced"))
	assert.Equal(t, "2", res.Trailer.Get("X-Unannounced"))
}

func TestInformationalAnswersPass(t *testing.T) {
	w := newWorld(t)
	w.app(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Link", "</style.css>")
		rw.WriteHeader(http.StatusEarlyHints)
		rw.WriteHeader(http.StatusNoContent)
	}, host)
	var hints []string
	ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
			hints = append(hints, http.StatusText(code), header.Get("Link"))
			return nil
		},
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+"/", nil)
	require.NoError(t, err)
	assert.Equal(t, http.StatusNoContent, w.do(w.client(), req).StatusCode)
	assert.Equal(t, []string{"Early Hints", "</style.css>"}, hints)
}

func TestExpectContinue(t *testing.T) {
	for name, accept := range map[string]bool{"accepted": true, "refused before the body": false} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			requests, handler := record()
			w.app(func(rw http.ResponseWriter, r *http.Request) {
				handler(rw, r)
				if !accept {
					rw.WriteHeader(http.StatusForbidden)
					return
				}
				_, _ = io.Copy(rw, r.Body)
			}, host)
			req, err := http.NewRequest(http.MethodPost, "https://"+host+"/", strings.NewReader("body"))
			require.NoError(t, err)
			req.Header.Set("Expect", "100-continue")
			req.Header.Set("X-Forwarded-For", "10.0.0.1")
			client := w.client()
			client.Transport.(*http.Transport).ExpectContinueTimeout = 1 << 40 // the 100 must really come
			res := w.do(client, req)
			got := <-requests
			assert.Equal(t, "100-continue", got.Header.Get("Expect"))
			assert.Equal(t, []string{"close"}, got.Header["Connection"], "gorouter's default")
			assert.Equal(t, []string{"10.0.0.1, 127.0.0.1"}, got.Header["X-Forwarded-For"])
			if accept {
				assert.Equal(t, "body", res.body)
			} else {
				assert.Equal(t, http.StatusForbidden, res.StatusCode)
			}
		})
	}
}

// zeros is an endless body.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestLargeBodiesNeedNoMemory(t *testing.T) {
	const size = 128 << 20
	w := newWorld(t)
	w.app(func(rw http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		_, _ = io.Copy(rw, io.LimitReader(zeros{}, n))
	}, host)
	client := w.client()
	w.get(client, "https://"+host+"/") // what is allocated once
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	req, err := http.NewRequest(http.MethodPut, "https://"+host+"/", io.LimitReader(zeros{}, size))
	require.NoError(t, err)
	res, err := client.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	n, err := io.Copy(io.Discard, res.Body)
	require.NoError(t, err)
	runtime.ReadMemStats(&after)
	assert.Equal(t, int64(size), n)
	assert.Less(t, int64(after.HeapSys)-int64(before.HeapSys), int64(size/4), "memory taken from the system for both directions")
}

// upgrade opens an echoing WebSocket-like tunnel through the router.
func (w *world) upgrade(protocol string) (*tls.Conn, *bufio.Reader) {
	w.t.Helper()
	conn, err := tls.Dial("tcp", w.router.Addr(), &tls.Config{RootCAs: pool(w.root), ServerName: host})
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = conn.Close() })
	_, err = io.WriteString(conn, "GET /ws HTTP/1.1\r\nHost: "+host+"\r\nConnection: Upgrade\r\nUpgrade: "+protocol+"\r\n\r\n")
	require.NoError(w.t, err)
	reader := bufio.NewReader(conn)
	res, err := http.ReadResponse(reader, nil)
	require.NoError(w.t, err)
	require.Equal(w.t, http.StatusSwitchingProtocols, res.StatusCode)
	assert.Equal(w.t, protocol, res.Header.Get("Upgrade"))
	return conn, reader
}

func echoUpgraded(rw http.ResponseWriter, r *http.Request) {
	conn, buffered, err := http.NewResponseController(rw).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+r.Header.Get("Upgrade")+"\r\n\r\n")
	_, _ = io.Copy(conn, buffered)
}

func TestUpgradesPass(t *testing.T) {
	for name, test := range map[string]struct {
		protocol string
		bound    bool
	}{
		"WebSocket":                           {"websocket", false},
		"WebSocket on leg 1 of a bound route": {"websocket", true},
		"any other word, as in gorouter":      {"h2c", false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.app(echoUpgraded, host, gateway)
			if test.bound {
				w.bind()
			}
			conn, reader := w.upgrade(test.protocol)
			_, err := io.WriteString(conn, "ping\n")
			require.NoError(t, err)
			line, err := reader.ReadString('\n')
			require.NoError(t, err)
			assert.Equal(t, "ping\n", line)
		})
	}
}

func TestCloseCutsUpgradedConnections(t *testing.T) {
	w := newWorld(t)
	w.app(echoUpgraded, host)
	conn, reader := w.upgrade("websocket")
	require.NoError(t, w.router.Close())
	_, err := reader.ReadByte()
	assert.Error(t, err)
	_, err = tls.Dial("tcp", conn.RemoteAddr().String(), nil)
	assert.Error(t, err, "nobody listens any more")
}

func TestOnlyHTTP1IsSpoken(t *testing.T) {
	w := newWorld(t)
	conn, err := tls.Dial("tcp", w.router.Addr(), &tls.Config{
		RootCAs: pool(w.root), ServerName: host, NextProtos: []string{"h2", "http/1.1"},
	})
	require.NoError(t, err)
	defer conn.Close()
	assert.Equal(t, "http/1.1", conn.ConnectionState().NegotiatedProtocol)
}

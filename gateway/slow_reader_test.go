package gateway_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/gateway"
)

// A client that stops reading does not hold its place among the requests in flight
// beyond MAX_STREAM, nor a stream beyond its permission.
func TestAClientThatDoesNotReadIsLetGo(t *testing.T) {
	for media, revoke := range map[string]bool{"application/octet-stream": false, "text/event-stream": true} {
		t.Run(media, func(t *testing.T) {
			w := newWorld(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", media)
				block := make([]byte, 64<<10)
				for r.Context().Err() == nil {
					if _, err := w.Write(block); err != nil {
						return
					}
				}
			}, func(c *gateway.Config) {
				c.MaxStream = time.Second
				if revoke {
					c.MaxStream = time.Minute
				}
			})
			g := w.gateway.(*gateway.Gateway)
			go g.Run(t.Context())
			ended := make(chan struct{})
			server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				defer close(ended)
				g.ServeHTTP(rw, r)
			}))
			conn, err := net.Dial("tcp", server.Listener.Addr().String())
			require.NoError(t, err)
			defer conn.Close()
			forged := w.request()
			fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: g\r\n", forged.URL.Path)
			_ = forged.Header.Write(conn)
			_, _ = io.WriteString(conn, "\r\n")
			_, err = conn.Read(make([]byte, 100)) // it has begun; and no more is read
			require.NoError(t, err)
			if revoke {
				w.unbind()
			}
			select {
			case <-ended:
			case <-time.After(patience):
				t.Fatal("it is still in flight")
			}
		})
	}
}

// The same for a WebSocket whose client neither reads nor writes.
func TestARevokedWebSocketThatDoesNotReadIsLetGo(t *testing.T) {
	w := newWorld(t, func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
		frame := append([]byte{0x82, 126, 0xff, 0xff}, make([]byte, 65535)...)
		for {
			if _, err := conn.Write(frame); err != nil {
				return
			}
		}
	}, nil)
	g := w.gateway.(*gateway.Gateway)
	go g.Run(t.Context())
	ended := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		defer close(ended)
		g.ServeHTTP(rw, r)
	}))
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	forged := w.request()
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: g\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n", forged.URL.Path)
	_ = forged.Header.Write(conn)
	_, _ = io.WriteString(conn, "\r\n")
	head := make([]byte, 12)
	_, err = io.ReadFull(conn, head)
	require.NoError(t, err)
	require.Equal(t, "HTTP/1.1 101", string(head))
	w.unbind()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("it is still in flight")
	}
}

package streams_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/gateway/streams"
)

const patience = 30 * time.Second

var goingAway = []byte{0x88, 0x02, 0x03, 0xe9} // RFC 6455: FIN and close, two bytes, 1001

// frame is one frame of a WebSocket with a payload of n bytes.
func frame(n int, masked bool) []byte {
	var b []byte
	switch {
	case n < 126:
		b = []byte{0x82, byte(n)}
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16([]byte{0x82, 126}, uint16(n))
	default:
		b = binary.BigEndian.AppendUint64([]byte{0x82, 127}, uint64(n))
	}
	if masked {
		b[1] |= 0x80
		b = append(b, 1, 2, 3, 4)
	}
	return append(b, bytes.Repeat([]byte{0x88}, n)...) // what looks like a close frame
}

// heard is a client that reads all.
func heard(t *testing.T) (*streams.WebSocket, func() []byte) {
	client, server := net.Pipe()
	got := make(chan []byte, 1)
	go func() {
		all, _ := io.ReadAll(client)
		got <- all
	}()
	t.Cleanup(func() { _ = client.Close() })
	return &streams.WebSocket{Conn: server}, func() []byte { _ = server.Close(); return <-got }
}

func TestLeaveTakenBetweenTwoFrames(t *testing.T) {
	for _, size := range []int{0, 1, 125, 126, 127, 65535, 65536, 70000} {
		for _, masked := range []bool{false, true} {
			one := frame(size, masked)
			for _, cut := range []int{0, 1, 2, 3, len(one) / 2, len(one) - 1, len(one)} {
				cut = min(cut, len(one))
				socket, all := heard(t)
				n, err := socket.Write(one[:cut])
				require.NoError(t, err)
				require.Equal(t, cut, n)
				socket.Leave()
				rest := append(append([]byte{}, one[cut:]...), frame(3, false)...)
				n, err = socket.Write(rest)
				require.NoError(t, err)
				require.Equal(t, len(rest), n, "what is not said any more is no error")
				want := append(append([]byte{}, one...), goingAway...)
				if cut == 0 {
					want = goingAway
				}
				require.Equal(t, want, all(), "size %d, masked %v, cut at %d", size, masked, cut)
			}
		}
	}
}

func TestFramesPassUnchangedInAnyPieces(t *testing.T) {
	var whole []byte
	for _, size := range []int{0, 5, 126, 70000, 0, 200} {
		whole = append(whole, frame(size, false)...)
	}
	for _, piece := range []int{1, 7, 4096, len(whole)} {
		socket, all := heard(t)
		for rest := whole; len(rest) > 0; rest = rest[min(piece, len(rest)):] {
			_, err := socket.Write(rest[:min(piece, len(rest))])
			require.NoError(t, err)
		}
		socket.Leave()
		socket.Leave()
		require.Equal(t, append(append([]byte{}, whole...), goingAway...), all())
	}
}

// A client that does not read holds up nobody.
func TestLeaveOfAClientThatDoesNotRead(t *testing.T) {
	_, server := net.Pipe()
	socket := &streams.WebSocket{Conn: server}
	blocked := make(chan struct{})
	go func() { defer close(blocked); _, _ = socket.Write(frame(10, false)) }()
	socket.Leave()
	<-blocked
}

func TestAStreamIsCutOnceItIsNotPermitted(t *testing.T) {
	registry := prometheus.NewRegistry()
	open := streams.New(registry)
	var permitted atomic.Bool
	permitted.Store(true)
	denied := errors.New("denied")
	cut := make(chan error, 10)
	open.Add(streams.Stream{
		Permitted: func(context.Context) error {
			if permitted.Load() {
				return nil
			}
			return denied
		},
		Cut: func(err error) { cut <- err },
	})
	over := open.Add(streams.Stream{Permitted: func(context.Context) error { return denied }, Cut: func(error) { panic("it has ended") }})
	over()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); open.Run(ctx) }()
	permitted.Store(false)
	select {
	case err := <-cut:
		require.ErrorIs(t, err, denied)
	case <-time.After(patience):
		t.Fatal("still open")
	}
	stop()
	<-ended
	assert.Empty(t, cut, "once")
	assert.InDelta(t, 0, gauge(t, registry, "mtls_authz_streams_open"), 0)
	assert.InDelta(t, 1, gauge(t, registry, "mtls_authz_streams_cut_total"), 0)
}

func gauge(t *testing.T, registry *prometheus.Registry, name string) float64 {
	families, err := registry.Gather()
	require.NoError(t, err)
	for _, family := range families {
		if family.GetName() == name {
			metric := family.GetMetric()[0]
			return metric.GetGauge().GetValue() + metric.GetCounter().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

func TestFarewell(t *testing.T) {
	open := streams.New(prometheus.NewRegistry())
	polite, deaf, events := make(chan struct{}), make(chan error, 1), make(chan error, 1)
	var done func()
	done = open.Add(streams.Stream{Leave: func() { close(polite); done() }, Cut: func(error) { panic("it has left by itself") }})
	open.Add(streams.Stream{Leave: func() {}, Cut: func(err error) { deaf <- err }})
	open.Add(streams.Stream{Cut: func(err error) { events <- err }})
	open.Farewell(t.Context())
	<-polite
	require.ErrorIs(t, <-deaf, streams.ErrLeaving)
	require.ErrorIs(t, <-events, streams.ErrLeaving)
}

package streams

import (
	"encoding/binary"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// WebSocket is the client's side of an upgraded connection. It follows the
// frames that the app sends (RFC 6455 section 5.2), so that it can close the
// conversation between two of them.
type WebSocket struct {
	net.Conn

	mu     sync.Mutex
	frames frames
	// leaving: the next boundary of frames is the last. left: it was.
	leaving, left bool
}

// Leaver returns what takes leave of the upgraded connection that an answer begins;
// nil: an event stream has no word for it.
func Leaver(res *http.Response, client *atomic.Pointer[WebSocket]) func() {
	if res.StatusCode != http.StatusSwitchingProtocols {
		return nil
	}
	return func() {
		if socket := client.Load(); socket != nil {
			socket.Leave()
		}
	}
}

// goingAway is a close frame with status 1001 (RFC 6455 sections 5.5.1 and 7.4.1).
var goingAway = []byte{0x88, 0x02, 0x03, 0xe9}

// farewellTimeout bounds the wait for a client that does not read.
const farewellTimeout = time.Second

// Leave tells the client that this end goes away, as soon as the frame that is
// being sent is whole. The client's answer still reaches the app; what the app
// says no longer reaches the client.
func (s *WebSocket) Leave() {
	_ = s.SetWriteDeadline(time.Now().Add(farewellTimeout)) // also for a Write that holds the lock
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaving = true
	s.leaveAtBoundary()
}

func (s *WebSocket) leaveAtBoundary() {
	if s.leaving && !s.left && s.frames.atBoundary() {
		s.left = true
		_, _ = s.Conn.Write(goingAway) // who is gone needs no farewell
	}
}

// Write implements io.Writer for what the app sends.
func (s *WebSocket) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	written := 0
	for written < len(p) && !s.left {
		part := p[written:]
		if s.leaving {
			part = part[:s.frames.toBoundary(part)]
		}
		n, err := s.Conn.Write(part)
		s.frames.pass(part[:n])
		written += n
		if err != nil {
			return written, err
		}
		s.leaveAtBoundary()
	}
	return len(p), nil
}

// frames knows where in a sequence of frames it is. The zero value is at a
// boundary.
type frames struct {
	// head holds the bytes of a header that is not whole yet.
	head [14]byte
	have int
	// payload is what the frame still has to bring.
	payload uint64
}

func (f *frames) atBoundary() bool { return f.have == 0 && f.payload == 0 }

// toBoundary returns how much of p belongs to the frame that is under way, at
// least one byte.
func (f *frames) toBoundary(p []byte) int {
	ahead := *f
	for i := 0; i < len(p); {
		i += ahead.step(p[i:])
		if ahead.atBoundary() {
			return i
		}
	}
	return len(p)
}

// pass goes on by p.
func (f *frames) pass(p []byte) {
	for len(p) > 0 {
		p = p[f.step(p):]
	}
}

// step goes on by one byte of a header, or by what p has of a payload, and
// returns how far.
func (f *frames) step(p []byte) int {
	if f.payload > 0 {
		n := min(f.payload, uint64(len(p)))
		f.payload -= n
		return int(n)
	}
	f.head[f.have] = p[0]
	f.have++
	if f.have >= 2 && f.have == f.headLength() {
		f.payload, f.have = f.length(), 0
	}
	return 1
}

// headLength is the length of the header, of which two bytes are there.
func (f *frames) headLength() int {
	length := 2
	switch f.head[1] & 0x7f {
	case 126:
		length += 2
	case 127:
		length += 8
	}
	if f.head[1]&0x80 != 0 {
		length += 4 // the mask
	}
	return length
}

// length is that of the payload, by a header that is whole.
func (f *frames) length() uint64 {
	switch short := f.head[1] & 0x7f; short {
	case 126:
		return uint64(binary.BigEndian.Uint16(f.head[2:]))
	case 127:
		return binary.BigEndian.Uint64(f.head[2:])
	default:
		return uint64(short)
	}
}

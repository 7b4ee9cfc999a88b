package acceptance_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// possessions are what a process must give back.
type possessions struct{ descriptors, goroutines int }

// possessions reads them.
func (w *world) possessions(t *testing.T) possessions {
	t.Helper()
	pid, err := os.ReadFile(filepath.Join(w.Dir, "pid"))
	require.NoError(t, err)
	descriptors, err := os.ReadDir("/proc/" + strings.TrimSpace(string(pid)) + "/fd")
	require.NoError(t, err)
	goroutines, err := strconv.Atoi(w.metric(t, "go_goroutines"))
	require.NoError(t, err)
	return possessions{len(descriptors), goroutines}
}

// Whatever becomes of requests, the gateway is afterwards what it was before. It
// keeps some connections for the next requests, as many as there were at once:
// those of the first round.
func TestNoRequestLeavesAnythingBehind(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		t.Skip("needs /proc to see the gateway's descriptors")
	}
	needsStandIn(t, "gorouter of April 2025 answers 503 to WebSockets on bound routes")
	const rounds, tolerance = 500, 20
	w := start(t, setup{env: []string{"ROUTER_TRUST=assume", "ROUTER_ADDRESS=down.apps.identity=127.0.0.1:1,$router"}, port: true})
	mixed := mixtureOf(t, w)
	for i := range len(mixed) {
		mixed[i]()
	}
	before := w.possessions(t)
	for i := range rounds {
		mixed[i%len(mixed)]()
	}
	assert.NoError(t, until("everything is given back", func() error {
		after := w.possessions(t)
		if after.descriptors > before.descriptors+tolerance || after.goroutines > before.goroutines+tolerance {
			return fmt.Errorf("%+v before, and after %d requests %+v", before, rounds, after)
		}
		if serving := w.metric(t, "mtls_authz_requests_in_flight"); serving != "0" {
			return fmt.Errorf("%s requests in flight", serving)
		}
		return nil
	}))
}

// mixtureOf are requests of every fate.
func mixtureOf(t *testing.T, w *world) []func() {
	t.Helper()
	everybody := `{"allow":["cf:any"]}`
	p := w.protect(t, protection{parameters: `{"allow":["cf:app:$frontend"]}`})
	down := w.protect(t, protection{route: "down.apps.identity", parameters: everybody})
	sockets := w.protect(t, protection{parameters: everybody, handler: echo})
	entered := make(chan struct{})
	stuck := w.protect(t, protection{parameters: everybody, handler: func(w http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		<-r.Context().Done()
	}})
	streaming := w.protect(t, protection{parameters: everybody, handler: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: 0\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}})
	reading := w.protect(t, protection{parameters: everybody, handler: func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.CopyN(io.Discard, r.Body, 1)
		entered <- struct{}{}
		_, _ = io.Copy(io.Discard, r.Body)
	}})
	open := func(p *protected, line string, headers ...string) net.Conn {
		conn := p.dial(t, "frontend")
		writeRequest(t, conn, line+" HTTP/1.1", append([]string{"Host: " + p.host}, headers...), "")
		return conn
	}
	return []func(){
		func() { p.call(t, "frontend", "GET", "/").expect(t, "200 allowed") },
		func() { p.call(t, "monitoring", "GET", "/").expect(t, noMatch) },
		func() { p.direct(t, leg2{caller: "frontend", without: []string{signatureHeader}}).expect(t, malformed) },
		func() { down.direct(t, leg2{caller: "frontend"}).expect(t, "502 upstream_unreachable") },
		func() { // a client that leaves while the app thinks
			conn := open(stuck, "GET /")
			<-entered
			conn.Close()
		},
		func() { // and one in the midst of its body
			conn := open(reading, "PUT /", "Content-Length: 1000")
			_, err := io.WriteString(conn, "a")
			require.NoError(t, err)
			<-entered
			conn.Close()
		},
		func() { // and one that has heard enough
			conn := open(streaming, "GET /")
			res := readResponse(t, conn, "GET /")
			require.Equal(t, http.StatusOK, res.StatusCode)
			conn.Close()
		},
		func() {
			conn := open(sockets, "GET /", "Connection: Upgrade", "Upgrade: websocket")
			lines := bufio.NewReader(conn)
			res, err := http.ReadResponse(lines, nil)
			require.NoError(t, err)
			require.Equal(t, http.StatusSwitchingProtocols, res.StatusCode)
			_, err = io.WriteString(conn, "a\n")
			require.NoError(t, err)
			_, err = lines.ReadString('\n')
			require.NoError(t, err)
			conn.Close()
		},
		func() { // a head that is never finished
			conn, err := net.Dial("tcp", strings.TrimPrefix(w.Controller.URL, "http://"))
			require.NoError(t, err)
			_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nX-")
			require.NoError(t, err)
			conn.Close()
		},
	}
}

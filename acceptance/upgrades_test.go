package acceptance_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// echo switches protocols and says every line again.
func echo(w http.ResponseWriter, r *http.Request) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\nX-Mtls-Authz-Caller: forged\r\n\r\n", r.Header.Get("Upgrade"))
	_, _ = io.Copy(conn, buffered)
}

func TestWebSocketsPassAndEcho(t *testing.T) {
	t.Parallel()
	needsStandIn(t, "gorouter of April 2025 answers 503 to WebSockets on bound routes")
	p := common(t).protect(t, protection{parameters: `{"allow":["cf:app:$frontend"]}`, handler: echo})
	conn := p.dial(t, "frontend")
	writeRequest(t, conn, "GET /socket HTTP/1.1", []string{"Host: " + p.host, "Connection: Upgrade", "Upgrade: websocket"}, "")
	lines := bufio.NewReader(conn)
	res, err := http.ReadResponse(lines, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, res.StatusCode)
	assert.NotContains(t, res.Header, "X-Mtls-Authz-Caller")
	line := p.decision(t, res.Header.Get(decisionHeader))
	assert.Equal(t, "allowed", line["mtls_auth"])
	assert.EqualValues(t, 101, line["status"])
	for _, said := range []string{"one\n", "two\n", "three\n"} {
		_, err := io.WriteString(conn, said)
		require.NoError(t, err)
		heard, err := lines.ReadString('\n')
		require.NoError(t, err)
		assert.Equal(t, said, heard)
	}
}

func TestAWebSocketThatIsNotAllowedIsRefused(t *testing.T) {
	t.Parallel()
	needsStandIn(t, "gorouter of April 2025 answers 503 to WebSockets on bound routes")
	p := common(t).protect(t, protection{parameters: `{"allow":["cf:app:$frontend"]}`, handler: echo})
	p.call(t, "monitoring", "GET", "/", "Connection: Upgrade", "Upgrade: websocket").expect(t, noMatch)
}

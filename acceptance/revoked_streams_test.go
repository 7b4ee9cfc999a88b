package acceptance_test

import (
	"bufio"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A tunnel is decided on when it opens; it does not outlive its permission.
func TestAWebSocketIsCutWhenItsGrantIsTakenBack(t *testing.T) {
	t.Parallel()
	needsStandIn(t, "gorouter of April 2025 answers 503 to WebSockets on bound routes")
	p := common(t).protect(t, protection{parameters: `{"allow":["cf:app:$frontend"]}`, handler: echo})
	conn := p.dial(t, "frontend")
	writeRequest(t, conn, "GET /socket HTTP/1.1", []string{"Host: " + p.host, "Connection: Upgrade", "Upgrade: websocket"}, "")
	lines := bufio.NewReader(conn)
	res, err := http.ReadResponse(lines, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, res.StatusCode)
	p.update(t, `{"allow":null}`)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
	_, err = io.Copy(io.Discard, lines)
	require.NoError(t, err, "the connection ends; it does not time out")
}

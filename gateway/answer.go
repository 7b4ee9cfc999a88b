package gateway

import (
	"bufio"
	"net"
	"net/http"

	"github.com/mtls-authz/mtls-authz/gateway/headers"
	"github.com/mtls-authz/mtls-authz/gateway/streams"
)

// answerWriter is the response on its way to the client: it puts the decision
// id on it, takes off it what only the gateway may say, and has the decision
// line written when the outcome is known.
type answerWriter struct {
	http.ResponseWriter
	x *exchange
	// What the request holds of the load.
	entered      bool
	enteredRoute string
}

// Unwrap lets http.ResponseController reach Flush.
func (w *answerWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Hijack implements http.Hijacker for upgraded connections, which are
// WebSockets: nothing else is let through.
func (w *answerWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return conn, buffered, err
	}
	socket := &streams.WebSocket{Conn: conn}
	w.x.socket.Store(socket)
	return socket, buffered, nil
}

// WriteHeader implements http.ResponseWriter, interim answers included.
func (w *answerWriter) WriteHeader(status int) {
	headers.OfAnswer(w.Header(), w.x.id)
	if status >= 200 {
		w.x.record(status)
	}
	w.ResponseWriter.WriteHeader(status)
}

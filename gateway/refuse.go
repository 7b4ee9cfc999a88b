package gateway

import (
	"net/http"
	"time"
)

// leftoverTimeout is how long the rest of a refused request's body may take.
const leftoverTimeout = time.Second

// refuse answers with the one shape of refusal.
func (x *exchange) refuse(err error) {
	a := x.note(err)
	clear(x.w.Header())
	if x.r.ContentLength != 0 {
		// net/http reads what is left of a body before it lets the client have a
		// short answer; a client that sends nothing would hold the connection.
		_ = http.NewResponseController(x.w).SetReadDeadline(time.Now().Add(leftoverTimeout))
	}
	a.Write(x.w, x.id)
}

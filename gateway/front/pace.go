package front

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// ErrSlow: the client sends the body of its request too slowly.
var ErrSlow = errors.New("the body of the request comes too slowly")

// pace bounds the body of a request: its time, or its rate.
func (f *front) pace(w http.ResponseWriter, r *http.Request) {
	if r.Body == nil || r.Body == http.NoBody {
		return
	}
	control := http.NewResponseController(w)
	if !f.Streams(r) {
		_ = control.SetReadDeadline(time.Now().Add(f.BodyTimeout)) // it fails only where there is no connection
		return
	}
	if f.MinBodyRate > 0 {
		r.Body = &pacedBody{ReadCloser: r.Body, control: control, window: f.BodyTimeout, least: int64(f.MinBodyRate) * int64(f.BodyTimeout/time.Second)}
	}
}

// pacedBody is a body that must bring so many bytes in each window of time. Only
// waiting for the client counts: the window is running while somebody reads.
type pacedBody struct {
	io.ReadCloser
	control *http.ResponseController
	window  time.Duration
	least   int64

	// left is what the window still needs, and waited what it has taken.
	left   int64
	waited time.Duration
}

// Read implements io.Reader. Once the body has ended there is no deadline: the
// answer may take longer.
func (b *pacedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		b.left, b.waited = b.least, 0
	}
	began := time.Now()
	_ = b.control.SetReadDeadline(began.Add(b.window - b.waited))
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	b.waited += time.Since(began)
	_ = b.control.SetReadDeadline(time.Time{})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("%w: %w", ErrSlow, err)
	}
	return n, err
}

package leg3

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// ErrRejected: the router refused the route service signature.
var ErrRejected = errors.New("router refused the route service signature")

// Rejection is the router's refusal.
type Rejection struct{ Status int }

// Error implements error.
func (r *Rejection) Error() string {
	return fmt.Sprintf("%v with status %d", ErrRejected, r.Status)
}

// Unwrap returns the sentinel.
func (r *Rejection) Unwrap() error { return ErrRejected }

// What gorouter says when it refuses a route service's request, with or without
// the status line that it puts before its texts.
var rejectionTexts = [][]byte{
	[]byte("Failed to validate Route Service Signature"),
	[]byte("invalid route service signature detected"),
}

var rejectionPrefixes = map[int]string{
	http.StatusBadRequest:     "400 Bad Request: ",
	http.StatusBadGateway:     "502 Bad Gateway: ",
	http.StatusGatewayTimeout: "504 Gateway Timeout: ",
}

// detectRejection turns a refusal by the router into an error. An app can
// imitate it, and refuses only itself by that.
func detectRejection(res *http.Response) (*http.Response, error) {
	prefix, candidate := rejectionPrefixes[res.StatusCode]
	if !candidate || res.Body == nil {
		return res, nil
	}
	body := bufio.NewReaderSize(res.Body, 128)
	start, _ := body.Peek(len(prefix) + len(rejectionTexts[0]))
	start = bytes.TrimPrefix(start, []byte(prefix))
	for _, text := range rejectionTexts {
		if bytes.HasPrefix(start, text) {
			res.Body.Close()
			return nil, &Rejection{res.StatusCode}
		}
	}
	res.Body = struct {
		io.Reader
		io.Closer
	}{body, res.Body}
	return res, nil
}

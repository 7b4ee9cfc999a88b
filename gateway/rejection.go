package gateway

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
)

// rejection is the router's refusal on leg 3.
type rejection struct{ status int }

// Error implements error.
func (r *rejection) Error() string {
	return fmt.Sprintf("%v with status %d", ErrRouterRejected, r.status)
}

// Unwrap returns the sentinel.
func (r *rejection) Unwrap() error { return ErrRouterRejected }

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
			return nil, &rejection{res.StatusCode}
		}
	}
	res.Body = struct {
		io.Reader
		io.Closer
	}{body, res.Body}
	return res, nil
}

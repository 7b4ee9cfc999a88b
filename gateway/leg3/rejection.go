package leg3

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// ErrRejected: the router refused the route service signature.
var ErrRejected = errors.New("router refused the route service signature")

// Rejection is the router's refusal.
type Rejection struct {
	Status int
	// RequestID is the answer's X-Vcap-Request-Id. gorouter's refusals have
	// none: where there is one, an app was reached and imitates the router.
	RequestID string
}

// Error implements error.
func (r *Rejection) Error() string {
	return fmt.Sprintf("%v with status %d", ErrRejected, r.Status)
}

// Unwrap returns the sentinel.
func (r *Rejection) Unwrap() error { return ErrRejected }

var (
	// ErrUnreachable: the router could not deliver the request to an app.
	ErrUnreachable = errors.New("the router reached no app")
	// ErrTimeout: the app did not answer the router in time.
	ErrTimeout = errors.New("the app did not answer the router")
	// ErrMisdirected: the router takes no request for this host on any connection
	// that this gateway can open. It is an ErrUnreachable.
	ErrMisdirected = fmt.Errorf("%w: 421 Misdirected Request, as where its domain demands a client certificate that the gateway does not have", ErrUnreachable)
)

// misdirected tells a router's own 421, which concerns the connection, from an
// app's.
func misdirected(res *http.Response) bool {
	return res.StatusCode == http.StatusMisdirectedRequest && res.Header.Get(headerRequestID) == ""
}

// routerFailure tells the router's own error from an app's: the router names
// it, and has no request id to give. Nil: the app answered.
func routerFailure(res *http.Response) error {
	if misdirected(res) {
		return ErrMisdirected
	}
	name := res.Header.Get(headerRouterError)
	if name == "" || res.StatusCode < http.StatusInternalServerError || res.Header.Get(headerRequestID) != "" {
		return nil
	}
	kind, _, _ := strings.Cut(name, " ") // what follows has addresses in it
	if strings.Contains(name, "deadline exceeded") || strings.Contains(name, "timeout") {
		return fmt.Errorf("%w: %s", ErrTimeout, kind)
	}
	return fmt.Errorf("%w: %s", ErrUnreachable, kind)
}

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

const (
	headerRequestID   = "X-Vcap-Request-Id"
	headerRouterError = "X-Cf-Routererror"
)

// detectRejection turns a refusal by the router into an error. An app can
// imitate it, and refuses only itself by that.
func detectRejection(res *http.Response) (*http.Response, error) {
	prefix, candidate := rejectionPrefixes[res.StatusCode]
	if !candidate {
		return res, nil
	}
	id := res.Header.Get(headerRequestID)
	switch {
	case res.Request.Method == http.MethodHead:
		// No text to know it by: gorouter answers for itself without a request
		// id, and gives its other errors a name.
		if name := res.Header.Get(headerRouterError); id == "" && (name == "" || strings.HasSuffix(name, "_route_service_signature")) {
			return nil, &Rejection{Status: res.StatusCode}
		}
		return res, nil
	case res.ContentLength < 0 && id != "":
		return res, nil // an app's stream, which must not wait for its beginning
	}
	body := bufio.NewReaderSize(res.Body, 128)
	start, _ := body.Peek(len(prefix) + len(rejectionTexts[0])) // a shorter body is all there is
	start = bytes.TrimPrefix(start, []byte(prefix))
	for _, text := range rejectionTexts {
		if bytes.HasPrefix(start, text) {
			res.Body.Close()
			return nil, &Rejection{Status: res.StatusCode, RequestID: id}
		}
	}
	res.Body = struct {
		io.Reader
		io.Closer
	}{body, res.Body}
	return res, nil
}

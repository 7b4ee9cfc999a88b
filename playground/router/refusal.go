package router

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/mtls-authz/mtls-authz/playground/router/signature"
)

// refusal is an answer of the router itself. Its texts are gorouter's: route
// services and people read them.
type refusal struct {
	status       int
	routerError  string // X-Cf-Routererror; none when empty
	cacheControl string // none when empty
	body         string // one line of plain text
}

func (f *refusal) write(w http.ResponseWriter) {
	header := w.Header()
	header.Set("Content-Type", "text/plain; charset=utf-8")
	header.Set("X-Content-Type-Options", "nosniff")
	if f.routerError != "" {
		header.Set("X-Cf-Routererror", f.routerError)
	}
	if f.cacheControl != "" {
		header.Set("Cache-Control", f.cacheControl)
	}
	w.WriteHeader(f.status)
	_, _ = io.WriteString(w, f.body+"\n") //nolint:gosec // plain text; and the client may be gone
}

var (
	emptyHost = &refusal{
		http.StatusBadRequest, "empty_host", "public,max-age=2",
		"400 Bad Request: Request had empty Host header",
	}
	invalidAppInstance = &refusal{
		http.StatusBadRequest, "invalid_cf_app_instance_header", "no-cache, no-store",
		"400 Bad Request: Invalid X-CF-App-Instance Header",
	}
)

func unknownRoute(host string) *refusal {
	return &refusal{
		http.StatusNotFound, "unknown_route", "no-cache, no-store",
		fmt.Sprintf("404 Not Found: Requested route ('%s') does not exist.", host),
	}
}

func unknownInstance(host, app, index string) *refusal {
	return &refusal{
		http.StatusBadRequest, "unknown_route", "no-cache, no-store",
		fmt.Sprintf("400 Bad Request: Requested instance ('%s') with guid ('%s') does not exist for route ('%s')", index, app, host),
	}
}

// badSignature answers leg 3. Unlike its other answers gorouter sends no
// X-Cf-Routererror here: the body alone tells.
func badSignature(err error) *refusal {
	status := http.StatusBadGateway
	if errors.Is(err, signature.ErrExpired) {
		status = http.StatusGatewayTimeout
	}
	return &refusal{status: status, body: fmt.Sprintf("%d %s: Failed to validate Route Service Signature: %v",
		status, http.StatusText(status), err)}
}

// strictRefusal answers a bad signature on a route without route service.
func strictRefusal(err error) *refusal {
	if errors.Is(err, signature.ErrExpired) {
		expired := badSignature(err)
		expired.routerError = "expired_route_service_signature"
		return expired
	}
	return &refusal{
		status: http.StatusBadRequest, routerError: "invalid_route_service_signature",
		body: "400 Bad Request: invalid route service signature detected",
	}
}

// failed answers when no destination took the request. The last error goes
// into the header, as in gorouter: it names addresses, never headers or paths.
func failed(w http.ResponseWriter, err error) {
	status, text := http.StatusBadGateway, "502 Bad Gateway: Registered endpoint failed to handle the request."
	var untrusted *tls.CertificateVerificationError
	switch {
	case errors.Is(err, context.Canceled):
		status, text = 499, "499 Request Cancelled"
	case errors.As(err, &untrusted):
		status, text = 526, "526 Invalid SSL Certificate"
	}
	(&refusal{status: status, routerError: "endpoint_failure (" + err.Error() + ")", body: text}).write(w)
}

package probe

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"

	"github.com/mtls-authz/mtls-authz/gateway/headers"
	"github.com/mtls-authz/mtls-authz/gateway/selftest/place"
	"github.com/mtls-authz/mtls-authz/identity"
)

// How a round ends that proves nothing. Each says what to do about it.
var (
	ErrSentinel      = errors.New("the router passes on the client's own " + identity.Header + "; set router.forwarded_client_cert: sanitize_set")
	ErrNotBound      = errors.New("the route is not bound in the router: the app itself answered, without the gateway; if it was not bound just now: cf bind-route-service")
	ErrUnknownRoute  = errors.New("the router does not know the route: is it mapped to a running app?")
	ErrRefused       = errors.New("a gateway refused the probe: are all instances of this release, on this database?")
	ErrBusy          = errors.New("the gateway has too many requests in flight to answer the probe")
	ErrUnreachable   = errors.New("the probe did not get through the router")
	ErrMismatch      = errors.New("the gateway's own certificate did not come back")
	ErrNoCertificate = errors.New("the gateway has no certificate of its own to probe with (CF_INSTANCE_CERT, CF_INSTANCE_KEY); run it where it has, or set ROUTER_TRUST=assume if the routers are known to be on sanitize_set")
)

// results are the names of outcomes in metrics.
var results = []struct {
	err  error
	name string
}{
	{ErrSentinel, "sentinel"},
	{ErrNotBound, "not_bound"},
	{ErrUnknownRoute, "unknown_route"},
	{ErrRefused, "refused"},
	{ErrBusy, "busy"},
	{ErrMismatch, "mismatch"},
	{ErrNoCertificate, "no_certificate"},
	{ErrUnreachable, "unreachable"},
}

// Result is the outcome of a round in a word, "trusted" for none of the errors.
func Result(err error) string {
	for _, result := range results {
		if errors.Is(err, result.err) {
			return result.name
		}
	}
	return "trusted"
}

// IsOfRoute reports whether another route of the domain may do better.
func IsOfRoute(err error) bool {
	return errors.Is(err, ErrNotBound) || errors.Is(err, ErrUnknownRoute) || errors.Is(err, ErrRefused)
}

// transportError says what to do about a probe that got no answer.
func transportError(err error) error {
	var lookup *net.DNSError
	var verify *tls.CertificateVerificationError
	var network *net.OpError
	fix := "the router, or the gateway behind it, did not answer"
	switch {
	case errors.As(err, &lookup):
		fix = "DNS: the name in ROUTER_ADDRESS (else of GATEWAY_URL) must resolve in the gateway's container"
	case errors.As(err, &verify):
		fix = "the router's certificate: ROUTER_CA_FILES must hold its CA, and the certificate the route's host"
	case errors.As(err, &network) && network.Op == "dial":
		fix = "a security group must let the gateway reach the router (cf create-security-group, cf bind-security-group), and ROUTER_ADDRESS be right"
	}
	return fmt.Errorf("%w: %w (%s)", ErrUnreachable, err, fix)
}

// demandsCertificate reports whether the router refused a connection because it
// came without a client certificate. TLS 1.3 alone has a word for it.
func demandsCertificate(err error) bool {
	var network *net.OpError
	return errors.As(err, &network) && network.Op == "remote error" && network.Err.Error() == "tls: certificate required"
}

// reasonID is what a gateway says in a refusal; anybody may have said it.
var reasonID = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)

// foreign says who answered in the gateway's place.
func foreign(target place.Target, res *http.Response, body []byte) error {
	switch {
	case res.Header.Get("X-Cf-Routererror") != "":
		return fmt.Errorf("%w (status %d)", ErrUnknownRoute, res.StatusCode)
	case res.Header.Get(headers.Decision) != "":
		var problem struct{ Reason string }
		switch err := json.Unmarshal(body, &problem); {
		case err != nil || !reasonID.MatchString(problem.Reason):
			return fmt.Errorf("%w (status %d)", ErrRefused, res.StatusCode)
		case problem.Reason == "overloaded":
			return ErrBusy
		}
		return fmt.Errorf("%w (%d %s)", ErrRefused, res.StatusCode, problem.Reason)
	case res.StatusCode == http.StatusMisdirectedRequest:
		return fmt.Errorf("%w: the router calls it misdirected (421)", ErrUnreachable)
	case target.Binding == "":
		return fmt.Errorf("%w: status %d and no answer of the gateway; is its own route %q mapped?", ErrUnknownRoute, res.StatusCode, target.Host)
	}
	if res.Header.Get(headers.RequestID) == "" { // which the router puts on the answers of apps
		return fmt.Errorf("%w: something before the router answered with status %d", ErrUnreachable, res.StatusCode)
	}
	return fmt.Errorf("%w (route %q, status %d)", ErrNotBound, target.String(), res.StatusCode)
}

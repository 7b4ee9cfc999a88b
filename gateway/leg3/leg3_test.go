package leg3_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/gateway/leg3"
	"github.com/mtls-authz/mtls-authz/playground/ca"
)

// routerFor starts a TLS server for *.apps.identity and a Router that dials it.
func routerFor(t *testing.T, handler http.HandlerFunc, edit func(*leg3.Config)) *leg3.Router {
	root, err := ca.NewRoot("router")
	require.NoError(t, err)
	certificate, err := root.Server("*.apps.identity")
	require.NoError(t, err)
	server := httptest.NewUnstartedServer(handler)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate.TLS()}, ClientAuth: tls.RequestClientCert}
	server.StartTLS()
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(root.Certificate())
	cfg := leg3.Config{Address: func(string) string { return server.Listener.Addr().String() }, Roots: roots, HeaderTimeout: 10 * time.Second}
	if edit != nil {
		edit(&cfg)
	}
	r := leg3.New(cfg)
	t.Cleanup(r.CloseIdle)
	return r
}

func get(t *testing.T, r *leg3.Router, url string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	return r.RoundTrip(request)
}

func TestTheConfiguredRouterIsDialledWhateverTheHost(t *testing.T) {
	var sni, host string
	r := routerFor(t, func(_ http.ResponseWriter, r *http.Request) { sni, host = r.TLS.ServerName, r.Host }, nil)
	res, err := get(t, r, "https://backend.apps.identity/a")
	require.NoError(t, err)
	defer res.Body.Close()
	assert.Equal(t, "backend.apps.identity", sni)
	assert.Equal(t, "backend.apps.identity", host)
}

func TestARouterWithAnotherNameOrCAIsNotTalkedTo(t *testing.T) {
	reached := false
	handler := func(http.ResponseWriter, *http.Request) { reached = true }
	_, err := get(t, routerFor(t, handler, nil), "https://backend.other.domain/")
	assert.Error(t, err)
	_, err = get(t, routerFor(t, handler, func(c *leg3.Config) { c.Roots = x509.NewCertPool() }), "https://backend.apps.identity/")
	assert.Error(t, err)
	assert.False(t, reached)
}

func TestRedirectsAreAnswersNotOrders(t *testing.T) {
	r := routerFor(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://evil.example/", http.StatusFound)
	}, nil)
	res, err := get(t, r, "https://backend.apps.identity/")
	require.NoError(t, err)
	defer res.Body.Close()
	assert.Equal(t, http.StatusFound, res.StatusCode)
}

func TestProxyEnvironmentIsIgnored(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	r := routerFor(t, func(http.ResponseWriter, *http.Request) {}, nil)
	res, err := get(t, r, "https://backend.apps.identity/")
	require.NoError(t, err)
	res.Body.Close()
}

func TestTheOwnCertificateIsPresented(t *testing.T) {
	root, err := ca.NewRoot("identity")
	require.NoError(t, err)
	own, err := root.Instance(ca.Identity{App: "a", Space: "b", Org: "c", Instance: "i"})
	require.NoError(t, err)
	var presented []*x509.Certificate
	r := routerFor(t, func(_ http.ResponseWriter, r *http.Request) { presented = r.TLS.PeerCertificates }, func(c *leg3.Config) {
		pair := own.TLS()
		c.Certificate = func() *tls.Certificate { return &pair }
	})
	res, err := get(t, r, "https://backend.apps.identity/")
	require.NoError(t, err)
	defer res.Body.Close()
	require.NotEmpty(t, presented)
	assert.Equal(t, own.Leaf().Raw, presented[0].Raw)
}

func TestTheRoutersRefusalIsToldFromAnAppsAnswer(t *testing.T) {
	const refused = "Failed to validate Route Service Signature"
	for _, c := range []struct {
		status int
		body   string
		want   bool
	}{
		{502, "502 Bad Gateway: " + refused + ": cipher: message authentication failed\n", true},
		{504, "504 Gateway Timeout: " + refused + ": route service request expired\n", true},
		{502, refused, true},
		{504, refused + ": x", true},
		{400, "400 Bad Request: invalid route service signature detected\n", true},
		{502, "502 Bad Gateway: Registered endpoint failed to handle the request.\n", false},
		{502, "", false},
		{502, "Fail", false},
		{502, " " + refused, false},
		{504, "502 Bad Gateway: " + refused, false},
		{200, "502 Bad Gateway: " + refused, false},
		{404, refused, false},
		{400, strings.Repeat("x", 100_000), false},
	} {
		r := routerFor(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body)
		}, nil)
		res, err := get(t, r, "https://backend.apps.identity/")
		name := fmt.Sprintf("%d %.60q", c.status, c.body)
		if c.want {
			assert.ErrorIs(t, err, leg3.ErrRejected, name)
			var rejection *leg3.Rejection
			if assert.ErrorAs(t, err, &rejection, name) {
				assert.Equal(t, c.status, rejection.Status, name)
			}
			continue
		}
		require.NoError(t, err, name)
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		require.NoError(t, err)
		assert.Equal(t, c.body, string(body), "the app's answer is whole")
	}
}

func TestAddressesAreChecked(t *testing.T) {
	for _, good := range []string{"10.0.0.1:443", "router.internal:8443", "[::1]:443"} {
		_, err := leg3.ParseAddress(good)
		assert.NoError(t, err, good)
	}
	for _, bad := range []string{"", "10.0.0.1", ":443", "router:", "router:0", "router:70000", "router:https", "https://router:443"} {
		_, err := leg3.ParseAddress(bad)
		assert.Error(t, err, bad)
	}
}

func TestAnUnreachableRouterIsAnError(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	_, err = get(t, leg3.New(leg3.Config{Address: func(string) string { return address }}), "https://backend.apps.identity/")
	assert.Error(t, err)
}

// gorouter's refusal of a HEAD has no text; it is known by what it lacks.
func TestTheRoutersRefusalOfAHead(t *testing.T) {
	for _, c := range []struct {
		status  int
		headers map[string]string
		want    bool
	}{
		{502, nil, true},
		{504, nil, true},
		{400, map[string]string{"X-Cf-Routererror": "invalid_route_service_signature"}, true},
		{504, map[string]string{"X-Cf-Routererror": "expired_route_service_signature"}, true},
		{502, map[string]string{"X-Cf-Routererror": "endpoint_failure (EOF)"}, false},
		{502, map[string]string{"X-Vcap-Request-Id": "an app's"}, false},
		{404, nil, false},
	} {
		r := routerFor(t, func(w http.ResponseWriter, _ *http.Request) {
			for name, value := range c.headers {
				w.Header().Set(name, value)
			}
			w.WriteHeader(c.status)
		}, nil)
		request, err := http.NewRequestWithContext(t.Context(), http.MethodHead, "https://backend.apps.identity/", nil)
		require.NoError(t, err)
		res, err := r.RoundTrip(request)
		if c.want {
			assert.ErrorIs(t, err, leg3.ErrRejected, "%+v", c)
			continue
		}
		assert.NotErrorIs(t, err, leg3.ErrRejected, "%+v", c)
		if err == nil {
			res.Body.Close()
		}
	}
}

// An app's stream passes at once, also with a status that the router uses.
func TestStreamsOfErrorsDoNotWait(t *testing.T) {
	release := make(chan struct{})
	r := routerFor(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Vcap-Request-Id", "an app's")
		w.WriteHeader(http.StatusBadGateway)
		_ = http.NewResponseController(w).Flush()
		<-release
	}, nil)
	res, err := get(t, r, "https://backend.apps.identity/")
	close(release)
	require.NoError(t, err)
	res.Body.Close()
}

// An app that imitates the router refuses only itself, and is known by its
// request id.
func TestAnImitatedRefusalShowsThatAnAppAnswered(t *testing.T) {
	r := routerFor(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Vcap-Request-Id", "an app's")
		w.WriteHeader(http.StatusBadGateway)
		_, _ = io.WriteString(w, "502 Bad Gateway: Failed to validate Route Service Signature: imitated")
	}, nil)
	_, err := get(t, r, "https://backend.apps.identity/")
	var rejection *leg3.Rejection
	require.ErrorAs(t, err, &rejection)
	assert.Equal(t, "an app's", rejection.RequestID)
}

func TestTheRoutersOwnErrorsAreNotTheApps(t *testing.T) {
	for _, c := range []struct {
		status   int
		name, id string
		want     error
	}{
		{502, "endpoint_failure (dial tcp 10.0.0.9:8080: connect: connection refused)", "", leg3.ErrUnreachable},
		{502, "endpoint_failure (EOF)", "", leg3.ErrUnreachable},
		{503, "no_endpoints", "", leg3.ErrUnreachable},
		{502, "endpoint_failure (context deadline exceeded)", "", leg3.ErrTimeout},
		{502, "endpoint_failure (i/o timeout)", "", leg3.ErrTimeout},
		{404, "unknown_route", "", nil},
		{502, "endpoint_failure (imitated)", "an app's", nil},
		{503, "", "", nil},
	} {
		r := routerFor(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Cf-Routererror", c.name)
			w.Header().Set("X-Vcap-Request-Id", c.id)
			w.WriteHeader(c.status)
		}, nil)
		res, err := get(t, r, "https://backend.apps.identity/")
		if c.want == nil {
			require.NoError(t, err, "%+v", c)
			res.Body.Close()
			continue
		}
		assert.ErrorIs(t, err, c.want, "%+v", c)
		assert.NotContains(t, err.Error(), "10.0.0.9")
	}
}

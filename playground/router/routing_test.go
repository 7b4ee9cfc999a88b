package router_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground/router"
)

// named registers one app per route that answers with the route's name.
func (w *world) named(routes ...string) {
	w.t.Helper()
	for _, route := range routes {
		w.app(func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, route) }, route)
	}
}

func TestRoutesMatch(t *testing.T) {
	w := newWorld(t)
	w.named(host, host+"/api", host+"/api/v2", host+"/Mixed", "only.apps.identity/path",
		"*.b.apps.identity", "*.apps.identity", "*.apps.identity/wild")
	for name, test := range map[string]struct{ host, target, want string }{
		"host":                                           {host, "/", host},
		"host in upper case":                             {"BACKEND.APPS.IDENTITY", "/", host},
		"host with a port":                               {host + ":443", "/", host},
		"any path of the host":                           {host, "/else/where", host},
		"context path":                                   {host, "/api", host + "/api"},
		"context path, slash":                            {host, "/api/", host + "/api"},
		"context path with a query":                      {host, "/api?x=/v2", host + "/api"},
		"path in upper case":                             {host, "/API/x", host + "/api"},
		"route registered in upper case":                 {host, "/mixed", host + "/Mixed"},
		"longest context path":                           {host, "/api/v2/x", host + "/api/v2"},
		"context path by segment":                        {host, "/apiary", host},
		"escapes are not decoded":                        {host, "/%61pi", host},
		"an escaped slash is no segment":                 {host, "/api%2Fv2", host},
		"double slash is no context path":                {host, "//api", host},
		"dot segments are not resolved":                  {host, "/x/../api", host},
		"wildcard":                                       {"any.apps.identity", "/", "*.apps.identity"},
		"wildcard of any number of labels":               {"x.y.z.apps.identity", "/", "*.apps.identity"},
		"more specific wildcard":                         {"x.b.apps.identity", "/", "*.b.apps.identity"},
		"wildcard and context path":                      {"any.apps.identity", "/wild/x", "*.apps.identity/wild"},
		"exact host beats a longer path":                 {host, "/wild", host},
		"no route at this path: a wildcard":              {"only.apps.identity", "/", "*.apps.identity"},
		"a wildcard is not its own domain":               {"apps.identity", "/", ""},
		"unknown":                                        {"apps.example", "/", ""},
		"unknown with a dot in the path, as in gorouter": {"nowhere", "/x.apps.identity", "*.apps.identity"},
	} {
		t.Run(name, func(t *testing.T) {
			res := w.raw(host, "GET "+test.target+" HTTP/1.1", "Host: "+test.host)
			if test.want != "" {
				assert.Equal(t, test.want, res.body)
				return
			}
			assert.Equal(t, http.StatusNotFound, res.StatusCode)
			assert.Equal(t, "unknown_route", res.Header.Get("X-Cf-Routererror"))
			assert.Equal(t, "404 Not Found: Requested route ('"+test.host+"') does not exist.\n", res.body)
		})
	}
}

func TestHostHeaderThatIsNoRoute(t *testing.T) {
	w := newWorld(t)
	w.named(host)
	for name, line := range map[string]string{"empty": "Host: ", "the client's address": "Host: 127.0.0.1:443"} {
		t.Run(name, func(t *testing.T) {
			res := w.raw(host, "GET / HTTP/1.1", line)
			assert.Equal(t, http.StatusBadRequest, res.StatusCode)
			assert.Equal(t, "empty_host", res.Header.Get("X-Cf-Routererror"))
		})
	}
}

func TestBackendsTakeTurns(t *testing.T) {
	w := newWorld(t)
	first := w.app(func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, "1") }, host)
	w.app(func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, "2") }, host)
	client := w.client()
	four := func() (bodies string) {
		for range 4 {
			bodies += w.get(client, "https://"+host+"/").body
		}
		return bodies
	}
	assert.Equal(t, "1212", four())
	require.NoError(t, w.router.Register(host, first.URL), "registering again changes nothing")
	assert.Equal(t, 2, strings.Count(four(), "1"))
	require.NoError(t, w.router.Deregister(host, first.URL))
	assert.Equal(t, "2222", four())
}

func TestRollingRestartOfTheRouteServiceLosesNoRequest(t *testing.T) {
	w := newWorld(t)
	w.app(func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, "app") }, host)
	w.bind()
	w.routeService(nil)
	gone := httptest.NewServer(http.NotFoundHandler())
	require.NoError(t, w.router.Register(gateway, gone.URL))
	gone.Close()
	client := w.client()
	for range 4 {
		assert.Equal(t, "app", w.get(client, "https://"+host+"/").body)
	}
}

func TestDeregisterTheLastBackendMakesTheRouteUnknown(t *testing.T) {
	w := newWorld(t)
	app := w.app(func(http.ResponseWriter, *http.Request) {}, host)
	w.bind()
	require.NoError(t, w.router.Deregister(host, app.URL))
	assert.Equal(t, http.StatusNotFound, w.get(w.client(), "https://"+host+"/").StatusCode)
	w.app(func(http.ResponseWriter, *http.Request) {}, host, gateway)
	assert.Equal(t, http.StatusOK, w.get(w.client(), "https://"+host+"/").StatusCode)
	assert.Error(t, w.router.Bind(host, "http://x"), "the binding is still there, a bad one is refused")
}

func TestBackendRefusesConnections(t *testing.T) {
	w := newWorld(t)
	app := w.app(http.NotFound, host)
	app.Close()
	res := w.get(w.client(), "https://"+host+"/")
	assert.Equal(t, http.StatusBadGateway, res.StatusCode)
	assert.True(t, strings.HasPrefix(res.Header.Get("X-Cf-Routererror"), "endpoint_failure"), res.Header)
	assert.Equal(t, "502 Bad Gateway: Registered endpoint failed to handle the request.\n", res.body)
}

func TestAttempts(t *testing.T) {
	for name, test := range map[string]struct {
		method, body string
		headers      []string
		backends     int
		want         int // requests that backends saw
	}{
		"EOF on GET is tried on every backend":       {"GET", "", nil, 2, 2},
		"three attempts at most":                     {"GET", "", nil, 4, 3},
		"one backend, one attempt":                   {"GET", "", nil, 1, 1},
		"EOF on POST is final":                       {"POST", "x", nil, 3, 1},
		"POST with Idempotency-Key but a body too":   {"POST", "x", []string{"Idempotency-Key", "k"}, 3, 1},
		"empty POST with Idempotency-Key goes again": {"POST", "", []string{"Idempotency-Key", "k"}, 3, 3},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			requests, handler := record()
			for range test.backends {
				w.app(func(rw http.ResponseWriter, r *http.Request) {
					handler(rw, r)
					_, _ = io.Copy(io.Discard, r.Body)
					conn, _, err := http.NewResponseController(rw).Hijack()
					if err == nil {
						_ = conn.Close()
					}
				}, host)
			}
			req, err := http.NewRequest(test.method, "https://"+host+"/", strings.NewReader(test.body))
			require.NoError(t, err)
			for i := 0; i < len(test.headers); i += 2 {
				req.Header.Set(test.headers[i], test.headers[i+1])
			}
			assert.Equal(t, http.StatusBadGateway, w.do(w.client(), req).StatusCode)
			assert.Len(t, requests, test.want)
		})
	}
}

func TestAnswersOfBackendsAreNeverRetried(t *testing.T) {
	for _, status := range []int{403, 500, 502, 503} {
		w := newWorld(t)
		requests, handler := record()
		for range 2 {
			w.app(func(rw http.ResponseWriter, r *http.Request) { handler(rw, r); rw.WriteHeader(status) }, host)
		}
		assert.Equal(t, status, w.get(w.client(), "https://"+host+"/").StatusCode)
		assert.Len(t, requests, 1)
	}
}

func TestAppInstanceHeaderSelectsTheInstance(t *testing.T) {
	const guid = "d76446a1-f429-4444-8797-be2f78b75b08"
	w := newWorld(t)
	requests, handler := record()
	for index := range 3 {
		app := httptest.NewServer(handler)
		t.Cleanup(app.Close)
		require.NoError(t, w.router.RegisterApp(host, app.URL, router.App{GUID: guid, Instance: "i" + string(rune('0'+index)), Index: index}))
	}
	for range 2 {
		require.Equal(t, http.StatusOK, w.get(w.client(), "https://"+host+"/", "X-CF-App-Instance", guid+":1").StatusCode)
		got := <-requests
		assert.Equal(t, []string{guid, "i1", "1"}, []string{
			got.Header.Get("X-Cf-Applicationid"), got.Header.Get("X-Cf-Instanceid"), got.Header.Get("X-Cf-Instanceindex"),
		})
		assert.NotContains(t, got.Header, "X-Cf-App-Instance")
	}
	for name, test := range map[string]struct{ host, value, routerError string }{
		"malformed":        {host, "1", "invalid_cf_app_instance_header"},
		"no such instance": {host, guid + ":3", "unknown_route"},
		"no such app":      {host, strings.Replace(guid, "d", "e", 1) + ":1", "unknown_route"},
		"no such route":    {"none.apps.identity", guid + ":1", "unknown_route"},
	} {
		t.Run(name, func(t *testing.T) {
			res := w.get(w.client(), "https://"+test.host+"/", "X-CF-App-Instance", test.value)
			assert.Equal(t, http.StatusBadRequest, res.StatusCode)
			assert.Equal(t, test.routerError, res.Header.Get("X-Cf-Routererror"))
		})
	}
}

func TestRegisterRefuses(t *testing.T) {
	w := newWorld(t)
	for _, route := range []string{"", "/path", "https://" + host, host + ":80", host + "?q"} {
		assert.ErrorContains(t, w.router.Register(route, "http://127.0.0.1:1"), "host[/path]", route)
	}
	for _, backend := range []string{"", "127.0.0.1:1", "https://127.0.0.1:1", "http://127.0.0.1", "http://127.0.0.1:1/x", "http://u@127.0.0.1:1"} {
		assert.ErrorContains(t, w.router.Register(host, backend), "http://host:port", backend)
	}
}

func TestNewNamesEverythingThatIsWrong(t *testing.T) {
	_, err := router.New(router.Config{ForwardedClientCert: "maybe", Domains: []router.Domain{{Pattern: "*.x", XFCCFormat: "pem"}}})
	require.Error(t, err)
	for _, part := range []string{"Certificate is missing", `"maybe"`, `"pem"`, `"*.x"`} {
		assert.ErrorContains(t, err, part)
	}
}

func TestNewNamesThePortThatIsTaken(t *testing.T) {
	w := newWorld(t)
	server, err := w.root.Server("x")
	require.NoError(t, err)
	port := w.router.Addr()[strings.LastIndex(w.router.Addr(), ":")+1:]
	_, err = router.New(router.Config{Certificate: server.TLS(), Port: atoi(t, port)})
	assert.ErrorContains(t, err, port)
}

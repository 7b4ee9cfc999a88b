package cloud_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground/capi"
	"github.com/mtls-authz/mtls-authz/playground/cloud"
	"github.com/mtls-authz/mtls-authz/playground/controller"
)

// foundation is a cloud with a broker that takes everything but parameters with
// "bad" in them, and a router that remembers.
type foundation struct {
	t      *testing.T
	cloud  *cloud.Cloud
	server *httptest.Server
	token  string
	orders []string          // of the broker
	bound  map[string]string // in the router
}

func (f *foundation) Bind(route, url string) error { f.bound[route] = url; return nil }
func (f *foundation) Unbind(route string) error    { delete(f.bound, route); return nil }

func start(t *testing.T) *foundation {
	f := &foundation{t: t, bound: map[string]string{}}
	broker := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		f.orders = append(f.orders, r.Method+" "+strings.Join(strings.Split(r.URL.Path, "/")[:3], "/"))
		answer := `{}`
		switch {
		case r.URL.Path == "/v2/catalog":
			answer = `{"services":[{"id":"offering","name":"mtls-authz","description":"d","plans":[{"id":"plan","name":"org","description":"d"}]}]}`
		case strings.Contains(string(body), "bad"):
			w.WriteHeader(http.StatusBadRequest)
			answer = `{"description":"no such thing"}`
		case r.Method == http.MethodPut && strings.Contains(r.URL.Path, "bindings"):
			w.WriteHeader(http.StatusCreated)
			answer = `{"route_service_url":"https://gateway.example/r/x"}`
		case r.Method == http.MethodPut:
			w.WriteHeader(http.StatusCreated)
		case r.Method == http.MethodGet:
			answer = `{"parameters":{"mode":"report"}}`
		}
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(broker.Close)
	f.cloud = cloud.New(cloud.Config{
		Domain: "apps.identity", Router: func() cloud.Router { return f },
		Broker: func(user string) *controller.Client {
			return &controller.Client{URL: broker.URL, Username: "u", Password: "p", User: user}
		},
	})
	f.cloud.AddUser("alice", "wonderland", "alice's", "o")
	f.cloud.Put(capi.Orgs, capi.Entity{GUID: "o", Name: "acme"})
	f.cloud.Put(capi.Spaces, capi.Entity{GUID: "s", Name: "shop", Parent: "o"})
	f.cloud.Put(capi.Spaces, capi.Entity{GUID: "other", Name: "lab", Parent: "o"})
	f.cloud.AddRoute("backend", "/v1", "s")
	f.cloud.AddRoute("foreign", "", "other")
	f.server = httptest.NewTLSServer(f.cloud)
	t.Cleanup(f.server.Close)
	return f
}

func (f *foundation) call(method, path, body string) (*http.Response, map[string]any) {
	f.t.Helper()
	r, err := http.NewRequest(method, f.server.URL+path, strings.NewReader(body))
	require.NoError(f.t, err)
	r.Header.Set("Authorization", "bearer "+f.token)
	res, err := f.server.Client().Do(r)
	require.NoError(f.t, err)
	defer res.Body.Close()
	var answer map[string]any
	if text, err := io.ReadAll(res.Body); err == nil && len(text) > 0 {
		require.NoError(f.t, json.Unmarshal(text, &answer), string(text))
	}
	return res, answer
}

// list returns the guids that a query chooses.
func (f *foundation) list(path string) (guids []string) {
	f.t.Helper()
	res, answer := f.call("GET", path, "")
	require.Equal(f.t, 200, res.StatusCode, answer)
	for _, one := range answer["resources"].([]any) {
		guids = append(guids, one.(map[string]any)["guid"].(string))
	}
	return guids
}

// order sends an order and returns the state of its job and the first error.
func (f *foundation) order(method, path, body string) (state, problem string) {
	f.t.Helper()
	res, answer := f.call(method, path, body)
	require.Equal(f.t, 202, res.StatusCode, answer)
	at, err := url.Parse(res.Header.Get("Location"))
	require.NoError(f.t, err)
	_, job := f.call("GET", at.Path, "")
	if errors := job["errors"].([]any); len(errors) > 0 {
		problem = errors[0].(map[string]any)["detail"].(string)
	}
	return job["state"].(string), problem
}

func TestNothingWithoutAToken(t *testing.T) {
	f := start(t)
	for _, path := range []string{"/v3/domains", "/v3/routes", "/v3/service_instances", "/v3/apps", "/v3/jobs/x"} {
		res, _ := f.call("GET", path, "")
		require.Equal(t, 401, res.StatusCode, path)
	}
}

func TestLists(t *testing.T) {
	f := start(t)
	require.NoError(t, f.cloud.CreateBroker(t.Context()))
	f.token = f.cloud.Login("alice's")
	require.Len(t, f.list("/v3/domains?names=apps.identity"), 1)
	require.Empty(t, f.list("/v3/domains?names=other"))
	require.Len(t, f.list("/v3/routes"), 2)
	require.Len(t, f.list("/v3/routes?hosts=backend&paths=%2Fv1&per_page=1&include=domain"), 1)
	require.Len(t, f.list("/v3/routes?hosts=backend,foreign"), 2)
	require.Empty(t, f.list("/v3/routes?hosts=backend&paths="))
	require.Equal(t, []string{"plan"}, f.list("/v3/service_plans?names=org&service_offering_names=mtls-authz&available=true"))
	require.Equal(t, []string{"offering"}, f.list("/v3/service_offerings"))
	res, _ := f.call("GET", "/v3/routes?nonsense=1", "")
	require.Equal(t, 400, res.StatusCode)
	res, _ = f.call("GET", "/v3/routes/x", "")
	require.Equal(t, 404, res.StatusCode)
	require.Len(t, f.list("/v3/spaces"), 2)
	_, one := f.call("GET", "/v3/spaces/s", "")
	require.Equal(t, "shop", one["name"])
}

// The life of an instance and its binding, as a user orders it.
func TestOrders(t *testing.T) {
	f := start(t)
	require.NoError(t, f.cloud.CreateBroker(t.Context()))
	f.token = f.cloud.Login("alice's")
	create := func(name, parameters string) string {
		return `{"type":"managed","name":"` + name + `","parameters":` + parameters + `,"relationships":{"space":{"data":{"guid":"s"}},"service_plan":{"data":{"guid":"plan"}}}}`
	}
	state, problem := f.order("POST", "/v3/service_instances", create("x", `{"bad":1}`))
	require.Equal(t, "FAILED", state)
	require.Contains(t, problem, "Service broker error: no such thing")
	require.Empty(t, f.list("/v3/service_instances"))
	state, _ = f.order("POST", "/v3/service_instances", create("mine", `{}`))
	require.Equal(t, "COMPLETE", state)
	res, _ := f.call("POST", "/v3/service_instances", create("mine", `{}`))
	require.Equal(t, 422, res.StatusCode, "the name is taken")
	instance := f.list("/v3/service_instances?names=mine&space_guids=s")[0]
	_, shown := f.call("GET", "/v3/service_instances/"+instance+"/parameters", "")
	require.Equal(t, map[string]any{"mode": "report"}, shown)
	_, may := f.call("GET", "/v3/service_instances/"+instance+"/permissions", "")
	require.Equal(t, true, may["manage"])

	bind := func(route string) string {
		return `{"relationships":{"route":{"data":{"guid":"` + route + `"}},"service_instance":{"data":{"guid":"` + instance + `"}}}}`
	}
	route, foreign := f.list("/v3/routes?hosts=backend")[0], f.list("/v3/routes?hosts=foreign")[0]
	res, _ = f.call("POST", "/v3/service_route_bindings", bind(foreign))
	require.Equal(t, 422, res.StatusCode, "another space's")
	state, _ = f.order("POST", "/v3/service_route_bindings", bind(route))
	require.Equal(t, "COMPLETE", state)
	require.Equal(t, map[string]string{"backend.apps.identity/v1": "https://gateway.example/r/x"}, f.bound)
	res, _ = f.call("POST", "/v3/service_route_bindings", bind(route))
	require.Equal(t, 422, res.StatusCode, "bound already")
	require.Len(t, f.list("/v3/service_route_bindings?route_guids="+route), 1)

	state, problem = f.order("PATCH", "/v3/service_instances/"+instance, `{"parameters":{"bad":1}}`)
	require.Equal(t, "FAILED", state, problem)
	state, _ = f.order("PATCH", "/v3/service_instances/"+instance, `{"name":"renamed"}`)
	require.Equal(t, "COMPLETE", state)
	require.Equal(t, []string{instance}, f.list("/v3/service_instances?names=renamed"))
	state, _ = f.order("DELETE", "/v3/service_instances/"+instance, "")
	require.Equal(t, "COMPLETE", state)
	require.Empty(t, f.bound)
	require.Equal(t, []string{"DELETE /v2/service_instances", "DELETE /v2/service_instances"}, f.orders[len(f.orders)-2:], "the binding, then the instance")
	res, _ = f.call("DELETE", "/v3/service_instances/"+instance, "")
	require.Equal(t, 404, res.StatusCode)
}

func TestLogins(t *testing.T) {
	f := start(t)
	for password, want := range map[string]int{"wonderland": 200, "wrong": 401, "": 401} {
		res, err := f.server.Client().PostForm(f.server.URL+"/oauth/token", url.Values{"grant_type": {"password"}, "username": {"alice"}, "password": {password}})
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, want, res.StatusCode)
	}
}

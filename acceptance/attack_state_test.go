package acceptance_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground"
	"github.com/mtls-authz/mtls-authz/playground/controller"
)

// Every answer and every line of every test is looked through; here is one of
// each kind, and all that the gateway says elsewhere.
func TestAttack04SecretsLeak(t *testing.T) {
	t.Parallel()
	w := attacked(t)
	tells := func(rw http.ResponseWriter, r *http.Request) {
		// An app that holds the router's headers, and says them in every way.
		for _, name := range []string{signatureHeader, metadataHeader, forwardedURLHeader, "X_Cf_Proxy_Signature", "X.Cf.Proxy.Metadata"} {
			rw.Header()[name] = []string{forgedValue}
		}
		rw.Header().Set("Trailer", metadataHeader)
		_, _ = rw.Write([]byte("body"))
		rw.Header().Set(http.TrailerPrefix+signatureHeader, forgedValue)
	}
	p := w.protect(t, protection{parameters: `{"allow":["cf:app:$frontend"]}`, handler: tells})
	r := p.call(t, "frontend", "GET", "/?token=not-logged").expect(t, "200 allowed")
	assertNoForgery(t, r.header)
	assertNoForgery(t, r.trailer)
	assert.NotContains(t, r.line["raw"], "not-logged")

	token := p.url[strings.LastIndex(p.url, "/")+1:]
	other := w.protect(t, protection{})
	for want, l := range map[string]leg2{
		"403 unknown_binding":       {path: "/r/" + other.bound.GUID + "/" + token},
		malformed:                   {forwarded: "https://" + p.route + "/%00", signed: "https://" + p.route + "/"},
		"400 loop":                  {headers: []string{"X-Mtls-Authz-Hop: 1"}},
		"403 route_mismatch":        {forwarded: "https://" + other.route + "/"},
		"502 router_rejected":       {signed: "https://" + other.route + "/"},
		"403 untrusted_certificate": {headers: []string{xfccHeader + ": " + p.credentials["frontend"].XFCC()}},
	} {
		l.caller = "frontend"
		r := p.direct(t, l).expect(t, want)
		assert.NotContains(t, r.body, token)
	}
	for _, path := range []string{"/metrics", "/readyz", "/healthz", "/v2/catalog", "/v2/service_instances/" + p.service.GUID, "/r/" + p.bound.GUID, "/r", "/r/" + p.bound.GUID + "/" + token + "/", "/nothing/" + token} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.Controller.URL+path, nil)
		require.NoError(t, err)
		request.SetBasicAuth(w.Controller.Username, w.Controller.Password)
		request.Header.Set("X-Broker-Api-Version", "2.17")
		res, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		answer := w.read(t, res)
		assert.NotContains(t, answer.body, token, path)
		assert.Empty(t, leak(answer.body, []string{w.Controller.Password, p.credentials["frontend"].XFCC()}), path)
	}
	require.NoError(t, w.leaks(0))
}

// What was decided for one request decides no other, and no longer than it may.
func TestAttack13CachePoisoningAndStaleAllow(t *testing.T) {
	t.Parallel()
	w := attacked(t)
	p := w.protect(t, protection{parameters: `{"allow":[{"source":"cf:app:$frontend","methods":["GET"],"paths":["/a"]}]}`})
	for range 2 { // the second time from memory
		p.call(t, "frontend", "GET", "/a").expect(t, "200 allowed")
		p.call(t, "frontend", "GET", "/b").expect(t, noMatch)
		p.call(t, "frontend", "POST", "/a").expect(t, noMatch)
		p.call(t, "frontend", "GET", "/A").expect(t, noMatch)
		p.call(t, "monitoring", "GET", "/a").expect(t, noMatch)
		p.call(t, "", "GET", "/a").expect(t, "403 no_certificate")
		p.direct(t, leg2{caller: "foreign CA", forwarded: "https://" + p.route + "/a"}).expect(t, "403 untrusted_certificate")
	}
	require.Equal(t, "local", p.call(t, "frontend", "GET", "/a").line["cache"])

	t.Run("another route of the same instance", func(t *testing.T) {
		route := w.freshHost()
		require.NoError(t, w.Router.Register(route, p.app.url))
		bound, url, err := w.BindRoute(t.Context(), p.service, route, `{"allow":["cf:app:`+names.Replace("$monitoring")+`"]}`)
		require.NoError(t, err)
		w.addSecrets(url[strings.LastIndex(url, "/")+1:])
		sibling := &protected{world: w, app: p.app, host: route, route: route, service: p.service, bound: bound, url: url}
		sibling.call(t, "monitoring", "GET", "/a").expect(t, "200 allowed")
		p.call(t, "monitoring", "GET", "/a").expect(t, noMatch)
	})

	t.Run("after an update", func(t *testing.T) {
		p.update(t, `{"allow":["cf:app:$backend"]}`)
		p.call(t, "frontend", "GET", "/a").expect(t, noMatch)
		p.update(t, `{"allow":["cf:app:$frontend"]}`)
		p.call(t, "frontend", "GET", "/a").expect(t, "200 allowed")
		p.update(t, `{"allow":null}`)
		p.call(t, "frontend", "GET", "/a").expect(t, "403 no_grants")
	})

	t.Run("after an unbind", func(t *testing.T) {
		p.update(t, `{"allow":["cf:any"]}`)
		p.direct(t, leg2{caller: "frontend"}).expect(t, "200 allowed")
		require.NoError(t, w.UnbindRoute(t.Context(), p.bound))
		p.direct(t, leg2{caller: "frontend"}).expect(t, "403 unknown_binding")
		// Cloud Foundry has opened the route.
		p.call(t, "", "GET", "/").expect(t, "200 without the gateway")
	})
}

// Whoever holds Redis can make the gateway think again, and nothing else.
func TestAttack14HostileRedis(t *testing.T) {
	t.Parallel()
	server := startRedis(t)

	// Without room for a decision in memory, every request asks Redis.
	w := start(t, setup{env: []string{"REDIS_URL=" + server.url(), "CACHE_SHARED=always", "CACHE_DENY_TTL=60s", "CACHE_ENTRIES=1", "CACHE_BYTES=1"}})
	p := w.protect(t, protection{parameters: `{"allow":["cf:app:$frontend"]}`})
	// takeTurns tells where the last decisions came from; Redis may be too slow
	// for a request, which is then decided anew.
	takeTurns := func() (from []any) {
		t.Helper()
		for _, caller := range []string{"frontend", "monitoring"} {
			r := p.call(t, caller, "GET", "/").expect(t, map[string]string{"frontend": "200 allowed", "monitoring": noMatch}[caller])
			from = append(from, r.line["cache"])
		}
		return from
	}
	require.NoError(t, until("both decisions from Redis", func() error {
		if from := takeTurns(); !t.Failed() && (from[0] != "shared" || from[1] != "shared") {
			return fmt.Errorf("they are from %v", from)
		}
		return nil
	}))
	keys, err := server.Keys(t.Context(), "*").Result()
	require.NoError(t, err)
	require.Len(t, keys, 2)
	first, err := server.Get(t.Context(), keys[0]).Result()
	require.NoError(t, err)
	second, err := server.Get(t.Context(), keys[1]).Result()
	require.NoError(t, err)
	for name, forged := range map[string][2]string{
		"swapped": {second, first}, "one for both": {first, first}, "the other for both": {second, second}, "one bit": {flip(first), flip(second)},
		"truncated": {first[:len(first)-1], second[:1]}, "endless": {first + strings.Repeat("a", 2<<20), second + first}, "JSON": {`{"allow":true}`, `{"allow":true}`},
	} {
		before := w.metric(t, "mtls_authz_cache_bad_macs_total")
		require.NoError(t, until(name+" is noticed", func() error {
			for i, key := range keys {
				if err := server.Set(t.Context(), key, forged[i], 0).Err(); err != nil {
					return err
				}
			}
			takeTurns()
			if !t.Failed() && w.metric(t, "mtls_authz_cache_bad_macs_total") == before {
				return errors.New("no entry was refused")
			}
			return nil
		}))
	}
	// What was true once, under every key that there is now.
	old := map[string]string{}
	for i, key := range keys {
		old[key] = []string{first, second}[i]
	}
	p.update(t, `{"allow":["cf:app:$backend"]}`)
	replay := func() {
		t.Helper()
		now, err := server.Keys(t.Context(), "*").Result()
		require.NoError(t, err)
		for key, value := range old {
			require.NoError(t, server.Set(t.Context(), key, value, 0).Err())
			for _, other := range now {
				require.NoError(t, server.Set(t.Context(), other, value, 0).Err())
				p.call(t, "frontend", "GET", "/").expect(t, noMatch)
			}
		}
	}
	p.call(t, "frontend", "GET", "/").expect(t, noMatch)
	replay()
	p.update(t, `{"allow":["cf:app:$frontend"]}`)

	// A Redis that listens and says nothing any more.
	require.NoError(t, server.process.Process.Signal(syscall.SIGSTOP))
	for range 3 {
		takeTurns()
	}
	require.NoError(t, server.process.Process.Signal(syscall.SIGCONT))

	// One that is gone, and one that is there again and knows nothing.
	server.kill()
	for range 3 {
		takeTurns()
	}
	require.NoError(t, server.start())
	require.NoError(t, until("decisions from the new Redis", func() error {
		if from := takeTurns(); !t.Failed() && (from[0] != "shared" || from[1] != "shared") {
			return fmt.Errorf("they are from %v", from)
		}
		return nil
	}))
}

// metric reads one metric of the gateway.
func (w *world) metric(t *testing.T, name string) string {
	t.Helper()
	_, value, found := strings.Cut(w.metrics(t), "\n"+name+" ")
	require.True(t, found, "no metric %s", name)
	value, _, _ = strings.Cut(value, "\n")
	return value
}

// metrics are all of the gateway.
func (w *world) metrics(t *testing.T) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.Controller.URL+"/metrics", nil)
	require.NoError(t, err)
	request.SetBasicAuth(w.Controller.Username, w.Controller.Password)
	res, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return string(body)
}

// flip changes one bit in the middle.
func flip(value string) string {
	changed := []byte(value)
	changed[len(changed)/2] ^= 1
	return string(changed)
}

func TestAttack16Broker(t *testing.T) {
	t.Parallel()
	w := attacked(t)
	p := w.protect(t, protection{parameters: `{"allow":["cf:app:$frontend"]}`})
	instance := "/v2/service_instances/" + p.service.GUID
	body := func(space, parameters string) string {
		return fmt.Sprintf(`{"service_id":%q,"plan_id":%q,"organization_guid":%q,"space_guid":%q,"parameters":%s,"context":{"platform":"cloudfoundry","organization_guid":%q,"space_guid":%q}}`,
			p.service.OfferingID, p.service.PlanID, p.service.Space.OrgGUID, space, parameters, p.service.Space.OrgGUID, space)
	}

	t.Run("guessed credentials change nothing", func(t *testing.T) {
		for _, edit := range []func(*http.Request){
			func(r *http.Request) { r.Header.Del("Authorization") },
			func(r *http.Request) {
				r.SetBasicAuth(w.Controller.Username, w.Controller.Password[:len(w.Controller.Password)-1])
			},
			func(r *http.Request) { r.SetBasicAuth(w.Controller.Username, w.Controller.Password+"\x00") },
			func(r *http.Request) { r.SetBasicAuth(strings.ToUpper(w.Controller.Username), w.Controller.Password) },
			func(r *http.Request) { r.SetBasicAuth(w.Controller.Username, "") },
			func(r *http.Request) { r.Header["Authorization"] = []string{"Bearer x"} },
		} {
			for method, what := range map[string]string{"PATCH": body(p.service.Space.GUID, `{"allow":["cf:any"]}`), "DELETE": "", "GET": ""} {
				res, _ := osb(t, w, method, instance+"?service_id="+p.service.OfferingID+"&plan_id="+p.service.PlanID, what, edit)
				assert.Equal(t, 401, res.StatusCode, method)
			}
		}
		p.call(t, "frontend", "GET", "/").expect(t, "200 allowed")
		p.call(t, "monitoring", "GET", "/").expect(t, noMatch)
	})

	t.Run("no body larger than 1 MiB, no endless id", func(t *testing.T) {
		large := body(p.service.Space.GUID, `{"annotations":{"a":"`+strings.Repeat("a", 2<<20)+`"}}`)
		res, _ := osb(t, w, "PATCH", instance, large, nil)
		assert.Contains(t, []int{400, 413}, res.StatusCode)
		for _, id := range []string{strings.Repeat("a.", 5_000), "%00", "a%2fb", "..%2f", "a%0ab"} {
			res, err := http.NewRequestWithContext(t.Context(), "PUT", w.Controller.URL+"/v2/service_instances/"+id, strings.NewReader(body(p.service.Space.GUID, "{}")))
			require.NoError(t, err)
			res.SetBasicAuth(w.Controller.Username, w.Controller.Password)
			res.Header.Set("X-Broker-Api-Version", "2.17")
			answer, err := http.DefaultClient.Do(res)
			require.NoError(t, err)
			answer.Body.Close()
			assert.True(t, 400 <= answer.StatusCode && answer.StatusCode < 500, "%.20q: %d", id, answer.StatusCode)
		}
	})

	t.Run("a bind from elsewhere than the instance", func(t *testing.T) {
		route := w.freshHost()
		bind := strings.TrimSuffix(body(playground.Intruder.Identity().Space, "{}"), "}") + `,"bind_resource":{"route":"` + route + `"}}`
		res, _ := osb(t, w, "PUT", instance+"/service_bindings/"+playground.GUID(t.Name()), bind, nil)
		assert.Equal(t, 400, res.StatusCode)
	})

	t.Run("the gateway's own routes cannot be bound", func(t *testing.T) {
		for _, route := range []string{playground.GatewayHost, playground.GatewayHost + "/x", strings.ToUpper(playground.GatewayHost), "*." + playground.Domain} {
			answer, err := w.Controller.BindRoute(t.Context(), controller.Binding{GUID: playground.GUID(t.Name() + route), Route: route, Service: p.service}, nil)
			require.NoError(t, err)
			assert.Equal(t, 400, answer.Status, route)
		}
	})
}

// Whoever opens a route leaves his name, and a metric counts him.
func TestAttack16AnUnbindIsAudited(t *testing.T) {
	t.Parallel()
	w := start(t, setup{})
	p := w.protect(t, protection{parameters: `{"allow":["cf:app:$frontend"]}`})
	require.NoError(t, w.UnbindRoute(t.Context(), p.bound))
	require.NoError(t, playground.Succeeded(w.Controller.DeleteService(t.Context(), p.service)))
	for kind, guid := range map[string]string{"binding": p.bound.GUID, "instance": p.service.GUID} {
		entry := only(t, w.found(t, "/v1/audit?actions=delete&kinds="+kind+"&guids="+guid))
		assert.Equal(t, w.Controller.User, entry["by"], "%v", entry)
		assert.NotEmpty(t, entry["at"], "%v", entry)
		assert.Equal(t, "1", w.metric(t, `mtls_authz_changes_total{action="delete",kind="`+kind+`"}`))
	}
}

// Bodies that never end take all turns of the broker, of which only holders of
// the password can have one. The others hear so, and the apps nothing.
func TestAttack16ABrokerThatIsKeptBusy(t *testing.T) {
	t.Parallel()
	w := start(t, setup{})
	p := w.protect(t, protection{parameters: `{"allow":["cf:app:$frontend"]}`})
	begin := func(password string) net.Conn {
		conn, err := net.Dial("tcp", strings.TrimPrefix(w.Controller.URL, "http://"))
		require.NoError(t, err)
		basic := base64.StdEncoding.EncodeToString([]byte(w.Controller.Username + ":" + password))
		writeRequest(t, prepared(t, conn), "PATCH /v2/service_instances/"+p.service.GUID+" HTTP/1.1", []string{
			"Host: gateway", "Authorization: Basic " + basic, "X-Broker-Api-Version: 2.17", "Content-Type: application/json", "Content-Length: 1000",
		}, "{")
		return conn
	}
	catalog := func() int {
		answer, err := w.Controller.Catalog(t.Context())
		require.NoError(t, err)
		return answer.Status
	}
	for range 100 {
		begin("guessed")
	}
	assert.Equal(t, http.StatusOK, catalog(), "a guess takes no turn")
	var busy []net.Conn
	for range 40 { // more than there are turns
		busy = append(busy, begin(w.Controller.Password))
	}
	require.NoError(t, until("the broker is busy", func() error {
		if status := catalog(); status != http.StatusTooManyRequests {
			return fmt.Errorf("it answers %d", status)
		}
		return nil
	}))
	p.call(t, "frontend", "GET", "/").expect(t, "200 allowed")
	p.call(t, "monitoring", "GET", "/").expect(t, noMatch)
	w.ask(t, "GET", "/v1/bindings", 200)
	for _, conn := range busy {
		conn.Close()
	}
	require.NoError(t, until("the broker has time again", func() error {
		if status := catalog(); status != http.StatusOK {
			return fmt.Errorf("it answers %d", status)
		}
		return nil
	}))
}

package acceptance_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// limits are what makes the last rows of the table reachable: one request in
// flight for each route, little patience, and one route whose router is down.
// ROUTER_TRUST=assume since the self-test would fail there.
var limits = []string{
	"ROUTER_TRUST=assume", "MAX_IN_FLIGHT_PER_ROUTE=1", "UPSTREAM_HEADER_TIMEOUT=2s",
	"ROUTER_ADDRESS=down.apps.identity=127.0.0.1:1,$router",
}

// The table of answers: status, reason and mtls_policy. What is common to all
// refusals is checked where answers are read.
func TestEachReasonHasItsAnswer(t *testing.T) {
	t.Parallel()
	w := common(t)
	p := w.protect(t, protection{plan: "org", parameters: `{"allow":["cf:app:$frontend"]}`})
	other := w.protect(t, protection{plan: "org"})
	for _, test := range []struct {
		want, policy string
		request      func(t *testing.T) reply
	}{
		{"403 unknown_binding", "gateway:unknown_binding", func(t *testing.T) reply {
			return p.direct(t, leg2{caller: "frontend", path: "/r/nobody/nothing"})
		}},
		{"400 malformed_request", "gateway:malformed_request", func(t *testing.T) reply {
			return p.direct(t, leg2{caller: "frontend", without: []string{metadataHeader}})
		}},
		{"400 loop", "gateway:loop", func(t *testing.T) reply {
			return p.direct(t, leg2{caller: "frontend", headers: []string{"X-Mtls-Authz-Hop: 1"}})
		}},
		{"403 route_mismatch", "gateway:route_mismatch", func(t *testing.T) reply {
			return p.direct(t, leg2{caller: "frontend", forwarded: "https://" + other.route + "/"})
		}},
		{"403 no_certificate", "gateway:no_certificate", func(t *testing.T) reply { return p.call(t, "", "GET", "/") }},
		{"403 untrusted_certificate", "gateway:untrusted_certificate", func(t *testing.T) reply { return p.call(t, "foreign CA", "GET", "/") }},
		{"403 identity_extraction", "gateway:identity_extraction", func(t *testing.T) reply { return p.call(t, "two apps", "GET", "/") }},
		{"403 scope", "domain:scope=org", func(t *testing.T) reply { return p.call(t, "intruder", "GET", "/") }},
		{"403 no_grants", "route:no_grants", func(t *testing.T) reply { return other.call(t, "frontend", "GET", "/") }},
		{"403 no_matching_grant", "route:no_matching_grant", func(t *testing.T) reply { return p.call(t, "monitoring", "GET", "/") }},
		{"502 router_rejected", "gateway:router_rejected", func(t *testing.T) reply {
			return p.direct(t, leg2{caller: "frontend", signed: "https://" + other.route + "/"})
		}},
		{"503 router_untrusted", "gateway:router_untrusted", func(t *testing.T) reply {
			return forwards(t).protect(t, protection{}).call(t, "frontend", "GET", "/")
		}},
		{"502 upstream_unreachable", "route:cf:any", func(t *testing.T) reply {
			down := limited(t).protect(t, protection{route: "down.apps.identity", parameters: `{"allow":["cf:any"]}`})
			return down.direct(t, leg2{caller: "frontend"})
		}},
		{"504 upstream_timeout", "route:cf:any", func(t *testing.T) reply {
			slow := limited(t).protect(t, protection{parameters: `{"allow":["cf:any"]}`, handler: untilGone})
			return slow.call(t, "frontend", "GET", "/")
		}},
	} {
		t.Run(test.want, func(t *testing.T) {
			r := test.request(t).expect(t, test.want)
			assert.Equal(t, test.policy, r.line["mtls_policy"])
		})
	}
}

// untilGone answers nothing until the client is gone.
func untilGone(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// The route's one place is taken by a request whose answer has begun.
func TestMoreRequestsThanARouteMayHaveAreRefused(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	p := limited(t).protect(t, protection{parameters: `{"allow":["cf:any"]}`, handler: func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		<-release
	}})
	res, err := p.client("frontend").Get("https://" + p.host + "/")
	require.NoError(t, err)
	r := p.call(t, "frontend", "GET", "/").expect(t, "503 overloaded")
	assert.Equal(t, "gateway:overloaded", r.line["mtls_policy"])
	close(release)
	_, err = io.Copy(io.Discard, res.Body)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
}

// The first row that applies: each request below has all the faults from its
// row on.
func TestTheFirstRowOfTheTableThatAppliesAnswers(t *testing.T) {
	t.Parallel()
	w := common(t)
	p := w.protect(t, protection{plan: "space"})
	elsewhere := "https://" + w.freshHost() + "/"
	hop := []string{"X-Mtls-Authz-Hop: 1"}
	for _, test := range []struct {
		want    string
		request leg2
	}{
		{"403 unknown_binding", leg2{caller: "intruder", path: "/r/" + p.bound.GUID + "/x", forwarded: elsewhere + "../", headers: hop}},
		{"400 malformed_request", leg2{caller: "intruder", forwarded: elsewhere + "../", headers: hop}},
		{"400 loop", leg2{caller: "intruder", forwarded: elsewhere, headers: hop}},
		{"403 route_mismatch", leg2{caller: "intruder", forwarded: elsewhere}},
		{"403 untrusted_certificate", leg2{caller: "foreign CA", signed: elsewhere}},
		{"403 scope", leg2{caller: "intruder", signed: elsewhere}},
		{"403 no_grants", leg2{caller: "frontend", signed: elsewhere}},
	} {
		p.direct(t, test.request).expect(t, test.want)
	}
}

// What the app answers is the app's, whatever the status.
func TestTheAppsOwnErrorsPass(t *testing.T) {
	t.Parallel()
	for _, status := range []int{204, 304, 400, 403, 404, 500, 502, 503, 504} {
		p := common(t).protect(t, protection{parameters: `{"allow":["cf:any"]}`, handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "https://elsewhere.example.com/")
			w.WriteHeader(status)
		}})
		r := p.call(t, "frontend", "GET", "/")
		assert.Equal(t, status, r.status)
		assert.Nil(t, r.problem)
		assert.Equal(t, "allowed", r.line["mtls_auth"])
		assert.Equal(t, "https://elsewhere.example.com/", r.header.Get("Location"))
	}
}

func TestRefusalsOfHEADHaveNoBody(t *testing.T) {
	t.Parallel()
	p := common(t).protect(t, protection{})
	r := p.call(t, "frontend", "HEAD", "/").expect(t, "403 no_grants")
	assert.Empty(t, r.body)
}

func TestHealthIsOpenAndReadinessTellsReadersOnly(t *testing.T) {
	t.Parallel()
	w := limited(t)
	get := func(path string, auth bool) (int, string) {
		request, err := http.NewRequest(http.MethodGet, w.Controller.URL+path, nil)
		require.NoError(t, err)
		if auth {
			request.SetBasicAuth(w.Controller.Username, w.Controller.Password)
		}
		res, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		return res.StatusCode, string(body)
	}
	status, _ := get("/healthz", false)
	assert.Equal(t, 200, status)
	_, body := get("/readyz", false)
	assert.NotContains(t, body, "assume")
	_, body = get("/readyz", true)
	assert.Contains(t, body, "assume")
	status, _ = get("/metrics", false)
	assert.Equal(t, 401, status)
	status, body = get("/metrics", true)
	assert.Equal(t, 200, status)
	assert.Contains(t, body, "mtls_authz_decisions_total")
}

package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/gateway"
	"github.com/mtls-authz/mtls-authz/gateway/front"
	"github.com/mtls-authz/mtls-authz/gateway/refusal"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/rego"
)

func ok(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("X-Vcap-Request-Id", "leg-3")
	_, _ = w.Write([]byte("from the app"))
}

// deciderFunc is a Decider.
type deciderFunc func(*rego.Request) (rego.Decision, error)

func (f deciderFunc) Decide(_ context.Context, r *rego.Request) (rego.Decision, error) { return f(r) }

func TestAnAllowedRequestReachesTheApp(t *testing.T) {
	w := newWorld(t, func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "app="+frontend.App+";space="+frontend.Space+";org="+frontend.Org, r.Header.Get("X-Mtls-Authz-Caller"))
		assert.Equal(t, "1", r.Header.Get("X-Mtls-Authz-Hop"))
		assert.Equal(t, "/hello?q=secret-query", r.RequestURI)
		ok(w, r)
	}, nil)
	got := w.send(w.request())
	assert.Equal(t, http.StatusOK, got.Code)
	assert.Equal(t, "from the app", got.Body.String())
	assert.Equal(t, got.Result().Header.Get("X-Mtls-Authz-Decision"), got.line["decision_id"])
}

// The line is read by people's tools: its names and order do not change.
func TestTheDecisionLineIsTheContract(t *testing.T) {
	w := newWorld(t, ok, nil)
	got := w.send(w.request())
	for _, changing := range []string{"time", "decision_id", "policy_revision"} {
		assert.NotEmpty(t, got.line[changing])
		got.line[changing] = "..."
	}
	for _, number := range []string{"decide_us", "duration_us"} {
		assert.IsType(t, 0.0, got.line[number])
		got.line[number] = 0
	}
	text, err := json.MarshalIndent(got.line, "", "  ")
	require.NoError(t, err)
	golden, err := os.ReadFile("testdata/decision.json")
	require.NoError(t, err)
	assert.JSONEq(t, string(golden), string(text))
}

// Each row is a row of the answers table of the contract.
func TestEveryRefusalHasItsAnswer(t *testing.T) {
	denied := func(d rego.Decision, err error) func(*gateway.Config) {
		return func(c *gateway.Config) {
			c.Decider = deciderFunc(func(*rego.Request) (rego.Decision, error) { return d, err })
		}
	}
	for _, row := range []struct {
		reason, policy string
		status         int
		edit           func(*gateway.Config)
		prepare        func(*world, *http.Request)
	}{
		{"not_ready", "gateway:not_ready", 503, func(c *gateway.Config) { c.Ready = func() error { return errors.New("loading") } }, nil},
		{"overloaded", "gateway:overloaded", 503, func(c *gateway.Config) { c.MaxInFlight = 0 }, nil},
		{"overloaded", "gateway:overloaded", 503, func(c *gateway.Config) { c.MaxInFlightPerRoute = 0 }, nil},
		{"unknown_binding", "gateway:unknown_binding", 403, nil, func(_ *world, r *http.Request) { r.URL.Path = "/r/" + binding + "/wrong" }},
		{"unknown_binding", "gateway:unknown_binding", 403, nil, func(_ *world, r *http.Request) { r.URL.Path = "/r/" + binding }},
		{"unknown_binding", "gateway:unknown_binding", 403, nil, func(_ *world, r *http.Request) { r.URL.Path += "/more" }},
		{"unknown_binding", "gateway:unknown_binding", 403, nil, func(w *world, _ *http.Request) { w.unbind() }},
		{"malformed_request", "gateway:malformed_request", 400, nil, func(_ *world, r *http.Request) { r.Header.Del("X-CF-Proxy-Signature") }},
		{"malformed_request", "gateway:malformed_request", 400, nil, func(_ *world, r *http.Request) { r.Header.Set("X-CF-Proxy-Signature", "") }},
		{"malformed_request", "gateway:malformed_request", 400, nil, func(_ *world, r *http.Request) { r.Header.Add("X-CF-Proxy-Metadata", "two") }},
		{"malformed_request", "gateway:malformed_request", 400, nil, func(_ *world, r *http.Request) { r.Header.Add("X-CF-Forwarded-Url", "https://b.x/") }},
		{"malformed_request", "gateway:malformed_request", 400, nil, func(_ *world, r *http.Request) { r.Header.Set("X-CF-Forwarded-Url", "https://b.x/..") }},
		{"malformed_request", "gateway:malformed_request", 400, nil, func(_ *world, r *http.Request) { r.Method = "TRACE" }},
		{"malformed_request", "gateway:malformed_request", 400, nil, func(_ *world, r *http.Request) { r.Method = "CONNECT" }},
		{"malformed_request", "gateway:malformed_request", 400, nil, func(_ *world, r *http.Request) { r.Method = "get" }},
		{"malformed_request", "gateway:malformed_request", 400, nil, func(_ *world, r *http.Request) { r.Header.Set("Upgrade", "h2c") }},
		{"malformed_request", "gateway:malformed_request", 400, nil, func(_ *world, r *http.Request) { r.Header["Upgrade"] = []string{"websocket", "h2c"} }},
		{"malformed_request", "gateway:malformed_request", 400, nil, func(_ *world, r *http.Request) { r.Header.Set("HTTP2-Settings", "AAA") }},
		{"loop", "gateway:loop", 400, nil, func(_ *world, r *http.Request) { r.Header.Set("X-Mtls-Authz-Hop", "1") }},
		{"loop", "gateway:loop", 400, nil, func(_ *world, r *http.Request) { r.Header["x_mtls_authz_hop"] = []string{"1"} }},
		{"loop", "gateway:loop", 400, func(c *gateway.Config) { _ = c.OwnApp.UnmarshalText([]byte(frontend.App)) }, nil},
		{"route_mismatch", "gateway:route_mismatch", 403, nil, func(_ *world, r *http.Request) {
			r.Header.Set("X-CF-Forwarded-Url", "https://other.apps.identity/hello")
		}},
		{"route_mismatch", "gateway:route_mismatch", 403, nil, func(w *world, _ *http.Request) { w.bind("backend.apps.identity/beta", `{"allow":["cf:any"]}`) }},
		{"router_untrusted", "gateway:router_untrusted", 503, func(c *gateway.Config) {
			c.Trust = func(context.Context, *grants.Access, string) error { return errors.New("forged") }
		}, nil},
		{"no_certificate", "gateway:no_certificate", 403, nil, func(_ *world, r *http.Request) { r.Header.Del(identity.Header) }},
		{"untrusted_certificate", "gateway:untrusted_certificate", 403, nil, func(_ *world, r *http.Request) { r.Header.Add(identity.Header, "two") }},
		{"scope", "domain:scope=space", 403, nil, func(w *world, _ *http.Request) {
			w.bind("backend.apps.identity", `{"allow":["cf:any"],"scope":"space"}`)
			o := w.access[binding].Owner
			o.Space = o.Org
			w.access[binding].Owner = o
		}},
		{"no_grants", "route:no_grants", 403, nil, func(w *world, _ *http.Request) { w.bind("backend.apps.identity", `{}`) }},
		{"no_matching_grant", "route:no_matching_grant", 403, nil, func(w *world, _ *http.Request) {
			w.bind("backend.apps.identity", `{"allow":["cf:app:`+owner.App+`"]}`)
		}},
		{"policy_error", "gateway:policy_error", 403, denied(rego.Decision{}, rego.ErrPolicy), nil},
		{"change_freeze", "policy:freeze", 403, denied(rego.Decision{Policy: "policy:freeze", Reason: "change_freeze"}, nil), nil},
	} {
		w := newWorld(t, func(http.ResponseWriter, *http.Request) { t.Errorf("%s reached the app", row.reason) }, row.edit)
		request := w.request()
		if row.prepare != nil {
			row.prepare(w, request)
		}
		got := w.send(request)
		name := fmt.Sprintf("%s (%v)", row.reason, got.line["detail"])
		assert.Equal(t, row.status, got.Code, name)
		assert.Equal(t, map[string]any{"status": float64(row.status), "title": got.problem["title"], "reason": row.reason, "decision_id": got.line["decision_id"]}, got.problem, name)
		assert.NotEmpty(t, got.problem["title"])
		assert.Equal(t, "no-store", got.Header().Get("Cache-Control"), name)
		assert.Equal(t, row.status == 503, got.Header().Get("Retry-After") != "", name)
		assert.Equal(t, got.line["decision_id"], got.Result().Header.Get("X-Mtls-Authz-Decision"), name)
		assert.Equal(t, []any{"denied", row.reason, row.policy, float64(row.status)},
			[]any{got.line["mtls_auth"], got.line["mtls_denied_reason"], got.line["mtls_policy"], got.line["status"]}, name)
	}
}

// A policy, or a cache entry, that allows what no grant allows.
func TestGrantsThatMeanMoreThanTheySay(t *testing.T) {
	w := newWorld(t, ok, func(c *gateway.Config) {
		c.Decider = deciderFunc(func(*rego.Request) (rego.Decision, error) { return rego.Decision{Allow: true}, nil })
	})
	w.bind("backend.apps.identity", `{"allow":["cf:app:`+owner.App+`"]}`)
	got := w.send(w.request())
	assert.Equal(t, "no_matching_grant", got.problem["reason"])
}

// After an unbind the router would hand the signature to the app.
func TestUnboundBetweenDecisionAndLeg3(t *testing.T) {
	w := newWorld(t, func(http.ResponseWriter, *http.Request) { t.Error("reached the app") }, nil)
	w.config.Decider = deciderFunc(func(r *rego.Request) (rego.Decision, error) {
		w.unbind()
		return rego.Decision{Allow: true}, nil
	})
	w.gateway = rebuilt(w.config)
	assert.Equal(t, "unknown_binding", w.send(w.request()).problem["reason"])
}

func TestOverrideHeadersWhereTheyDecide(t *testing.T) {
	app := `{"source":"cf:app:` + frontend.App + `"`
	for _, name := range []string{"X-HTTP-Method", "X-HTTP-Method-Override", "X-Method-Override", "X-Original-URL", "X-Rewrite-URL", "X_HTTP_METHOD_OVERRIDE", "x_rewrite-url"} {
		for parameters, want := range map[string]int{
			`{"allow":[` + app + `}]}`:                   200,
			`{"allow":[` + app + `,"methods":["GET"]}]}`: 400,
			`{"allow":[` + app + `,"paths":["/**"]}]}`:   400,
		} {
			w := newWorld(t, ok, nil)
			w.bind("backend.apps.identity", parameters)
			request := w.request()
			request.Header[name] = []string{"DELETE"}
			assert.Equal(t, want, w.send(request).Code, "%s with %s", name, parameters)
		}
	}
}

func TestReportModeWaivesRefusalsButNotTheGatewaysOwnSafety(t *testing.T) {
	for name, c := range map[string]struct {
		want    int
		reason  string
		prepare func(*http.Request)
	}{
		"allowed":           {200, "", func(*http.Request) {}},
		"no certificate":    {200, "no_certificate", func(r *http.Request) { r.Header.Del(identity.Header) }},
		"route mismatch":    {403, "route_mismatch", func(r *http.Request) { r.Header.Set("X-CF-Forwarded-Url", "https://other.apps.identity/") }},
		"malformed":         {400, "malformed_request", func(r *http.Request) { r.Header.Set("X-CF-Forwarded-Url", "https://backend.apps.identity/..") }},
		"hop":               {400, "loop", func(r *http.Request) { r.Header.Set("X-Mtls-Authz-Hop", "1") }},
		"wrong token":       {403, "unknown_binding", func(r *http.Request) { r.URL.Path += "x" }},
		"forged own header": {200, "no_certificate", func(r *http.Request) { r.Header.Del(identity.Header); r.Header.Set("X-Mtls-Authz-Caller", "app=root") }},
	} {
		w := newWorld(t, func(w http.ResponseWriter, r *http.Request) {
			assert.Equal(t, c.reason == "", r.Header.Get("X-Mtls-Authz-Caller") != "", "%s: only verified callers are named", name)
			ok(w, r)
		}, nil)
		w.bind("backend.apps.identity", `{"mode":"report","allow":["cf:app:`+frontend.App+`"]}`)
		request := w.request()
		c.prepare(request)
		got := w.send(request)
		assert.Equal(t, c.want, got.Code, name)
		assert.Equal(t, c.reason, got.line["mtls_denied_reason"], name)
		if c.want == 200 && c.reason != "" {
			assert.Equal(t, "not_enforced", got.line["mtls_auth"], name)
		}
	}
}

func TestTheGatewaysOwnAppIsALoopInReportModeToo(t *testing.T) {
	w := newWorld(t, ok, func(c *gateway.Config) {
		_ = c.OwnApp.UnmarshalText([]byte(frontend.App))
		c.Trust = func(context.Context, *grants.Access, string) error { return errors.New("untrusted") }
	})
	w.bind("backend.apps.identity", `{"mode":"report"}`)
	assert.Equal(t, "loop", w.send(w.request()).problem["reason"])
}

func TestUpstreamFailuresAreTold(t *testing.T) {
	refused := func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadGateway)
		_, _ = w.Write([]byte("502 Bad Gateway: Failed to validate Route Service Signature: x"))
	}
	w := newWorld(t, refused, nil)
	got := w.send(w.request())
	assert.Equal(t, []any{502, "router_rejected", "denied", true}, []any{got.Code, got.problem["reason"], got.line["mtls_auth"], got.line["router_rejected"]})

	release := make(chan struct{})
	w = newWorld(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}, nil)
	got = w.send(w.request())
	close(release)
	assert.Equal(t, []any{504, "upstream_timeout", "allowed"}, []any{got.Code, got.problem["reason"], got.line["mtls_auth"]})

	w = newWorld(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, nil)
	got = w.send(w.request())
	assert.Equal(t, []any{502, "upstream_unreachable", "allowed"}, []any{got.Code, got.problem["reason"], got.line["mtls_auth"]})
	assert.Contains(t, got.line["detail"], "upstream unreachable")
}

// A client that leaves while it waits for another's evaluation is no policy
// error.
func TestAClientThatLeavesDuringTheDecision(t *testing.T) {
	var told told
	w := newWorld(t, ok, func(c *gateway.Config) {
		told.by(c)
		c.Decider = deciderFunc(func(*rego.Request) (rego.Decision, error) { return rego.Decision{}, context.Canceled })
	})
	ctx, leave := context.WithCancel(t.Context())
	leave()
	got := w.send(w.request().WithContext(ctx))
	assert.Equal(t, []any{499, "denied", 499.0}, []any{got.Code, got.line["mtls_auth"], got.line["status"]})
	assert.Empty(t, told.decided)
	assert.Empty(t, told.used)
}

func TestAClientThatGoesAwayIsRecorded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	w := newWorld(t, func(_ http.ResponseWriter, r *http.Request) { cancel(); <-r.Context().Done() }, nil)
	got := w.send(w.request().WithContext(ctx))
	assert.EqualValues(t, 499, got.line["status"])
}

func TestLogInjection(t *testing.T) {
	w := newWorld(t, ok, nil)
	request := w.request()
	request.Header.Set("X-Vcap-Request-Id", "a\",\"mtls_auth\":\"allowed\n\x1b[31m")
	request.Method = "DELETE\"}\n{"
	got := w.send(request)
	assert.Equal(t, "denied", got.line["mtls_auth"])
	assert.NotContains(t, fmt.Sprint(got.line["detail"]), "\x1b")
}

func TestReservedReasonsAreThoseOfTheTable(t *testing.T) {
	unique := map[string]bool{rego.ReasonNoMatchingGrant: true}
	for _, id := range refusal.Reasons() {
		assert.Regexp(t, `^[a-z][a-z0-9_]*$`, id)
		unique[id] = true
	}
	for id := range unique {
		assert.Contains(t, append([]string{"client_gone"}, rego.ReservedReasons...), id)
	}
}

func TestExpiredGrantsAreGone(t *testing.T) {
	now := time.Now()
	w := newWorld(t, ok, func(c *gateway.Config) { c.Now = func() time.Time { return now } })
	w.bind("backend.apps.identity", `{"allow":[{"source":"cf:app:`+frontend.App+`","expires":"`+now.Add(time.Minute).UTC().Format(time.RFC3339Nano)+`"}]}`)
	assert.Equal(t, 200, w.send(w.request()).Code)
	now = now.Add(time.Minute)
	assert.Equal(t, "no_grants", w.send(w.request()).problem["reason"])
}

func rebuilt(c gateway.Config) *gateway.Gateway {
	c.Metrics = prometheus.NewRegistry()
	return gateway.New(c)
}

// The first row of the answers table that applies: loop stands before
// route_mismatch.
func TestALoopIsToldBeforeAMismatch(t *testing.T) {
	w := newWorld(t, ok, func(c *gateway.Config) { _ = c.OwnApp.UnmarshalText([]byte(frontend.App)) })
	request := w.request()
	request.Header.Set("X-CF-Forwarded-Url", "https://other.apps.identity/")
	assert.Equal(t, "loop", w.send(request).problem["reason"])
}

// A switch of protocols that was not asked for would be a tunnel past all
// decisions.
func TestA101ThatWasNotAskedForIsRefused(t *testing.T) {
	for asked, switched := range map[string]string{"": "websocket", "websocket": "h2c"} {
		w := newWorld(t, func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Connection", "Upgrade")
			rw.Header().Set("Upgrade", switched)
			rw.WriteHeader(http.StatusSwitchingProtocols)
		}, nil)
		request := w.request()
		if asked != "" {
			request.Header.Set("Connection", "Upgrade")
			request.Header.Set("Upgrade", asked)
		}
		got := w.send(request)
		assert.Equal(t, []any{400, "malformed_request", "denied"}, []any{got.Code, got.problem["reason"], got.line["mtls_auth"]}, "%q for %q", switched, asked)
	}
}

// A router that refuses with 400 is answered like one that refuses with 502.
// Upgrade without Connection asks for nothing: the line and the answer say so.
func TestA101IsNotAskedForByUpgradeAlone(t *testing.T) {
	w := newWorld(t, func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Connection", "Upgrade")
		rw.Header().Set("Upgrade", "websocket")
		rw.WriteHeader(http.StatusSwitchingProtocols)
	}, nil)
	r := w.request()
	r.Header.Set("Upgrade", "websocket")
	got := w.send(r)
	assert.Equal(t, []any{400, "malformed_request", "denied", 400.0}, []any{got.Code, got.problem["reason"], got.line["mtls_auth"], got.line["status"]})
}

// An allow that the router did not confirm is counted by nobody: not as a use of
// the binding, not among the decisions. Without the router's word the caller may
// have been anybody.
func TestAnUnconfirmedAllowCountsForNothing(t *testing.T) {
	for name, app := range map[string]http.HandlerFunc{
		"signature refused": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
			_, _ = w.Write([]byte("502 Bad Gateway: Failed to validate Route Service Signature: x"))
		},
		"no answer": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			var told told
			w := newWorld(t, app, told.by)
			assert.Equal(t, 502, w.send(w.request()).Code)
			assert.Empty(t, told.used)
			assert.Empty(t, told.decided)
		})
	}
}

func TestTheRoutersRefusalIsABadGateway(t *testing.T) {
	w := newWorld(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte("400 Bad Request: invalid route service signature detected"))
	}, nil)
	got := w.send(w.request())
	assert.Equal(t, []any{502, "router_rejected"}, []any{got.Code, got.problem["reason"]})
}

// An app that holds the router's headers must not hand them on in trailers.
func TestSecretsDoNotLeaveInTrailers(t *testing.T) {
	w := newWorld(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "X-Cf-Proxy-Signature")
		_, _ = w.Write([]byte("body"))
		w.Header().Set("X-Cf-Proxy-Signature", "secret-signature")
		w.Header().Set(http.TrailerPrefix+"X-Cf-Proxy-Metadata", "secret-metadata")
	}, nil)
	got := w.send(w.request())
	assert.Equal(t, 200, got.Code)
	assert.NotContains(t, fmt.Sprint(got.Result().Header, got.Result().Trailer, got.Header()), "secret-")
}

// A client that announces a body and sends none gets its refusal all the same.
func TestSlowBodiesDoNotHoldRefusals(t *testing.T) {
	w := newWorld(t, ok, nil)
	server := httptest.NewServer(w.gateway)
	t.Cleanup(server.Close)
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	_, err = io.WriteString(conn, "POST /r/x/wrong HTTP/1.1\r\nHost: gw\r\nContent-Length: 1000\r\n\r\n")
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(20*time.Second)))
	answer, err := io.ReadAll(conn) // to the end: the connection is closed
	require.NoError(t, err)
	assert.Contains(t, string(answer), "403 Forbidden")
}

// A client that stops sending is told so; the app saw only a part.
func TestABodyThatStopsIsTheClientsFault(t *testing.T) {
	w := newWorld(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body); ok(w, r) }, nil)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() {
		_ = front.Serve(t.Context(), listener, front.Config{
			Handler: w.gateway, Streams: func(*http.Request) bool { return true }, BodyTimeout: time.Second, MinBodyRate: 10,
			HeaderTimeout: patience, MaxHeaderBytes: 64 << 10, MaxURIBytes: 16 << 10, MaxConnections: 10, Drain: time.Millisecond,
			Farewell: func(context.Context) {}, Log: slog.New(slog.DiscardHandler),
		})
	}()
	forged := w.request()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+listener.Addr().String()+forged.URL.Path, io.MultiReader(strings.NewReader("a part"), make(never)))
	require.NoError(t, err)
	request.Header = forged.Header
	res, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer res.Body.Close()
	assert.Equal(t, http.StatusRequestTimeout, res.StatusCode)
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	assert.Contains(t, string(body), `"reason":"request_timeout"`)
}

// never is a reader of nothing, for ever.
type never chan struct{}

func (n never) Read([]byte) (int, error) { <-n; return 0, io.EOF }

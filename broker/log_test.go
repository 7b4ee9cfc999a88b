package broker_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/grants"
)

func TestOneLineForEachChangeAndNoneForReads(t *testing.T) {
	b := newTestbed(t)
	s := service(grants.ScopeOrg)
	r := routeOf(s, bindingA, "r.example")
	b.created()(b.CreateService(ctx, s, nil))
	b.created()(b.BindRoute(ctx, r, nil))
	b.ok()(b.FetchService(ctx, s))
	b.ok()(b.FetchBinding(ctx, r))
	b.ok()(b.Catalog(ctx))
	b.ok()(b.UpdateService(ctx, s, noChange))
	b.rejected()(b.UpdateService(ctx, s, change(`{"x":1}`)))
	b.ok()(b.UnbindRoute(ctx, r))
	b.gone()(b.UnbindRoute(ctx, r))
	b.ok()(b.DeleteService(ctx, s))
	var lines []string
	for line := range strings.Lines(b.log.String()) {
		var l struct {
			Msg, Method, Path, By string
			Status                int
			RequestID             string `json:"request_id"`
		}
		require.NoError(t, json.Unmarshal([]byte(line), &l))
		require.Equal(t, "broker", l.Msg)
		require.Equal(t, "developer", l.By)
		require.Len(t, l.RequestID, 74)
		lines = append(lines, strings.Join([]string{l.Method, strings.TrimPrefix(l.Path, instancePath), http.StatusText(l.Status)}, " "))
	}
	require.Equal(t, []string{
		"PUT  Created", "PUT /service_bindings/" + bindingA + " Created", "PATCH  OK", "PATCH  Bad Request",
		"DELETE /service_bindings/" + bindingA + " OK", "DELETE /service_bindings/" + bindingA + " Gone", "DELETE  OK",
	}, lines)
}

func TestRefusedPasswordIsLoggedAndNamesNobody(t *testing.T) {
	b := newTestbed(t)
	b.Password = "guess-number-one"
	_, err := b.Catalog(ctx)
	require.NoError(t, err)
	require.Contains(t, b.log.String(), `"status":401,"by":"","request_id"`)
	require.NotContains(t, b.log.String(), "guess")
}

// Whatever is sent or answered, the log holds ids only.
func TestNoParameterTokenOrPasswordInAnyLogLine(t *testing.T) {
	b := newTestbed(t)
	s := service(grants.ScopeOrg)
	r := routeOf(s, bindingA, "secret-route.example")
	const given = `{"allow":["` + app1 + `"],"labels":{"secret-label":"x"},"annotations":{"a":"secret-note"}}`
	b.created()(b.CreateService(ctx, s, raw(given)))
	b.created()(b.BindRoute(ctx, r, raw(given)))
	b.ok()(b.BindRoute(ctx, r, raw(given)))
	b.conflict()(b.BindRoute(ctx, routeOf(s, bindingA, "secret-other.example"), raw(given)))
	b.conflict()(b.CreateService(ctx, s, raw(`{"labels":{"secret-label":"y"}}`)))
	b.rejected()(b.BindRoute(ctx, routeOf(s, bindingB, "secret-tcp.example:99"), nil))
	b.rejected()(b.UpdateService(ctx, s, change(`{"secret-unknown":1}`)))
	b.rejected()(b.UpdateService(ctx, s, change(`{"allow":["secret-source"]}`)))
	b.ok()(b.FetchBinding(ctx, r))
	b.do("PUT", instancePath, `{"service_id":"secret-id","plan_id":"secret-plan","parameters":{"secret":1}`)
	b.do("PUT", instancePath+"?secret-query=1", `{"service_id":"secret-id"}`)
	b.do("PUT", bindingPath, `{"service_id":{"secret":1}}`)
	b.restart()
	b.Password = "secret-password"
	_, err := b.Catalog(ctx)
	require.NoError(t, err)
	require.NoError(t, b.cfg.Store.Close())
	b.Password = password
	b.expect(503, "failed, orphan mitigation")(b.CreateService(ctx, s, raw(given)))

	text := b.log.String()
	require.NotEmpty(t, text)
	for _, secret := range []string{"secret", app1, b.cfg.Tokens.Token(bindingA), "/r/", password, "allow"} {
		require.NotContains(t, text, secret)
	}
}

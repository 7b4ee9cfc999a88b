package acceptance_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground"
)

func TestAContextPathIsProtectedByWholeSegmentsInAnyCase(t *testing.T) {
	t.Parallel()
	w := common(t)
	p := w.protect(t, protection{route: w.freshHost() + "/api/v1", parameters: `{"allow":["cf:app:$frontend"]}`})
	for _, path := range []string{"/api/v1", "/api/v1/", "/api/v1/users", "/API/V1/users", "/api/v1/?x=/other"} {
		p.raw(t, "frontend", "GET "+path).expect(t, "200 allowed")
		assert.Equal(t, path, p.app.last(t).target)
		p.raw(t, "monitoring", "GET "+path).expect(t, noMatch)
	}
	for _, path := range []string{"/", "/api", "/api/v1x", "/api/v10/users", "/other/api/v1"} {
		p.direct(t, leg2{caller: "frontend", forwarded: "https://" + p.host + path}).expect(t, "403 route_mismatch")
	}
}

// Where a context path is bound, ways out of it are ambiguous.
func TestAContextPathCannotBeLeft(t *testing.T) {
	t.Parallel()
	w := common(t)
	p := w.protect(t, protection{route: w.freshHost() + "/api", parameters: `{"allow":["cf:app:$frontend"]}`})
	for _, path := range []string{"/api/../admin", "/api/%2e%2e/admin", "/api/..;/admin", "/api/a%2f..%2f..", "/api//admin", "/api/x;y"} {
		p.direct(t, leg2{caller: "frontend", forwarded: "https://" + p.host + path}).expect(t, "400 malformed_request")
	}
}

// The parent's grants are not the child's: the router matches the longest.
func TestAContextPathHasGrantsOfItsOwn(t *testing.T) {
	t.Parallel()
	w := common(t)
	host := w.freshHost()
	parent := w.protect(t, protection{route: host, parameters: `{"allow":["cf:app:$frontend"]}`})
	child := w.protect(t, protection{route: host + "/admin", parameters: `{"allow":["cf:app:$monitoring"]}`})
	parent.call(t, "frontend", "GET", "/x").expect(t, "200 allowed")
	child.call(t, "frontend", "GET", "/admin/x").expect(t, noMatch)
	child.call(t, "monitoring", "GET", "/admin/x").expect(t, "200 allowed")
	parent.call(t, "monitoring", "GET", "/x").expect(t, noMatch)
}

func TestHostsMatchInAnyCase(t *testing.T) {
	t.Parallel()
	w := common(t)
	host := w.freshHost()
	p := w.protect(t, protection{route: host, parameters: `{"allow":["cf:app:$frontend"]}`})
	upper := strings.ToUpper(host)
	r := p.direct(t, leg2{caller: "frontend", forwarded: "https://" + upper + "/X"}).expect(t, "200 allowed")
	assert.Equal(t, host, r.line["host"])
	assert.Equal(t, "/X", r.line["path"])
	p.direct(t, leg2{caller: "monitoring", forwarded: "https://" + upper + "/X"}).expect(t, noMatch)
	p.callHost(t, upper, "frontend", "GET", "/").expect(t, "200 allowed")
	p.direct(t, leg2{caller: "frontend", forwarded: "https://" + host + ":443/X"}).expect(t, "200 allowed")
}

// In Cloud Foundry a developer's route may be spelled in upper case.
func TestARouteBoundInUpperCaseIsTheSameRoute(t *testing.T) {
	t.Parallel()
	w := common(t)
	host := w.freshHost()
	app := newApp(t, nil)
	require.NoError(t, w.Router.Register(host, app.url))
	service, err := w.CreateService(t.Context(), t.Name(), "org", playground.Backend, names.Replace(`{"allow":["cf:app:$frontend"]}`))
	require.NoError(t, err)
	bound := bind(t, w, service, strings.ToUpper(host)+"/API", "")
	require.NoError(t, w.Router.Register(host+"/api", app.url))
	require.NoError(t, w.Router.Bind(host+"/api", bound))
	p := &protected{world: w, app: app, host: host, route: host + "/api", url: bound}
	r := p.call(t, "frontend", "GET", "/Api/x").expect(t, "200 allowed")
	assert.Equal(t, host+"/api", r.line["route"])
}

func TestAWildcardRouteIsProtectedWhereTheOperatorAllowsIt(t *testing.T) {
	t.Parallel()
	w := wild(t)
	p := w.protect(t, protection{route: "*.wild." + playground.Domain, parameters: `{"allow":["cf:app:$frontend"]}`})
	for _, host := range []string{"a.wild.apps.identity", "b.wild.apps.identity", "A.Wild.apps.identity"} {
		p.callHost(t, host, "frontend", "GET", "/").expect(t, "200 allowed")
		assert.Equal(t, strings.ToLower(host), p.app.last(t).host, "the app sees the host that was asked for")
		p.callHost(t, host, "monitoring", "GET", "/").expect(t, noMatch)
	}
	for _, host := range []string{"wild.apps.identity", "other.apps.identity", "127.0.0.1", "a..wild.apps.identity", ".wild.apps.identity"} {
		r := p.direct(t, leg2{caller: "frontend", forwarded: "https://" + host + "/"})
		assert.Contains(t, []string{"403 route_mismatch", "400 malformed_request"}, r.outcome(), host)
	}
}

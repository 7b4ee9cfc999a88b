package acceptance_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground"
	"github.com/mtls-authz/mtls-authz/playground/controller"
)

// names replaces $frontend, $shop and the like by guids.
var names = strings.NewReplacer(
	"$frontend", playground.Frontend.Identity().App, "$monitoring", playground.Monitoring.Identity().App,
	"$backend", playground.Backend.Identity().App, "$intruder", playground.Intruder.Identity().App,
	"$shop", playground.Backend.Identity().Space, "$observability", playground.Monitoring.Identity().Space,
	"$lab", playground.Intruder.Identity().Space, "$acme", playground.Backend.Identity().Org, "$globex", playground.Intruder.Identity().Org,
)

// protection is what protect makes. The zero value: an instance of plan org in
// the backend's space, without parameters, bound to a route of its own.
type protection struct {
	plan, parameters, binding string
	// route is host[/path]; "": a host that no other test has. A leading * is
	// kept before such a host.
	route   string
	handler http.HandlerFunc
	// probed answers the gateway's probes, where the route is not bound in the
	// router; nil: as the app answers all.
	probed func(http.ResponseWriter)
}

// protected is an app behind the gateway.
type protected struct {
	*world
	app     *app
	host    string
	route   string
	service controller.Service
	bound   controller.Binding
	url     string
}

func (w *world) freshHost() string { return fmt.Sprintf("r%d.%s", w.routes.Add(1), playground.Domain) }

func (w *world) protect(t *testing.T, p protection) *protected {
	t.Helper()
	route := p.route
	if route == "" {
		route = w.freshHost()
	}
	if p.plan == "" {
		p.plan = "org"
	}
	host, _, _ := strings.Cut(route, "/")
	made := &protected{world: w, app: newApp(t, p.handler, p.probed), host: host, route: route}
	require.NoError(t, w.Router.Register(route, made.app.url))
	named := func(s string) string { return strings.ReplaceAll(names.Replace(s), "$route", route) }
	var err error
	made.service, err = w.CreateService(t.Context(), t.Name()+" "+route, p.plan, playground.Backend, named(p.parameters))
	require.NoError(t, err)
	made.bound, made.url, err = w.BindRoute(t.Context(), made.service, route, named(p.binding))
	require.NoError(t, err)
	w.addSecrets(made.url[strings.LastIndex(made.url, "/")+1:])
	return made
}

// update is cf update-service -c.
func (p *protected) update(t *testing.T, parameters string) {
	t.Helper()
	require.NoError(t, p.UpdateService(t.Context(), p.service, strings.ReplaceAll(names.Replace(parameters), "$route", p.route)))
}

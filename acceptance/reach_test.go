package acceptance_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground"
	"github.com/mtls-authz/mtls-authz/playground/controller"
)

const (
	allowed = "200 allowed"
	unbound = "403 unknown_binding"
	nobody  = "403 no_grants"
)

// who is what becomes of the two callers' requests at one gateway.
func (c *cloud) who(gateway int, b bound) [2]string {
	c.t.Helper()
	var who [2]string
	for i, caller := range []string{"frontend", "monitoring"} {
		var err error
		who[i], err = c.reach(c.t.Context(), gateway, caller, strings.ToLower(b.Route), b.url)
		require.NoError(c.t, err)
	}
	return who
}

// reaches asserts what frontend and monitoring get: at once at the gateway that
// took Cloud Controller's last request, and soon at the others.
func (c *cloud) reaches(b bound, frontend, monitoring string) {
	c.t.Helper()
	last := int(c.turns.last.Load())
	want := [2]string{frontend, monitoring}
	require.Equal(c.t, want, c.who(last, b), "at once, where the change was made")
	c.soon(b, frontend, monitoring)
}

// soon waits until all gateways agree.
func (c *cloud) soon(b bound, frontend, monitoring string) {
	c.t.Helper()
	for i := range c.servers {
		c.await(i, b, [2]string{frontend, monitoring})
	}
}

// reachesNow asserts it of every gateway, without waiting.
func (c *cloud) reachesNow(b bound, frontend, monitoring string) {
	c.t.Helper()
	for i := range c.servers {
		require.Equal(c.t, [2]string{frontend, monitoring}, c.who(i, b), "gateway %d", i)
	}
}

// await waits until a gateway agrees, and returns how long it took.
func (c *cloud) await(gateway int, b bound, want [2]string) time.Duration {
	c.t.Helper()
	started := time.Now()
	require.NoError(c.t, until("gateway", func() error {
		if got := c.who(gateway, b); got != want {
			return fmt.Errorf("%d answers %q, want %q", gateway, got, want)
		}
		return nil
	}))
	return time.Since(started)
}

// closed asserts that nobody passes by a URL any more.
func (c *cloud) closed(b bound) {
	c.t.Helper()
	c.reaches(b, unbound, unbound)
}

// seen is a service instance and its bindings as the broker shows them, as soon
// as every gateway shows the same.
func (c *cloud) seen(s controller.Service, bindings ...bound) (text string) {
	c.t.Helper()
	require.NoError(c.t, until("status", func() error {
		text = c.shown(0, s, bindings)
		for i := range c.servers {
			if other := c.shown(i, s, bindings); other != text {
				return fmt.Errorf("gateway %d shows %s, and gateway 0 %s", i, other, text)
			}
		}
		return nil
	}))
	return text
}

// withoutCallers takes out what a request changes: who has called.
var withoutCallers = regexp.MustCompile(`"(callers|denials)":\[[^\]]*\]`)

func (c *cloud) shown(gateway int, s controller.Service, bindings []bound) string {
	c.t.Helper()
	there := c.at(c.t, gateway)
	text := withoutCallers.ReplaceAllString(string(c.is(200)(there.FetchService(c.t.Context(), s)).Body), `"$1":[]`)
	for _, b := range bindings {
		text += string(c.is(200)(there.FetchBinding(c.t.Context(), b.Binding)).Body)
	}
	return text
}

// instance is what the broker says of a service instance.
type instance struct {
	PlanID     string `json:"plan_id"`
	Parameters struct {
		Allow  json.RawMessage
		Labels map[string]string
		Status struct {
			Routes []struct{ Binding, Route string }
		}
	}
}

func (c *cloud) instance(s controller.Service) (i instance) {
	c.t.Helper()
	require.NoError(c.t, c.is(200)(c.FetchService(c.t.Context(), s)).JSON(&i))
	return i
}

// has asserts that a service instance has these bindings and no others: nothing
// lost, nothing invented.
func (c *cloud) has(s controller.Service, bindings ...bound) {
	c.t.Helper()
	want, got := map[string]string{}, map[string]string{}
	for _, b := range bindings {
		want[b.GUID] = strings.ToLower(b.Route)
	}
	var i instance
	require.NoError(c.t, json.Unmarshal([]byte(c.seen(s)), &i))
	for _, route := range i.Parameters.Status.Routes {
		got[route.Binding] = route.Route
	}
	assert.Equal(c.t, want, got)
}

// gone asserts that a service instance is not there.
func (c *cloud) gone(s controller.Service) {
	c.t.Helper()
	c.is(404)(c.FetchService(c.t.Context(), s))
	c.is(410)(c.DeleteService(c.t.Context(), s))
}

// goneBinding asserts that a binding is not there.
func (c *cloud) goneBinding(b controller.Binding) {
	c.t.Helper()
	c.is(404)(c.FetchBinding(c.t.Context(), b))
	c.is(410)(c.UnbindRoute(c.t.Context(), b))
}

// throughRouter is what becomes of an app's request to a route that the router
// has bound; the gateways take turns.
func (c *cloud) throughRouter(caller string, b bound) string {
	c.t.Helper()
	outcome, err := outcomeOf(playground.Call(c.t.Context(), c.clients[caller], http.MethodGet, "https://"+b.Route+"/", nil))
	require.NoError(c.t, err)
	return outcome
}

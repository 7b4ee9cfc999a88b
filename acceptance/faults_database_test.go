package acceptance_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground/controller"
)

// Cloud Controller hears 503 while the database is away, monitors hear why, the
// apps hear nothing, and nobody has to restart anything.
func TestTheDatabaseMayGoAwayInTheMidstOfTraffic(t *testing.T) {
	t.Parallel()
	server := ownPostgres(t)
	for _, fault := range []struct {
		name       string
		begin, end func(t *testing.T)
	}{
		{"restarted", func(*testing.T) { server.stop(syscall.SIGINT) }, func(t *testing.T) { require.NoError(t, server.start()) }},
		{"crashed", func(*testing.T) { server.stop(syscall.SIGQUIT) }, func(t *testing.T) { require.NoError(t, server.start()) }},
		{"frozen", func(t *testing.T) { server.freeze(t, syscall.SIGSTOP) }, func(t *testing.T) { server.freeze(t, syscall.SIGCONT) }},
	} {
		t.Run(fault.name, func(t *testing.T) {
			cluster, _ := clusterOn(t, server, 2)
			c := cluster.play(t)
			s := c.created(onlyFrontend)
			b := c.bound(s, "")
			c.reachesNow(b, allowed, noMatch)
			apps := startApps(c, b)
			developers := startDevelopers(c, 3)
			apps.goOn()
			developers.goOn()

			end := sync.OnceFunc(func() { fault.end(t) })
			t.Cleanup(end) // also after a failure
			fault.begin(t)
			c.away(s)
			apps.goOn()
			c.reachesNow(b, allowed, noMatch)
			end()

			for i := range c.servers {
				c.back(i)
			}
			developers.check()
			apps.stop()
			c.has(s, b)
			c.is(200)(c.UnbindRoute(t.Context(), b.Binding))
			c.closed(b)
		})
	}
}

// clusterOn starts gateways on an empty database of a server.
func clusterOn(t *testing.T, server *postgres, gateways int) (c *cluster, database string) {
	t.Helper()
	database, err := server.newDatabase()
	require.NoError(t, err)
	c, err = newCluster(t.TempDir(), server.url(database), gateways)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.close()) })
	return c, database
}

// away asserts that the gateways say that their database is away, to Cloud
// Controller and to monitors.
func (c *cloud) away(s controller.Service) {
	c.t.Helper()
	ctx := c.t.Context()
	var asking sync.WaitGroup
	for i := range c.servers {
		there := c.at(c.t, i)
		for call, send := range map[string]func() (*controller.Answer, error){
			"read":   func() (*controller.Answer, error) { return there.FetchService(ctx, s) },
			"create": func() (*controller.Answer, error) { return there.Client.CreateService(ctx, c.service(), nil) },
			"bind":   func() (*controller.Answer, error) { return there.Client.BindRoute(ctx, c.binding(s), nil) },
			"update": func() (*controller.Answer, error) { return there.UpdateService(ctx, s, controller.Change{}) },
			"delete": func() (*controller.Answer, error) { return there.UnbindRoute(ctx, c.binding(s)) },
		} {
			asking.Go(func() {
				answer, err := send()
				if assert.NoError(c.t, err, call) && assert.Equal(c.t, http.StatusServiceUnavailable, answer.Status, call) {
					assert.NotEmpty(c.t, answer.Description(), call)
					assert.NotContains(c.t, string(answer.Body), databasePassword)
				}
			})
		}
	}
	asking.Wait()
	for i := range c.servers {
		require.NoError(c.t, until("/readyz", func() error { return c.readiness(i, 503, "state: not reached since") }))
		status, err := c.server(i).status("/healthz")
		require.NoError(c.t, err)
		assert.Equal(c.t, http.StatusOK, status, "the platform must not restart it")
	}
}

// back waits until a gateway has recovered by itself.
func (c *cloud) back(gateway int) {
	c.t.Helper()
	require.NoError(c.t, until("/readyz", func() error { return c.readiness(gateway, 200, `"ready":true`) }))
	there := c.at(c.t, gateway)
	// A change waits for those that the database may still be about to commit.
	require.NoError(c.t, until("change", func() error {
		answer, err := there.UnbindRoute(c.t.Context(), c.binding(c.service()))
		if err == nil && answer.Status != http.StatusGone {
			err = fmt.Errorf("still %d", answer.Status)
		}
		return err
	}))
}

// readiness asks as somebody with credentials.
func (c *cloud) readiness(gateway, status int, reason string) error {
	request, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, c.server(gateway).url+"/readyz", nil)
	if err != nil {
		return err
	}
	request.SetBasicAuth("broker", password)
	res, err := c.server(gateway).transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && (res.StatusCode != status || !strings.Contains(string(body), reason)) {
		err = fmt.Errorf("%d %s", res.StatusCode, body)
	}
	return err
}

// Whoever listens for notifications is thrown out and not let in again, as when
// others take all connections: the gateways look for changes themselves.
func TestChangesOfOtherGatewaysAreFoundWithoutNotifications(t *testing.T) {
	t.Parallel()
	server, err := sharedPostgres()
	require.NoError(t, err)
	cluster, database := clusterOn(t, server, 2)
	c := cluster.play(t)
	here := c.at(t, 0)
	s := here.created(onlyFrontend)
	b := here.bound(s, "")
	for i := range c.servers { // so that each has some connections
		there := c.at(t, i)
		there.count(2*atOnce, func(int) (*controller.Answer, error) { return there.FetchService(t.Context(), s) })
		there.reachesNow(b, allowed, noMatch)
	}
	require.NoError(t, server.exec("postgres", `ALTER DATABASE `+database+` CONNECTION LIMIT 0`,
		`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '`+database+`' AND query LIKE 'LISTEN %'`))
	here.is(200)(here.UpdateService(t.Context(), s, controller.Change{Parameters: given(onlyMonitoring)}))
	here.reaches(b, noMatch, allowed)
	here.is(200)(here.UnbindRoute(t.Context(), b.Binding))
	here.closed(b)
}

func TestAChangeIsInForceOnTheOtherGatewayWithinASecond(t *testing.T) {
	t.Parallel()
	c := databases["PostgreSQL"].get(t)
	here, there := c.at(t, 0), c.at(t, 1)
	var took []time.Duration
	for i := range 9 {
		s := here.created(onlyFrontend)
		b := here.bound(s, "")
		there.reachesNow(b, allowed, noMatch)
		if i%2 == 0 {
			here.is(200)(here.UpdateService(t.Context(), s, controller.Change{Parameters: given(onlyMonitoring)}))
			took = append(took, there.await(1, b, [2]string{noMatch, allowed}))
		}
		here.is(200)(here.UnbindRoute(t.Context(), b.Binding))
		took = append(took, there.await(1, b, [2]string{unbound, unbound}))
	}
	slices.Sort(took)
	t.Log(took)
	// The median: one of them may have met a busy machine.
	assert.Less(t, took[len(took)/2], time.Second)
}

// They agree on the schema and on the key of the tokens.
func TestGatewaysMayStartAtOnceOnAnEmptyDatabase(t *testing.T) {
	t.Parallel()
	server, err := sharedPostgres()
	require.NoError(t, err)
	cluster, _ := clusterOn(t, server, 4)
	c := cluster.play(t)
	for i := range c.servers {
		one := c.at(t, i)
		s := one.created(onlyFrontend)
		b := one.bound(s, "")
		c.reachesNow(b, allowed, noMatch)
		c.has(s, b)
	}
}

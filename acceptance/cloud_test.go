package acceptance_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground"
	"github.com/mtls-authz/mtls-authz/playground/controller"
	"github.com/mtls-authz/mtls-authz/playground/controller/faults"
)

// cloud is Cloud Controller as one test plays it, before a cluster. Its requests
// take turns at the gateways, as the platform's router sends them.
type cloud struct {
	*cluster
	*controller.Platform
	t       *testing.T
	network *faults.Network
	turns   *turns
}

// turns sends each request to the next gateway.
type turns struct {
	cluster *cluster
	// fixed is the only gateway to send to; -1: all.
	fixed int64
	sent  atomic.Int64
	last  atomic.Int64
}

// RoundTrip implements http.RoundTripper.
func (s *turns) RoundTrip(request *http.Request) (*http.Response, error) {
	i := s.fixed
	if i < 0 {
		i = s.sent.Add(1) % int64(len(s.cluster.servers))
	}
	server := s.cluster.server(int(i))
	request = request.Clone(request.Context())
	request.URL.Host = strings.TrimPrefix(server.url, "http://")
	s.last.Store(i)
	return server.transport.RoundTrip(request)
}

// play is a cloud for one test; what it has left for the background to delete
// must be deleted at its end.
func (c *cluster) play(t *testing.T) *cloud {
	t.Helper()
	played := c.at(t, -1)
	t.Cleanup(func() { assert.Empty(t, played.Jobs(), "orphans that nobody has deleted") })
	return played
}

// at is a cloud that speaks to one gateway only.
func (c *cluster) at(t *testing.T, gateway int) *cloud {
	turns := &turns{cluster: c, fixed: int64(gateway)}
	network := &faults.Network{Transport: turns}
	client := &controller.Client{
		URL: "http://broker", Username: "broker", Password: password, User: playground.GUID("user admin"), Transport: network, Timeout: patience,
	}
	return &cloud{cluster: c, Platform: &controller.Platform{Client: client}, t: t, network: network, turns: turns}
}

// sequences are what Cloud Controller does, by name.
type sequences map[string]func(c *cloud)

// onBoth plays sequences on both databases.
func onBoth(t *testing.T, s sequences) {
	t.Helper()
	for database, shared := range databases {
		t.Run(database, func(t *testing.T) {
			t.Parallel()
			for name, sequence := range s {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					sequence(shared.get(t).play(t))
				})
			}
		})
	}
}

// The ids of the catalog, which never change.
const (
	offering  = "0bd1c8a0-7f0c-4c5e-9d0e-6d746c736175"
	planSpace = "5ea1d0c2-3b64-4b0e-8f52-000000000001"
	planOrg   = "5ea1d0c2-3b64-4b0e-8f52-000000000002"
	planAny   = "5ea1d0c2-3b64-4b0e-8f52-000000000003"
)

// Parameters that tests tell apart by who passes.
const (
	onlyFrontend   = `{"allow":["cf:app:$frontend"]}`
	onlyMonitoring = `{"allow":["cf:app:$monitoring"]}`
)

// given are parameters with the names of apps.
func given(parameters string) json.RawMessage { return json.RawMessage(names.Replace(parameters)) }

// service is a service instance of plan org in the backend's space, which no
// other test has.
func (c *cloud) service() controller.Service {
	id := playground.Backend.Identity()
	return controller.Service{
		GUID: uuid.NewString(), Name: "my-authz", OfferingID: offering, PlanID: planOrg,
		Space: controller.Space{GUID: id.Space, Name: playground.Backend.Space, OrgGUID: id.Org, OrgName: playground.Backend.Org},
	}
}

// binding is a binding of a route that no other test has.
func (c *cloud) binding(s controller.Service) controller.Binding {
	return controller.Binding{GUID: uuid.NewString(), Route: fmt.Sprintf("r%d.%s", c.hosts.Add(1), playground.Domain), Service: s}
}

// bound is a binding with the URL that the broker gave.
type bound struct {
	controller.Binding
	url string
}

// created has created a service instance.
func (c *cloud) created(parameters string) controller.Service {
	c.t.Helper()
	s := c.service()
	c.is(201)(c.CreateService(c.t.Context(), s, given(parameters)))
	return s
}

// bound has bound a route.
func (c *cloud) bound(s controller.Service, parameters string) bound {
	c.t.Helper()
	b := c.binding(s)
	return c.urlOf(b, c.is(201)(c.BindRoute(c.t.Context(), b, given(parameters))))
}

// urlOf takes the URL from the answer to a bind.
func (c *cloud) urlOf(b controller.Binding, answer *controller.Answer) bound {
	c.t.Helper()
	var body struct {
		URL string `json:"route_service_url"`
	}
	require.NoError(c.t, answer.JSON(&body))
	require.Regexp(c.t, `^https://`+c.host+`/r/`+b.GUID+`/[^/]{22}$`, body.URL)
	c.addSecret(body.URL[strings.LastIndex(body.URL, "/")+1:])
	return bound{b, body.URL}
}

// outcomes are what Cloud Controller makes of the broker's answers; no other
// status is ever right.
var outcomes = map[int]controller.Outcome{
	200: controller.Succeeded, 201: controller.Succeeded, 400: controller.Rejected, 401: controller.Unauthenticated, 404: controller.Rejected,
	409: controller.Conflict, 410: controller.Succeeded, 412: controller.Rejected,
}

// is asserts the status of an answer, and that Cloud Controller makes the right
// thing of it.
func (c *cloud) is(status int) func(*controller.Answer, error) *controller.Answer {
	c.t.Helper()
	return func(answer *controller.Answer, err error) *controller.Answer {
		c.t.Helper()
		require.NoError(c.t, err)
		c.sane(answer)
		require.Equal(c.t, status, answer.Status, string(answer.Body))
		return answer
	}
}

// sane asserts what must be true of every answer.
func (c *cloud) sane(answer *controller.Answer) {
	c.t.Helper()
	if answer.Status >= http.StatusInternalServerError {
		c.t.Log("the gateways complain:", c.complaints())
	}
	assert.Equal(c.t, outcomes[answer.Status], answer.Outcome(), "%d %s", answer.Status, answer.Body)
	assert.Equal(c.t, "application/json", answer.Header.Get("Content-Type"))
	assert.Equal(c.t, answer.RequestID, answer.Header.Get("X-Broker-Api-Request-Identity"))
	if answer.Status >= 400 && answer.Status != http.StatusGone {
		assert.NotEmpty(c.t, answer.Description(), "the developer is told nothing")
		assert.NotContains(c.t, answer.Description(), "\n")
	}
}

// lost asserts that nobody has heard an answer to a create, so that it will be
// deleted.
func (c *cloud) lost(_ *controller.Answer, err error) {
	c.t.Helper()
	var unanswered *controller.Unanswered
	require.ErrorAs(c.t, err, &unanswered)
	require.Equal(c.t, controller.Orphaned, unanswered.Outcome())
}

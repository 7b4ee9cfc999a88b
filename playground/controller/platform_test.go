package controller_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground/controller"
	"github.com/mtls-authz/mtls-authz/playground/controller/faults"
)

// memory is a broker that counts what it makes and deletes, over a network.
type memory struct {
	*faults.Network
	mu sync.Mutex
	// seen are the methods and paths of requests, in order.
	seen, originators []string
	status            int
}

func newMemory(t *testing.T) (*memory, *controller.Platform) {
	m := &memory{Network: &faults.Network{}, status: http.StatusOK}
	server := httptest.NewServer(m)
	t.Cleanup(server.Close)
	return m, &controller.Platform{Client: &controller.Client{URL: server.URL, User: "user-guid", Transport: m.Network}}
}

func (m *memory) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seen = append(m.seen, r.Method+" "+r.URL.Path)
	m.originators = append(m.originators, r.Header.Get("X-Broker-Api-Originating-Identity"))
	w.WriteHeader(m.status)
	_, _ = io.WriteString(w, "{}")
}

const (
	deleteInstance = "DELETE /v2/service_instances/instance-guid"
	deleteBinding  = deleteInstance + "/service_bindings/binding-guid"
)

// The same table as that of outcomes: what may have been left is deleted, and
// nothing else.
func TestOrphansAreDeletedInTheBackground(t *testing.T) {
	for name, test := range map[string]struct {
		fault faults.Fault
		call  func(*controller.Platform) (*controller.Answer, error)
		want  []string
	}{
		"bind, timeout":   {faults.LoseAnswer, bindOn, []string{deleteBinding}},
		"bind, 500":       {faults.Instead(500, ""), bindOn, []string{deleteBinding}},
		"bind, reset":     {faults.Reset, bindOn, nil},
		"bind, 400":       {faults.Instead(400, "{}"), bindOn, nil},
		"bind, 409":       {faults.Instead(409, "{}"), bindOn, nil},
		"create, timeout": {faults.Lose, createOn, []string{deleteInstance}},
		"create, 422":     {faults.Instead(422, "{}"), createOn, []string{deleteInstance}},
		"update, timeout": {faults.LoseAnswer, func(p *controller.Platform) (*controller.Answer, error) { return update(p.Client) }, nil},
		"unbind, timeout": {faults.LoseAnswer, func(p *controller.Platform) (*controller.Answer, error) { return unbind(p.Client) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			m, p := newMemory(t)
			m.Next(test.fault)
			_, _ = test.call(p)
			assert.Len(t, p.Jobs(), len(test.want))
			before := len(m.seen)
			require.NoError(t, p.RunJobs(ctx))
			assert.Equal(t, test.want, append([]string(nil), m.seen[before:]...))
			for i := before; i < len(m.seen); i++ {
				assert.Empty(t, m.originators[i], "background jobs act for nobody")
			}
			assert.Empty(t, p.Jobs())
			require.NoError(t, p.RunJobs(ctx))
			assert.Len(t, m.seen, before+len(test.want), "once")
		})
	}
}

func bindOn(p *controller.Platform) (*controller.Answer, error) {
	return p.BindRoute(ctx, binding, nil)
}

func createOn(p *controller.Platform) (*controller.Answer, error) {
	return p.CreateService(ctx, service, nil)
}

func TestWhatIsCreatedAnewUnderItsNameIsDiscarded(t *testing.T) {
	m, p := newMemory(t)
	p.Discard(binding)
	p.DiscardService(service)
	assert.Equal(t, []string{"binding binding-guid", "service instance instance-guid"}, p.Jobs())
	require.NoError(t, p.RunJobs(ctx))
	assert.Equal(t, []string{deleteBinding, deleteInstance}, m.seen)
}

func TestAJobTriesUntilItSucceedsElevenTimesAtMost(t *testing.T) {
	for status, tries := range map[int]int{200: 1, 202: 1, 410: 1, 400: 11, 404: 11, 500: 11, 503: 11} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			m, p := newMemory(t)
			m.status = status
			p.Discard(binding)
			for range 15 {
				_ = p.RunJobs(ctx)
			}
			assert.Len(t, m.seen, tries)
			assert.Empty(t, p.Jobs())
		})
	}
	m, p := newMemory(t)
	m.status = http.StatusServiceUnavailable
	p.Discard(binding)
	m.Next(faults.Lose)
	require.ErrorContains(t, p.RunJobs(ctx), "binding-guid, attempt 1 of 11")
	require.ErrorContains(t, p.RunJobs(ctx), "status 503")
	m.status = http.StatusOK
	require.NoError(t, p.RunJobs(ctx))
	assert.Empty(t, p.Jobs())
}

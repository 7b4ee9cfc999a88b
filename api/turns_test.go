package api_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/api"
	"github.com/mtls-authz/mtls-authz/store"
)

// slow is a store whose lists of instances take until they are let go.
type slow struct {
	api.Reader
	entered, release chan struct{}
}

func (s *slow) Instances(ctx context.Context, f store.InstanceFilter, p store.Page) ([]store.Instance, int, error) {
	s.entered <- struct{}{}
	<-s.release
	return s.Reader.Instances(ctx, f, p)
}

// Revoking must survive overload.
func TestWhoReadsTooMuchAtOnceIsTurnedAwayAndCannotKeepOperatorsFromRevoking(t *testing.T) {
	var s *slow
	b := world(t, func(b *testbed) {
		s = &slow{b.store, make(chan struct{}), make(chan struct{})}
		b.cfg.Reader, b.cfg.MaxInFlight, b.cfg.MaxWait = s, 2, 20*time.Millisecond
	})
	release := sync.OnceFunc(func() { close(s.release) })
	t.Cleanup(release)
	answers := make(chan int, 2)
	for range cap(answers) {
		go func() { answers <- b.do("GET", "/v1/instances", asReader).StatusCode }()
		<-s.entered
	}
	r := b.do("GET", "/v1/bindings", asReader).expect(t, 429, "too many requests")
	assert.NotEmpty(t, r.Header.Get("Retry-After"))
	require.Equal(t, 204, b.do("DELETE", "/v1/bindings/b").StatusCode)
	release()
	for range cap(answers) {
		require.Equal(t, 200, <-answers)
	}
	require.Equal(t, 200, b.do("GET", "/v1/bindings", asReader).StatusCode, "turns come back")
}

// deadlines remembers what was set on a connection.
type deadlines struct {
	*httptest.ResponseRecorder
	set []time.Time
}

func (d *deadlines) SetWriteDeadline(at time.Time) error {
	d.set = append(d.set, at)
	return nil
}

// The router keeps its connections, and sends a stream of an app over the same
// one next.
func TestTheTimeoutOfAnAnswerEndsWithIt(t *testing.T) {
	b := world(t)
	request := httptest.NewRequest(http.MethodGet, "/v1/instances", http.NoBody)
	asReader(request)
	connection := &deadlines{ResponseRecorder: httptest.NewRecorder()}
	api.New(b.cfg).ServeHTTP(connection, request)
	require.Equal(t, 200, connection.Code)
	require.Len(t, connection.set, 2)
	assert.WithinDuration(t, time.Now().Add(time.Minute), connection.set[0], 30*time.Second)
	assert.Zero(t, connection.set[1])
}

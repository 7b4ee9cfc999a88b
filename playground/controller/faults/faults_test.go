package faults_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground/controller/faults"
)

// broker remembers what arrives, over a network, and answers all alike.
type broker struct {
	faults.Network
	url  string
	mu   sync.Mutex
	seen []string
}

func newBroker(t *testing.T) *broker {
	b := &broker{}
	server := httptest.NewServer(b)
	t.Cleanup(server.Close)
	b.url = server.URL
	return b
}

func (b *broker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seen = append(b.seen, strings.TrimSpace(r.Method+r.Header.Get("X-Extra")+" "+strings.TrimSpace(string(body))))
	w.WriteHeader(http.StatusCreated)
	_, _ = io.WriteString(w, "done")
}

// send is what a client hears: the body, or the error.
func (b *broker) send(t *testing.T, method, body string) (string, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, b.url, strings.NewReader(body))
	require.NoError(t, err)
	response, err := b.RoundTrip(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	heard, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return http.StatusText(response.StatusCode) + ": " + string(heard), nil
}

func TestFaults(t *testing.T) {
	const done = "Created: done"
	for name, test := range map[string]struct {
		fault faults.Fault
		heard string
		seen  []string
	}{
		"lost on the way":           {faults.Lose, "timeout", nil},
		"answer lost":               {faults.LoseAnswer, "timeout", []string{"PUT {}"}},
		"connection broken":         {faults.Reset, "broken", []string{"PUT {}"}},
		"arrives twice":             {faults.Repeat, done, []string{"PUT {}", "PUT {}"}},
		"another answer":            {faults.Instead(502, "no backend"), "Bad Gateway: no backend", []string{"PUT {}"}},
		"another body":              {faults.WithBody("another"), done, []string{"PUT another"}},
		"another header":            {faults.Edit(func(r *http.Request) { r.Header.Set("X-Extra", "!") }), done, []string{"PUT! {}"}},
		"a body that comes in time": {finished().Trickle, done, []string{"PUT {}"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBroker(t)
			b.Next(test.fault)
			heard, err := b.send(t, http.MethodPut, "{}")
			switch {
			case errors.Is(err, context.DeadlineExceeded):
				heard = "timeout"
			case err != nil:
				heard = "broken"
			}
			assert.Equal(t, test.heard, heard)
			assert.Equal(t, test.seen, b.seen)
			heard, err = b.send(t, http.MethodPut, "{}")
			require.NoError(t, err)
			assert.Equal(t, done, heard, "the next one meets no fault")
		})
	}
}

func finished() *faults.Slow {
	slow := faults.NewSlow()
	slow.Finish()
	return slow
}

func TestEachRequestMeetsTheFaultThatIsNext(t *testing.T) {
	b := newBroker(t)
	b.Next(faults.WithBody("1"), faults.Lose)
	b.Next(faults.WithBody("3"))
	for range 4 {
		_, _ = b.send(t, http.MethodPut, "as sent")
	}
	assert.Equal(t, []string{"PUT 1", "PUT 3", "PUT as sent"}, b.seen)
}

func TestALateRequestArrivesAsItWasSent(t *testing.T) {
	b := newBroker(t)
	late := &faults.Late{}
	b.Next(late.Hold)
	_, err := b.send(t, http.MethodPut, "late")
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = b.send(t, http.MethodDelete, "")
	require.NoError(t, err)
	for range 2 {
		status, err := late.Arrive()
		require.NoError(t, err)
		assert.Equal(t, http.StatusCreated, status)
	}
	assert.Equal(t, []string{"DELETE", "PUT late", "PUT late"}, b.seen)
}

func TestASlowRequestIsOvertaken(t *testing.T) {
	b := newBroker(t)
	slow := faults.NewSlow()
	b.Next(slow.Trickle)
	var running sync.WaitGroup
	running.Go(func() { _, _ = b.send(t, http.MethodPut, "slow") })
	<-slow.Begun()
	_, err := b.send(t, http.MethodDelete, "")
	require.NoError(t, err)
	slow.Finish()
	running.Wait()
	assert.Equal(t, []string{"DELETE", "PUT slow"}, b.seen)
}

// away is a broker that nobody reaches.
type away struct{}

var errRefused = errors.New("connection refused")

func (away) RoundTrip(*http.Request) (*http.Response, error) { return nil, errRefused }

func TestABrokerThatIsNotThere(t *testing.T) {
	late := &faults.Late{}
	for name, fault := range map[string]faults.Fault{
		"lost answer": faults.LoseAnswer, "reset": faults.Reset, "repeat": faults.Repeat, "instead": faults.Instead(502, ""),
	} {
		b := &broker{Network: faults.Network{Transport: away{}}, url: "http://broker"}
		b.Next(fault, late.Hold)
		_, err := b.send(t, http.MethodPut, "{}")
		assert.ErrorIs(t, err, errRefused, name)
		_, err = b.send(t, http.MethodPut, "{}")
		assert.ErrorIs(t, err, context.DeadlineExceeded, name)
		_, err = late.Arrive()
		assert.ErrorIs(t, err, errRefused, name)
	}
}

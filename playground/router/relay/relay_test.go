package relay_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground/router/relay"
)

// refusing is a transport that never gets a connection.
type refusing struct{ asked *int }

func (r refusing) RoundTrip(*http.Request) (*http.Response, error) {
	*r.asked++
	return nil, errors.New("refused")
}

func serve(t *testing.T, destinations ...relay.Destination) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(&relay.Relay{
		Destinations: destinations,
		Fail: func(w http.ResponseWriter, err error) {
			w.WriteHeader(http.StatusBadGateway)
			_, _ = io.WriteString(w, err.Error())
		},
	})
	t.Cleanup(server.Close)
	return server
}

func post(t *testing.T, url string) (int, string) {
	t.Helper()
	res, err := http.Post(url, "text/plain", strings.NewReader("body"))
	require.NoError(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, string(body)
}

func TestTheBodySurvivesDestinationsThatRefuse(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }))
	t.Cleanup(app.Close)
	transport := relay.NewTransport(nil)
	t.Cleanup(transport.CloseIdleConnections)
	asked := 0
	none := relay.Destination{Transport: refusing{&asked}, Aim: func(*http.Request) {}}
	last := relay.Destination{Transport: transport, Aim: func(r *http.Request) { r.URL.Host = strings.TrimPrefix(app.URL, "http://") }}
	status, body := post(t, serve(t, none, none, last).URL)
	assert.Equal(t, http.StatusOK, status)
	assert.Equal(t, "body", body)
	assert.Equal(t, 2, asked)
}

func TestFailHearsTheLastError(t *testing.T) {
	asked := 0
	none := relay.Destination{Transport: refusing{&asked}, Aim: func(*http.Request) {}}
	status, body := post(t, serve(t, none).URL)
	assert.Equal(t, http.StatusBadGateway, status)
	assert.Equal(t, "refused", body)
	assert.Equal(t, 1, asked)
}

package osb_test

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/broker/osb"
)

func newServer(t *testing.T, cfg osb.Config, next http.HandlerFunc) *httptest.Server {
	cfg.Credentials = osb.Credentials{Username: "cc", Password: "password"}
	cfg.Now = time.Now
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	server := httptest.NewServer(osb.Envelope(cfg, next))
	t.Cleanup(server.Close)
	return server
}

func get(t *testing.T, url, password string) (*http.Response, string, error) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url+"/v2/catalog", nil)
	require.NoError(t, err)
	req.SetBasicAuth("cc", password)
	req.Header.Set("X-Broker-Api-Version", "2.15")
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return nil, "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res, string(body), err
}

// An overloaded broker must not make Cloud Controller delete, and nobody
// without the password may overload it.
func TestRequestsBeyondTheBoundAreRefusedNotFailed(t *testing.T) {
	working, finish := make(chan struct{}, 2), make(chan struct{})
	server := newServer(t, osb.Config{MaxInFlight: 2, MaxWait: time.Millisecond}, func(w http.ResponseWriter, _ *http.Request) {
		working <- struct{}{}
		<-finish
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, "{}")
	})
	var running sync.WaitGroup
	for range 2 {
		running.Go(func() {
			if res, _, err := get(t, server.URL, "password"); err != nil || res.StatusCode != http.StatusOK {
				t.Error(res, err)
			}
		})
		<-working
	}
	res, body, err := get(t, server.URL, "password")
	require.NoError(t, err)
	require.Equal(t, http.StatusTooManyRequests, res.StatusCode)
	require.Equal(t, "10", res.Header.Get("Retry-After"))
	require.JSONEq(t, `{"description":"the broker has too many requests at once; try again later"}`, body)
	res, _, err = get(t, server.URL, "wrong")
	require.NoError(t, err)
	require.Equal(t, http.StatusUnauthorized, res.StatusCode, "costs no turn")
	close(finish)
	running.Wait()
	res, _, err = get(t, server.URL, "password")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, res.StatusCode, "turns are given back")
}

func TestTurnsAreGivenBackAfterPanics(t *testing.T) {
	server := newServer(t, osb.Config{MaxInFlight: 1, MaxWait: time.Minute}, func(http.ResponseWriter, *http.Request) { panic("each time") })
	for range 3 {
		res, body, err := get(t, server.URL, "password")
		require.NoError(t, err)
		require.Equal(t, http.StatusInternalServerError, res.StatusCode)
		require.JSONEq(t, `{"description":"internal error of the gateway"}`, body)
	}
}

// A 201 that breaks off must not look like one without a route service url.
func TestPanicAfterHalfAnAnswerBreaksTheConnection(t *testing.T) {
	var log bytes.Buffer
	server := newServer(t, osb.Config{Log: slog.New(slog.NewJSONHandler(&log, nil))}, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, "{")
		w.(http.Flusher).Flush()
		panic("half")
	})
	_, body, err := get(t, server.URL, "password")
	require.Error(t, err, body)
}

func TestAnswersThatCloudControllerWouldMisread(t *testing.T) {
	for name, c := range map[string]struct {
		contentType string
		given, want int
		body        string
	}{
		"422 would delete":        {"application/json", 422, 400, `{"description":"given"}`},
		"a redirect":              {"", 307, 404, "no such endpoint"},
		"an error in plain text":  {"text/plain; charset=utf-8", 404, 404, "no such endpoint: Not Found"},
		"a success stays":         {"application/json", 201, 201, `{"description":"given"}`},
		"an error of ours stays":  {"application/json", 409, 409, `{"description":"given"}`},
		"no status is a success":  {"application/json", 0, 200, `{"description":"given"}`},
		"no status and no header": {"", 0, 200, `{"description":"given"}`},
	} {
		server := newServer(t, osb.Config{}, func(w http.ResponseWriter, _ *http.Request) {
			if c.contentType != "" {
				w.Header().Set("Content-Type", c.contentType)
			}
			w.Header().Set("Location", "https://elsewhere.example")
			if c.given != 0 {
				w.WriteHeader(c.given)
			}
			_, _ = io.WriteString(w, `{"description":"given"}`)
		})
		res, body, err := get(t, server.URL, "password")
		require.NoError(t, err)
		require.Equal(t, c.want, res.StatusCode, name)
		require.Contains(t, body, c.body, name)
		require.Equal(t, 1, strings.Count(body, "description"), name)
		if c.given == 307 {
			require.Empty(t, res.Header.Get("Location"), name)
		}
	}
}

package acceptance_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground"
)

// Both instances are replaced, one after the other, while apps call through the
// router; the slow ones among them are under way when SIGTERM comes. Diego takes
// an instance off the router before it ends it; a router that hears late sends
// requests to an instance that is leaving.
func TestARollingRestartFailsNoRequest(t *testing.T) {
	t.Parallel()
	const quick, slow = 4, 2
	for _, leaving := range []struct {
		name string
		stop func(c *cloud, calling *apps, gateway int) error
	}{
		{"taken off the router first", func(c *cloud, _ *apps, gateway int) error { return c.stop(gateway) }},
		{"the router hears late", (*cloud).stopUnheard},
	} {
		t.Run(leaving.name, func(t *testing.T) {
			t.Parallel()
			c := databases["PostgreSQL"].own(t).play(t)
			binding := c.binding(c.created(onlyFrontend))
			binding.Route = "behind-" + c.host // all clusters share the router
			b := c.urlOf(binding, c.is(201)(c.BindRoute(t.Context(), binding, nil)))
			app := newApp(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				if r.URL.Path == "/slow" {
					time.Sleep(50 * time.Millisecond)
				}
				_, _ = w.Write([]byte("from the app"))
			})
			require.NoError(t, c.router.Register(b.Route, app.url))
			require.NoError(t, c.router.Bind(b.Route, b.url))
			calling := startCallers(t, quick+slow, func(caller int) (string, error) {
				path := "/quick"
				if caller >= quick {
					path = "/slow"
				}
				return c.post(b.Route + path)
			})
			calling.goOn()
			for gateway := range c.servers {
				require.NoError(t, leaving.stop(c, calling, gateway))
				calling.goOn()
				require.NoError(t, c.start(gateway))
				calling.goOn()
			}
			calling.stop()
		})
	}
}

// post is a request of the frontend through the router that no router may send
// twice.
func (c *cloud) post(target string) (string, error) {
	request, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, "https://"+target, strings.NewReader("a body"))
	if err != nil {
		return "", err
	}
	res, err := c.clients["frontend"].Do(request)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return outcomeOf(playground.Reply{Status: res.StatusCode, Header: res.Header, Body: string(body), Reason: res.Header.Get("X-Cf-Routererror")}, err)
}

// stopUnheard ends a gateway to which the router goes on sending requests for a
// while.
func (c *cloud) stopUnheard(calling *apps, gateway int) error {
	s := c.server(gateway)
	if err := s.command.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	if err := until("the gateway leaves", func() error { return s.wrote(`"msg":"draining"`) }); err != nil {
		return err
	}
	calling.goOn()
	if err := c.router.Deregister(c.host, s.url); err != nil {
		return err
	}
	return s.stop()
}

// wrote returns an error unless a line with a text was written.
func (j *journal) wrote(text string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, line := range j.lines {
		if strings.Contains(line, text) {
			return nil
		}
	}
	return fmt.Errorf("no line has %s", text)
}

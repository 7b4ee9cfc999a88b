package acceptance_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// app is a protected app that remembers what reached it.
type app struct {
	url string

	mu   sync.Mutex
	seen []seen
	// probes are the targets of the gateway's own probes, which reach an app while
	// its route is not bound in the router. They are not counted.
	probes []string
}

// probePath is where the gateway's self-test looks.
const probePath = "/.well-known/mtls-authz-probe"

// isProbe knows a probe by its nonce.
var isProbe = regexp.MustCompile(`/\.well-known/mtls-authz-probe\?[\w-]{32}\.[\w-]{43}$`).MatchString

// seen is a request as the app got it.
type seen struct {
	method, target, host, body string
	header, trailer            http.Header
}

// newApp starts an app. Without a handler of its own it reads the body and
// answers 200.
func newApp(t *testing.T, handler http.HandlerFunc, probed ...func(http.ResponseWriter)) *app {
	a := &app{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := seen{method: r.Method, target: r.RequestURI, host: r.Host, header: r.Header.Clone()}
		if isProbe(r.RequestURI) {
			a.mu.Lock()
			a.probes = append(a.probes, r.RequestURI)
			a.mu.Unlock()
			if len(probed) > 0 && probed[0] != nil {
				probed[0](w)
				return
			}
			_, _ = io.WriteString(w, "from the app")
			return
		}
		if handler == nil {
			body, _ := io.ReadAll(r.Body)
			s.body, s.trailer = string(body), r.Trailer.Clone()
		}
		a.mu.Lock()
		a.seen = append(a.seen, s)
		a.mu.Unlock()
		if handler != nil {
			handler(w, r)
			return
		}
		_, _ = io.WriteString(w, "from the app")
	}))
	t.Cleanup(server.Close)
	a.url = server.URL
	return a
}

// probe is the target of the last probe that reached the app, "" for none.
func (a *app) probe() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.probes) == 0 {
		return ""
	}
	return a.probes[len(a.probes)-1]
}

func (a *app) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.seen)
}

// last is the last request that reached the app.
func (a *app) last(t *testing.T) seen {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	require.NotEmpty(t, a.seen, "nothing has reached the app")
	return a.seen[len(a.seen)-1]
}

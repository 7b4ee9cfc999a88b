package gateway_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/mtls-authz/mtls-authz/gateway"
	"github.com/mtls-authz/mtls-authz/identity"
)

// A probe of the self-test is answered in the app's place, whoever calls, and is no
// request: it has no line and reaches nobody. It comes to that only by a binding
// and with what a router sends.
func TestProbesAreAnsweredBehindTheBinding(t *testing.T) {
	var asked []string
	app := func(http.ResponseWriter, *http.Request) { t.Error("a probe was forwarded") }
	w := newWorld(t, app, func(c *gateway.Config) {
		_ = c.OwnApp.UnmarshalText([]byte(frontend.App)) // the prober's certificate
		c.Probe = func(binding string, r *http.Request, to *url.URL) http.Handler {
			asked = append(asked, binding+" "+to.String())
			if to.RawQuery != "fresh" {
				return nil
			}
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				_, _ = rw.Write([]byte("saw " + r.Header.Get(identity.Header)))
			})
		}
	})
	probe := func(query string) *http.Request {
		r := w.request()
		r.Header.Set("X-CF-Forwarded-Url", "https://backend.apps.identity/.well-known/x?"+query)
		return r
	}
	answer := httptest.NewRecorder()
	w.gateway.ServeHTTP(answer, probe("fresh"))
	assert.Equal(t, "saw "+w.credential.XFCC(), answer.Body.String())
	assert.Empty(t, w.lines.String(), "no decision, no line")
	assert.Equal(t, []string{binding + " https://backend.apps.identity/.well-known/x?fresh"}, asked)

	assert.Equal(t, "loop", w.send(probe("stale")).problem["reason"], "a request like any other")
	asked = nil
	for reason, prepare := range map[string]func(*http.Request){
		"unknown_binding":   func(r *http.Request) { r.URL.Path = "/r/" + binding + "/guessed" },
		"malformed_request": func(r *http.Request) { r.Header.Del("X-CF-Proxy-Signature") },
	} {
		r := probe("fresh")
		prepare(r)
		assert.Equal(t, reason, w.send(r).problem["reason"])
	}
	w.unbind()
	assert.Equal(t, "unknown_binding", w.send(probe("fresh")).problem["reason"])
	assert.Empty(t, asked, "nobody looks at the nonce before")
}

package router_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/mtls-authz/mtls-authz/playground/router"
)

func TestAFirewallRefusesWithoutTheRouter(t *testing.T) {
	w := newWorld(t, func(c *router.Config) {
		c.Firewall = func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/.well-known/") }
	})
	requests, handler := record()
	w.app(handler, host)
	res := w.get(w.client(), "https://"+host+"/.well-known/x")
	assert.Equal(t, http.StatusForbidden, res.StatusCode)
	assert.Empty(t, res.Header.Get("X-Vcap-Request-Id"))
	assert.Empty(t, requests)
	assert.Equal(t, http.StatusOK, w.get(w.client(), "https://"+host+"/x").StatusCode)
}

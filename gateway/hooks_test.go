package gateway_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/mtls-authz/mtls-authz/gateway"
	"github.com/mtls-authz/mtls-authz/rego"
)

// told is what the gateway said of the requests it saw.
type told struct {
	used    []string
	decided []rego.Decision
	ids     []string
}

func (told *told) by(c *gateway.Config) {
	c.Used = func(binding string, _ time.Time) { told.used = append(told.used, binding) }
	c.Decided = func(id string, _ *rego.Request, d rego.Decision) {
		told.ids, told.decided = append(told.ids, id), append(told.decided, d)
	}
}

func TestWhatGoesOnIsUse(t *testing.T) {
	var told told
	w := newWorld(t, ok, told.by)
	got := w.send(w.request())
	assert.Equal(t, []string{binding}, told.used)
	assert.Equal(t, []string{got.line["decision_id"].(string)}, told.ids)
	assert.True(t, told.decided[0].Allow)
}

func TestWhatIsRefusedIsNoUse(t *testing.T) {
	for name, c := range map[string]struct {
		given   string
		forge   func(*http.Request)
		decided int
	}{
		"no grants":        {`{}`, func(*http.Request) {}, 1},
		"another's grant":  {`{"allow":["cf:app:99999999-9999-4999-8999-999999999999"]}`, func(*http.Request) {}, 1},
		"no certificate":   {`{"allow":["cf:any"]}`, func(r *http.Request) { r.Header.Del("X-Forwarded-Client-Cert") }, 0},
		"not of the route": {`{"allow":["cf:any"]}`, func(r *http.Request) { r.Header.Set("X-CF-Forwarded-Url", "https://other.apps.identity/") }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			var told told
			w := newWorld(t, ok, told.by)
			w.bind("backend.apps.identity", c.given)
			r := w.request()
			c.forge(r)
			w.send(r)
			assert.Empty(t, told.used)
			assert.Len(t, told.decided, c.decided)
		})
	}
}

// In report mode a refusal that is not enforced uses the route all the same.
func TestWhatReportModeLetsPassIsUse(t *testing.T) {
	var told told
	w := newWorld(t, ok, told.by)
	w.bind("backend.apps.identity", `{"mode":"report"}`)
	w.send(w.request())
	assert.Equal(t, []string{binding}, told.used)
}

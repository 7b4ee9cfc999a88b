package readiness_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/readiness"
	"github.com/mtls-authz/mtls-authz/rego/activation"
)

// Each instance says of itself whether anybody but gorouter reaches its port: a
// task, in which doctor runs, has no ports.
func TestRouteIntegrity(t *testing.T) {
	policy, err := activation.Open(t.Context(), activation.Config{})
	require.NoError(t, err)
	for told, c := range map[string]struct{ says, note string }{
		"": {"", ""},
		`[{"internal":8080,"external_tls_proxy":61001}]`:                  {"^ok$", ""},
		`[{"internal":8080,"external":61003,"external_tls_proxy":61001}]`: {"port 61003 of the cell", "enable_unproxied_port_mappings: false"},
		`[{"internal":9090,"external_tls_proxy":61001}]`:                  {"does not name port 8080", ""},
	} {
		for _, reader := range []bool{true, false} {
			r := readiness.New(readiness.Config{
				LastContact: func() (time.Time, error) { return time.Now(), nil }, Policy: policy, InstancePorts: told, Port: 8080,
				Routers: func() ([]string, []string) { return nil, nil }, MayRead: func(*http.Request) bool { return reader },
			})
			w := httptest.NewRecorder()
			r.Report(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
			var found struct {
				Ready          bool
				Notes          []string
				RouteIntegrity string `json:"route_integrity"`
			}
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &found))
			assert.True(t, found.Ready, "refusing would close nothing")
			if !reader || told == "" {
				assert.Empty(t, found.RouteIntegrity)
				assert.Empty(t, found.Notes)
				continue
			}
			assert.Regexp(t, c.says, found.RouteIntegrity)
			if c.note == "" {
				assert.Empty(t, found.Notes)
			} else {
				require.Len(t, found.Notes, 1)
				assert.Contains(t, found.Notes[0], c.note)
			}
		}
	}
}

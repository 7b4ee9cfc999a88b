package acceptance_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// collector takes spans by OTLP and keeps them as they came.
type collector struct {
	mu      sync.Mutex
	content []byte
	token   string
}

func (c *collector) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	content, _ := io.ReadAll(r.Body) // which is not compressed, unless it is asked for
	c.mu.Lock()
	defer c.mu.Unlock()
	c.content = append(c.content, content...)
	c.token = r.Header.Get("Authorization") + " " + r.URL.Path
}

func (c *collector) has(text string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Contains(c.content, []byte(text))
}

func (c *collector) count(text string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Count(c.content, []byte(text))
}

// A request is followed from the router through the gateway to the app, and
// nothing secret is told on the way.
func TestARequestIsFollowedThroughItsLegs(t *testing.T) {
	t.Parallel()
	spans := &collector{}
	server := httptest.NewServer(spans)
	t.Cleanup(server.Close)
	w := start(t, setup{env: []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=" + server.URL, "OTEL_EXPORTER_OTLP_HEADERS=Authorization=Bearer%20SECRET", "OTEL_TRACES_SAMPLER_ARG=1",
	}})
	p := w.protect(t, protection{parameters: `{"allow":["cf:app:$frontend"]}`})
	const trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	r := p.call(t, "frontend", "GET", "/private?query=HIDDEN", "Traceparent: 00-"+trace+"-"+parent+"-01", "X-B3-Traceid: "+trace, "X-B3-Spanid: "+parent)
	r.expect(t, "200 allowed")
	header := p.app.last(t).header
	assert.Regexp(t, "^00-"+trace+"-[0-9a-f]{16}-01$", header.Get("Traceparent"))
	assert.NotContains(t, header.Get("Traceparent"), parent, "the app's parent is the gateway's span")
	assert.Equal(t, trace, header.Get("X-B3-Traceid"))

	denied := p.call(t, "monitoring", "GET", "/private", "Traceparent: forged\tnonsense")
	denied.expect(t, "403 no_matching_grant")
	for _, id := range []string{r.header.Get(decisionHeader), denied.header.Get(decisionHeader)} {
		eventually(t, "the spans of "+id, func() bool { return spans.has(id) })
	}
	for _, step := range []string{"authorize", "admit", "binding", "target", "caller", "guard", "decide", "leg 3", "no_matching_grant"} {
		assert.True(t, spans.has(step), step)
	}
	token := p.url[strings.LastIndex(p.url, "/")+1:]
	for _, secret := range []string{token, "HIDDEN", "/private", "SECRET"} {
		assert.False(t, spans.has(secret), secret)
	}
	assert.Equal(t, "Bearer SECRET /v1/traces", spans.token)
	assert.Equal(t, 2, spans.count("authorize"), "probes of the self-test are not followed")
}

// Lines of allowed requests can be sampled; denials are all there, and metrics
// count everything.
func TestAllowedLinesAreSampled(t *testing.T) {
	t.Parallel()
	w := start(t, setup{env: []string{"LOG_ALLOWED_SAMPLE=0.000001"}})
	p := w.protect(t, protection{parameters: `{"allow":["cf:app:$frontend"]}`})
	for range 20 {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+p.host+"/", nil)
		require.NoError(t, err)
		res, err := w.client("frontend").Do(request)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, 200, res.StatusCode)
	}
	for range 3 {
		p.call(t, "monitoring", "GET", "/").expect(t, "403 no_matching_grant") // which reads the line
	}
	metrics := w.metrics(t)
	assert.Regexp(t, `mtls_authz_decisions_total\{cache="\w+",mtls_auth="allowed",reason=""\} \d+`, metrics)
	assert.Equal(t, 0, w.count(`"mtls_auth":"allowed"`))
}

// What the guide, the alert rules and the dashboard name, the gateway has.
func TestTheMetricsOfTheGuideAreThere(t *testing.T) {
	t.Parallel()
	w := start(t, setup{env: []string{"REDIS_URL=redis://127.0.0.1:1", "CACHE_SHARED=always"}})
	p := w.protect(t, protection{parameters: `{"allow":["cf:app:$frontend"]}`})
	p.call(t, "frontend", "GET", "/").expect(t, "200 allowed")
	var families []string
	for _, found := range regexp.MustCompile(`# TYPE (mtls_authz_\w+)`).FindAllStringSubmatch(w.metrics(t), -1) {
		families = append(families, found[1])
	}
	names := regexp.MustCompile(`mtls_authz_[a-z_]*[a-z]`)
	for _, file := range []string{"../docs/observability.md", "../docs/observability/alerts.yml", "../docs/observability/dashboard.json", "../docs/cache.md"} {
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, name := range names.FindAllString(string(content), -1) {
			if name == "mtls_authz_cache" || name == "mtls_authz_candidate" { // of a whole family
				continue
			}
			assert.Contains(t, families, strings.TrimSuffix(name, "_bucket"), "%s names it", file)
		}
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	content, err := os.ReadFile("../docs/observability/dashboard.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(content, &dashboard))
	assert.NotEmpty(t, dashboard.Panels)
}

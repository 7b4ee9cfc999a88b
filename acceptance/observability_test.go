package acceptance_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/util"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground"
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

// What the guide, the alert rules and the dashboard name, the gateway has, with
// these labels; and what it has, the guide explains.
func TestTheMetricsOfTheGuideAreThere(t *testing.T) {
	t.Parallel()
	candidate := filepath.Join(t.TempDir(), "candidate")
	require.NoError(t, writeFiles(candidate, bundle))
	server := httptest.NewTLSServer(cloudOf(playground.Frontend))
	t.Cleanup(server.Close)
	env := append(askedBy(server, time.Hour), "REDIS_URL=redis://127.0.0.1:1", "CACHE_SHARED=always", "POLICY_CANDIDATE="+candidate)
	w := start(t, setup{env: env})
	w.addSecrets("secret-of-the-client")
	p := w.protect(t, protection{parameters: `{"allow":["cf:app:$frontend"]}`})
	p.call(t, "frontend", "GET", "/").expect(t, "200 allowed")
	labels := labelsOf(w.metrics(t))

	var guide string
	for _, file := range []string{"../docs/observability.md", "../docs/cache.md"} {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		guide += string(text)
	}
	guide = strings.ReplaceAll(guide, "`_", "`mtls_authz_cache_") // as cache.md shortens them
	var named []string
	for _, name := range regexp.MustCompile(`mtls_authz_[a-z_]*[a-z]`).FindAllString(guide, -1) {
		named = append(named, name)
		if name != "mtls_authz_cache" { // a whole family
			assert.Contains(t, labels, name, "the guide names it")
		}
	}
	for name := range labels {
		if strings.HasPrefix(name, "mtls_authz_") {
			assert.Contains(t, named, name, "the guide says nothing of it")
		}
	}
	for name, expressions := range map[string][]string{"alerts.yml": alertExpressions(t), "dashboard.json": panelExpressions(t)} {
		assert.Greater(t, len(expressions), 15, name)
		for _, expression := range expressions {
			for _, problem := range unknown(expression, labels) {
				t.Errorf("%s: %s in %s", name, problem, expression)
			}
		}
	}
	for _, wrong := range []string{
		"sum by (tier) (mtls_authz_decisions_total)", `mtls_authz_router_trusted{host="x"}`, "max(mtls_authz_no_such_thing)", `rate(process_cpu_seconds_total{job="another"}[5m])`,
		`mtls_authz_policy_last_attempt{result="denied"}`, "max(mtls_authz_state_age_seconds)",
	} {
		assert.NotEmpty(t, unknown(wrong, labels), wrong)
	}
}

// labelsOf are the values of the labels of each family in what /metrics answers,
// by family and label.
func labelsOf(metrics string) map[string]map[string][]string {
	families := map[string]map[string][]string{}
	for _, found := range regexp.MustCompile(`(?m)^# TYPE (\w+) `).FindAllStringSubmatch(metrics, -1) {
		families[found[1]] = map[string][]string{}
	}
	for _, series := range regexp.MustCompile(`(?m)^(\w+)\{(.*)\} `).FindAllStringSubmatch(metrics, -1) {
		for _, label := range regexp.MustCompile(`(\w+)="([^"]*)"`).FindAllStringSubmatch(series[2], -1) {
			if family := families[regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(series[1], "")]; family != nil {
				family[label[1]] = append(family[label[1]], label[2])
			}
		}
	}
	return families
}

var (
	// named is a metric of the gateway, or of its process, with its selector.
	named = regexp.MustCompile(`\b((?:mtls_authz|process|go)_\w+|up)\b(?:\{([^}]*)\})?`)
	// matcher is one of a selector; grouped are the labels that an aggregation keeps.
	matcher = regexp.MustCompile(`(\w+)\s*(=~|!=|!~|=)\s*"([^"]*)"`)
	grouped = regexp.MustCompile(`\bby \(([^)]*)\)`)
	// extremes are aggregations that hide which instance it is.
	extremes = regexp.MustCompile(`\b(?:min|max)(?: by \(([^)]*)\))? ?\(`)
)

// unknown is what an expression of PromQL names that the gateway does not have.
func unknown(expression string, families map[string]map[string][]string) (problems []string) {
	known := map[string]bool{"instance": true, "job": true, "le": true}
	for _, found := range named.FindAllStringSubmatch(expression, -1) {
		family, has := families[strings.TrimSuffix(found[1], "_bucket")]
		if !has && found[1] != "up" {
			problems = append(problems, found[1])
		}
		for label := range family {
			known[label] = true
		}
		for _, m := range matcher.FindAllStringSubmatch(found[2], -1) {
			values := family[m[1]]
			switch {
			case m[1] == "job" && m[3] != "mtls-authz", m[1] != "job" && values == nil:
				problems = append(problems, m[0])
			case m[1] == "result" && !slices.Contains(values, m[3]): // the values are all there from the start
				problems = append(problems, m[0])
			}
		}
	}
	for _, by := range grouped.FindAllStringSubmatch(expression, -1) {
		for label := range strings.SplitSeq(by[1], ",") {
			if !known[strings.TrimSpace(label)] {
				problems = append(problems, "by "+label)
			}
		}
	}
	for _, extreme := range extremes.FindAllStringSubmatch(expression, -1) {
		if extreme[1] == "" {
			problems = append(problems, "which instance is not said")
		}
	}
	return problems
}

func alertExpressions(t *testing.T) (all []string) {
	t.Helper()
	var rules struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	text, err := os.ReadFile("../docs/observability/alerts.yml")
	require.NoError(t, err)
	require.NoError(t, util.Unmarshal(text, &rules))
	for _, group := range rules.Groups {
		for _, rule := range group.Rules {
			all = append(all, rule.Expr)
		}
	}
	return all
}

func panelExpressions(t *testing.T) (all []string) {
	t.Helper()
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	text, err := os.ReadFile("../docs/observability/dashboard.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &dashboard))
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			all = append(all, target.Expr)
		}
	}
	return all
}

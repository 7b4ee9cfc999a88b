package acceptance_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground"
)

const golden = "testdata/decision_lines.golden"

// Log readers rely on names, types and values: one line of each kind, with what
// differs from run to run replaced.
func TestTheDecisionLine(t *testing.T) {
	t.Parallel()
	w := common(t)
	p := w.protect(t, protection{parameters: `{"allow":["cf:app:$frontend"]}`})
	report := w.protect(t, protection{parameters: `{"mode":"report"}`})
	other := w.protect(t, protection{})
	var out strings.Builder
	for _, kind := range []struct {
		name string
		p    *protected
		r    reply
	}{
		{"allowed", p, p.call(t, "frontend", "POST", "/a%20b?not=logged")},
		{"allowed, remembered", p, p.call(t, "frontend", "POST", "/a%20b?not=logged")},
		{"denied", p, p.call(t, "monitoring", "GET", "/")},
		{"denied by scope", p, p.call(t, "intruder", "GET", "/")},
		{"untrusted", p, p.direct(t, leg2{caller: "foreign CA"})},
		{"not enforced", report, report.call(t, "frontend", "GET", "/")},
		{"rejected by the router", p, p.direct(t, leg2{caller: "frontend", signed: "https://" + other.route + "/"})},
		{"malformed", p, p.direct(t, leg2{caller: "frontend", forwarded: "https://x/../"})},
		{"unknown binding", p, p.direct(t, leg2{caller: "frontend", path: "/r/nobody/nothing"})},
	} {
		fmt.Fprintf(&out, "# %s\n%s\n", kind.name, kind.p.normalize(t, kind.r.line))
	}
	if *update {
		require.NoError(t, os.WriteFile(golden, []byte(out.String()), 0o600))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	assert.Equal(t, string(want), out.String(), "run with -update if the contract has changed")
}

var (
	anyUUID  = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	anyKeyID = regexp.MustCompile(`"issuer_key_id": "[0-9a-fA-F:]+"`)
)

// normalize writes a line with names for guids, and types for what differs.
func (p *protected) normalize(t *testing.T, line map[string]any) string {
	t.Helper()
	line = maps.Clone(line)
	delete(line, "raw")
	for _, name := range []string{"decide_us", "duration_us"} {
		assert.IsType(t, 0.0, line[name], name)
		line[name] = "NUMBER"
	}
	line["time"] = "TIME"
	if _, ok := line["detail"]; ok { // for people; its words are no contract
		line["detail"] = "TEXT"
	}
	if revision, _ := line["policy_revision"].(string); revision != "" {
		line["policy_revision"] = "DIGEST"
	}
	var fields []string
	for _, name := range slices.Sorted(maps.Keys(line)) {
		value, err := json.Marshal(line[name])
		require.NoError(t, err)
		fields = append(fields, fmt.Sprintf("  %q: %s", name, value))
	}
	text := strings.Join(fields, "\n")
	for _, app := range []playground.App{playground.Frontend, playground.Monitoring, playground.Intruder} {
		id := app.Identity()
		text = strings.NewReplacer(id.App, "APP "+app.Name, id.Space, "SPACE "+app.Space, id.Org, "ORG "+app.Org, id.Instance, "INSTANCE "+app.Name).Replace(text)
	}
	text = strings.NewReplacer(p.bound.GUID, "BINDING", p.route, "ROUTE").Replace(text)
	text = anyKeyID.ReplaceAllString(text, `"issuer_key_id": "KEYID"`)
	return anyUUID.ReplaceAllString(text, "UUID")
}

func TestAPathInTheLineIsRawAndBounded(t *testing.T) {
	t.Parallel()
	p := common(t).protect(t, protection{parameters: `{"allow":["cf:any"]}`})
	r := p.raw(t, "frontend", "GET /a%2Fb;c//d?secret=query").expect(t, "200 allowed")
	assert.Equal(t, "/a%2Fb;c//d", r.line["path"])
	assert.NotContains(t, r.line["raw"], "secret=query")
	long := "/" + strings.Repeat("a.", 1000)
	r = p.call(t, "frontend", "GET", long).expect(t, "200 allowed")
	assert.Equal(t, long[:1024], r.line["path"])
	assert.Equal(t, long, p.app.last(t).target)
}

func TestTheLineNamesTheRequestIdsOfBothLegs(t *testing.T) {
	t.Parallel()
	p := common(t).protect(t, protection{parameters: `{"allow":["cf:any"]}`})
	r := p.call(t, "frontend", "GET", "/").expect(t, "200 allowed")
	assert.Regexp(t, uuidGrammar, r.line["request_id"])
	assert.Regexp(t, uuidGrammar, r.line["upstream_request_id"])
	assert.NotEqual(t, r.line["request_id"], r.line["upstream_request_id"])
	assert.Equal(t, p.app.last(t).header.Get("X-Vcap-Request-Id"), r.line["upstream_request_id"])
}

package acceptance_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// bundle is an operator's: one check with a reason, one without, two that add a
// header and contradict each other where a label says so, and grants as data.
var bundle = map[string]string{
	"no_cross_org_delete.rego": `package site.check.no_cross_org_delete
import rego.v1
default allow := false
allow if input.request.method != "DELETE"
allow if input.caller.org == input.owner.org
reason := "cross_org_delete" if input.request.path != "/reserved"
reason := "scope" if input.request.path == "/reserved"
`,
	"closed.rego": `package site.check.closed
import rego.v1
default allow := false
allow if not input.route.labels.closed
`,
	"no_cross_org_delete_test.rego": `package site.check.no_cross_org_delete_test
import rego.v1
import data.site.check.no_cross_org_delete as check
test_own if check.allow with input as {"request": {"method": "DELETE"}, "caller": {"org": "a"}, "owner": {"org": "a"}}
test_other if not check.allow with input as {"request": {"method": "DELETE"}, "caller": {"org": "a"}, "owner": {"org": "b"}}
`,
	"tier_a.rego": `package site.check.tier_a
import rego.v1
allow := true
headers := {"X-Mtls-Authz-Policy-Tier": object.get(input.route.labels, "tier", "gold")}
`,
	"tier_b.rego": `package site.check.tier_b
import rego.v1
allow := true
headers := {"X-Mtls-Authz-Policy-Tier": "gold"}
`,
	"data.json": `{"site":{"grants":[{"source":"cf:app:$monitoring","routes":["*.apps.identity"],"methods":["GET"],"paths":["/metrics"],"reason":"platform"}]}}`,
}

func TestAnOperatorsCheckNarrowsWhatGrantsAllow(t *testing.T) {
	t.Parallel()
	p := policed(t).protect(t, protection{plan: "any", parameters: `{"allow":["cf:any"]}`})
	for _, test := range []struct{ caller, method, path, want, policy string }{
		{"frontend", "DELETE", "/x", "200 allowed", "route:cf:any"},
		{"intruder", "GET", "/x", "200 allowed", "route:cf:any"},
		{"intruder", "DELETE", "/x", "403 cross_org_delete", "policy:no_cross_org_delete"},
		// A check cannot speak in the gateway's name.
		{"intruder", "DELETE", "/reserved", "403 policy_denied", "policy:no_cross_org_delete"},
	} {
		r := p.call(t, test.caller, test.method, test.path).expect(t, test.want)
		assert.Equal(t, test.policy, r.line["mtls_policy"])
	}
}

func TestACheckWithoutAReasonIsPolicyDenied(t *testing.T) {
	t.Parallel()
	p := policed(t).protect(t, protection{parameters: `{"allow":["cf:any"],"labels":{"closed":"yes"}}`})
	r := p.call(t, "frontend", "GET", "/").expect(t, "403 policy_denied")
	assert.Equal(t, "policy:closed", r.line["mtls_policy"])
}

func TestACheckIsNoGrant(t *testing.T) {
	t.Parallel()
	p := policed(t).protect(t, protection{parameters: `{"allow":["cf:app:$backend"]}`})
	p.call(t, "frontend", "GET", "/").expect(t, noMatch)
}

func TestAChecksHeadersReachTheApp(t *testing.T) {
	t.Parallel()
	p := policed(t).protect(t, protection{parameters: `{"allow":["cf:any"]}`})
	p.call(t, "frontend", "GET", "/", "X-Mtls-Authz-Policy-Tier: forged").expect(t, "200 allowed")
	assert.Equal(t, []string{"gold"}, p.app.last(t).header["X-Mtls-Authz-Policy-Tier"])
}

func TestTheOperatorsGrantsAllowOnEveryRouteTheyCover(t *testing.T) {
	t.Parallel()
	p := policed(t).protect(t, protection{parameters: `{"allow":["cf:app:$frontend"]}`})
	r := p.call(t, "monitoring", "GET", "/metrics").expect(t, "200 allowed")
	assert.Equal(t, "operator:cf:app:"+names.Replace("$monitoring"), r.line["mtls_policy"])
	p.call(t, "monitoring", "POST", "/metrics").expect(t, noMatch)
	p.call(t, "monitoring", "GET", "/x").expect(t, noMatch)
	r = p.call(t, "frontend", "GET", "/metrics").expect(t, "200 allowed")
	assert.Equal(t, "route:cf:app:"+names.Replace("$frontend"), r.line["mtls_policy"])
}

func TestTheOperatorsGrantsDoNotReachBeyondTheScope(t *testing.T) {
	t.Parallel()
	p := policed(t).protect(t, protection{plan: "space", parameters: `{"allow":["cf:app:$frontend"]}`})
	p.call(t, "monitoring", "GET", "/metrics").expect(t, "403 scope")
}

func TestAnOperatorsGrantMakesARouteWithoutGrantsReachable(t *testing.T) {
	t.Parallel()
	p := policed(t).protect(t, protection{})
	p.call(t, "monitoring", "GET", "/metrics").expect(t, "200 allowed")
	p.call(t, "frontend", "GET", "/metrics").expect(t, noMatch)
}

func TestThePolicyIsNamedByTheDigestOfItsContent(t *testing.T) {
	t.Parallel()
	with := policed(t).protect(t, protection{parameters: `{"allow":["cf:any"]}`}).call(t, "frontend", "GET", "/")
	without := common(t).protect(t, protection{parameters: `{"allow":["cf:any"]}`}).call(t, "frontend", "GET", "/")
	assert.Regexp(t, `^[0-9a-f]{32}$`, with.line["policy_revision"])
	assert.NotEqual(t, with.line["policy_revision"], without.line["policy_revision"])
}

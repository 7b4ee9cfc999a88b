package acceptance_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// The scope in force is the narrowest of plan, instance and binding, and no
// grant reaches beyond it.
func TestTheNarrowestScopeIsInForce(t *testing.T) {
	t.Parallel()
	const yes, no = "200 allowed", "403 scope"
	for _, test := range []struct {
		name, plan, instance, binding string
		frontend, monitoring, other   string
	}{
		{"plan space", "space", "", "", yes, no, no},
		{"plan org", "org", "", "", yes, yes, no},
		{"plan any", "any", "", "", yes, yes, yes},
		{"instance narrows any to space", "any", "space", "", yes, no, no},
		{"instance narrows any to org", "any", "org", "", yes, yes, no},
		{"binding narrows org to space", "org", "", "space", yes, no, no},
		{"binding narrows the instance", "any", "org", "space", yes, no, no},
		{"instance is narrower than the binding", "any", "space", "any", yes, no, no},
		{"as wide as the plan", "org", "org", "org", yes, yes, no},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := protection{plan: test.plan, parameters: `{"allow":["cf:any"]}`}
			if test.instance != "" {
				p.parameters = `{"allow":["cf:any"],"scope":"` + test.instance + `"}`
			}
			if test.binding != "" {
				p.binding = `{"scope":"` + test.binding + `"}`
			}
			made := common(t).protect(t, p)
			made.call(t, "frontend", "GET", "/").expect(t, test.frontend)
			made.call(t, "monitoring", "GET", "/").expect(t, test.monitoring)
			made.call(t, "intruder", "GET", "/").expect(t, test.other)
		})
	}
}

func TestTheLineNamesTheScopeThatRefused(t *testing.T) {
	t.Parallel()
	p := common(t).protect(t, protection{plan: "any", parameters: `{"scope":"space","allow":["cf:app:$intruder"]}`})
	r := p.call(t, "intruder", "GET", "/").expect(t, "403 scope")
	assert.Equal(t, "domain:scope=space", r.line["mtls_policy"])
}

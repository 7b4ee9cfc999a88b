package acceptance_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/mtls-authz/mtls-authz/playground"
)

// Who a grant allows, and what the line says then.
func TestAGrantAllowsItsSourceAndNobodyElse(t *testing.T) {
	t.Parallel()
	w := common(t)
	const refused = "403 no_matching_grant"
	for _, test := range []struct {
		name, grant                             string
		frontend, backend, monitoring, intruder string
	}{
		{"an app", "cf:app:$frontend", "200 allowed", refused, refused, refused},
		{"a space", "cf:space:$shop", "200 allowed", "200 allowed", refused, refused},
		{"an org", "cf:org:$acme", "200 allowed", "200 allowed", "200 allowed", refused},
		{"any caller", "cf:any", "200 allowed", "200 allowed", "200 allowed", "200 allowed"},
		{"an app by a guid that is a space's", "cf:app:$shop", refused, refused, refused, refused},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := w.protect(t, protection{plan: "any", parameters: `{"allow":["` + test.grant + `"]}`})
			for caller, want := range map[string]string{
				"frontend": test.frontend, "backend": test.backend, "monitoring": test.monitoring, "intruder": test.intruder,
			} {
				r := p.call(t, caller, "GET", "/x").expect(t, want)
				if r.problem == nil {
					assert.Equal(t, "route:"+names.Replace(test.grant), r.line["mtls_policy"])
				} else {
					assert.Equal(t, "route:no_matching_grant", r.line["mtls_policy"])
				}
			}
		})
	}
}

func TestARouteWithoutGrantsAllowsNobody(t *testing.T) {
	t.Parallel()
	for name, parameters := range map[string]string{"none given": "", "an empty list": `{"allow":[]}`, "empty parameters": "{}"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := common(t).protect(t, protection{plan: "any", parameters: parameters})
			r := p.call(t, "backend", "GET", "/").expect(t, "403 no_grants")
			assert.Equal(t, "route:no_grants", r.line["mtls_policy"])
		})
	}
}

func TestABindingsGrantsAreAddedToItsInstances(t *testing.T) {
	t.Parallel()
	p := common(t).protect(t, protection{parameters: `{"allow":["cf:app:$frontend"]}`, binding: `{"allow":["cf:app:$monitoring"]}`})
	p.call(t, "frontend", "GET", "/").expect(t, "200 allowed")
	p.call(t, "monitoring", "GET", "/").expect(t, "200 allowed")
	p.call(t, "backend", "GET", "/").expect(t, "403 no_matching_grant")
}

func TestTheFlatFormIsAnAliasOfAllow(t *testing.T) {
	t.Parallel()
	const refused = "403 no_matching_grant"
	for name, test := range map[string]struct{ parameters, frontend, monitoring, intruder string }{
		"mtls_allowed_apps":   {`{"mtls_allowed_apps":"$frontend,$intruder"}`, "200 allowed", refused, "200 allowed"},
		"mtls_allowed_spaces": {`{"mtls_allowed_spaces":"$observability"}`, refused, "200 allowed", refused},
		"mtls_allowed_orgs":   {`{"mtls_allowed_orgs":"$acme"}`, "200 allowed", "200 allowed", refused},
		"several":             {`{"mtls_allowed_apps":"$intruder","mtls_allowed_spaces":"$shop"}`, "200 allowed", refused, "200 allowed"},
		"mtls_allow_any":      {`{"mtls_allow_any":true}`, "200 allowed", "200 allowed", "200 allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := common(t).protect(t, protection{plan: "any", parameters: test.parameters})
			p.call(t, "frontend", "GET", "/").expect(t, test.frontend)
			p.call(t, "monitoring", "GET", "/").expect(t, test.monitoring)
			p.call(t, "intruder", "GET", "/").expect(t, test.intruder)
		})
	}
}

func TestTheAppIsToldWhoCalls(t *testing.T) {
	t.Parallel()
	p := common(t).protect(t, protection{parameters: `{"allow":["cf:any"]}`})
	r := p.call(t, "frontend", "GET", "/").expect(t, "200 allowed")
	got, id := p.app.last(t).header, playground.Frontend.Identity()
	assert.Equal(t, []string{"app=" + id.App + ";space=" + id.Space + ";org=" + id.Org}, got["X-Mtls-Authz-Caller"])
	assert.Equal(t, []string{r.header.Get(decisionHeader)}, got[decisionHeader])
	assert.Equal(t, []string{p.credentials["frontend"].XFCC()}, got[xfccHeader])
	for _, name := range []string{forwardedURLHeader, signatureHeader, metadataHeader} {
		assert.NotContains(t, got, name)
	}
	assert.Equal(t, id.App, r.line["caller_app"])
	assert.Equal(t, id.Instance, r.line["caller_instance"])
}

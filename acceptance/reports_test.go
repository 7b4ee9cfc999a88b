package acceptance_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/mtls-authz/mtls-authz/playground"
)

// Report mode lets pass what would have been refused, and says so.
func TestReportModeLogsTheRefusalAndForwards(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, grants, caller, want string }{
		{"allowed", `"cf:app:$frontend"`, "frontend", "200 allowed"},
		{"no certificate", `"cf:app:$frontend"`, "", "200 not_enforced no_certificate"},
		{"another CA", `"cf:app:$frontend"`, "foreign CA", "200 not_enforced untrusted_certificate"},
		{"two apps", `"cf:app:$frontend"`, "two apps", "200 not_enforced identity_extraction"},
		{"scope", `"cf:app:$frontend"`, "intruder", "200 not_enforced scope"},
		{"no grants", ``, "frontend", "200 not_enforced no_grants"},
		{"no matching grant", `"cf:app:$frontend"`, "monitoring", "200 not_enforced no_matching_grant"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := common(t).protect(t, protection{parameters: `{"mode":"report","allow":[` + test.grants + `]}`})
			r := p.call(t, test.caller, "GET", "/x").expect(t, test.want)
			assert.Equal(t, "report", r.line["mode"])
			assert.Equal(t, "from the app", r.body)
		})
	}
}

func TestReportModeNamesOnlyVerifiedCallersToTheApp(t *testing.T) {
	t.Parallel()
	p := common(t).protect(t, protection{parameters: `{"mode":"report"}`})
	for caller, named := range map[string]bool{"frontend": true, "intruder": true, "": false, "foreign CA": false, "two apps": false} {
		p.call(t, caller, "GET", "/", "X-Mtls-Authz-Caller: app=forged")
		values := p.app.last(t).header["X-Mtls-Authz-Caller"]
		assert.Equal(t, named, len(values) == 1, "%q: %v", caller, values)
		assert.NotContains(t, values, "app=forged")
	}
}

func TestReportModeStillRefusesWhatEndangersTheGateway(t *testing.T) {
	t.Parallel()
	w := common(t)
	p := w.protect(t, protection{parameters: `{"mode":"report","allow":[{"source":"cf:app:$frontend","paths":["/a"],"methods":["GET"]}]}`})
	const malformed = "400 malformed_request"
	p.direct(t, leg2{caller: "frontend", forwarded: "https://" + w.freshHost() + "/"}).expect(t, "403 route_mismatch")
	p.direct(t, leg2{caller: "frontend", path: "/r/" + p.bound.GUID + "/AAAAAAAAAAAAAAAAAAAAAA"}).expect(t, "403 unknown_binding")
	p.direct(t, leg2{caller: "frontend", without: []string{signatureHeader}}).expect(t, malformed)
	p.direct(t, leg2{caller: "frontend", headers: []string{"X-Mtls-Authz-Hop: 1"}}).expect(t, "400 loop")
	p.direct(t, leg2{caller: "gateway"}).expect(t, "400 loop")
	p.raw(t, "frontend", "GET /../b").expect(t, malformed)
	p.raw(t, "frontend", "GET /a%2fb").expect(t, malformed)
	p.direct(t, leg2{caller: "frontend", method: "TRACE"}).expect(t, malformed)
	p.direct(t, leg2{caller: "frontend", headers: []string{"Upgrade: h2c", "Connection: Upgrade"}}).expect(t, malformed)
	p.call(t, "frontend", "GET", "/a", "X-HTTP-Method-Override: DELETE").expect(t, malformed)
}

func TestReportRoutesReportForTheseRoutesOnly(t *testing.T) {
	t.Parallel()
	w := common(t)
	p := w.protect(t, protection{parameters: `{"report_routes":["$route"],"allow":["cf:app:$frontend"]}`})
	p.call(t, "monitoring", "GET", "/").expect(t, "200 not_enforced no_matching_grant")
	other := w.protect(t, protection{parameters: `{"report_routes":["` + p.route + `"],"allow":["cf:app:$frontend"]}`})
	other.call(t, "monitoring", "GET", "/").expect(t, noMatch)
}

func TestEnforcingEndsTheReport(t *testing.T) {
	t.Parallel()
	p := common(t).protect(t, protection{parameters: `{"mode":"report","allow":["cf:app:$frontend"]}`})
	p.call(t, "monitoring", "GET", "/").expect(t, "200 not_enforced no_matching_grant")
	p.update(t, `{"mode":"enforce"}`)
	p.call(t, "monitoring", "GET", "/").expect(t, noMatch)
	p.call(t, "frontend", "GET", "/").expect(t, "200 allowed")
}

// A router that is not proven: the app is reached, but hears of no caller.
func TestReportModeBehindAnUntrustedRouterNamesNobody(t *testing.T) {
	t.Parallel()
	p := forwards(t).protect(t, protection{parameters: `{"mode":"report","allow":["cf:app:$frontend"]}`})
	p.call(t, "frontend", "GET", "/").expect(t, "200 not_enforced router_untrusted")
	assert.NotContains(t, p.app.last(t).header, "X-Mtls-Authz-Caller")
}

func TestTheOperatorMaySwitchReportModeOff(t *testing.T) {
	t.Parallel()
	w := start(t, setup{})
	p := w.protect(t, protection{parameters: `{"mode":"report"}`})
	p.call(t, "frontend", "GET", "/").expect(t, "200 not_enforced no_grants")
	w.restart(t, "REPORT_MODE=deny")
	p.call(t, "frontend", "GET", "/").expect(t, "403 no_grants")
	_, err := w.CreateService(t.Context(), "another", "org", playground.Backend, `{"mode":"report"}`)
	assert.ErrorContains(t, err, "report mode")
}

package controller_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground/controller"
)

const (
	ok       = controller.Succeeded
	running  = controller.InProgress
	rejected = controller.Rejected
	unauth   = controller.Unauthenticated
	conflict = controller.Conflict
	typed    = controller.Typed
	failed   = controller.Failed
	orphaned = controller.Orphaned
)

// The table of what Cloud Controller makes of an answer.
func TestOutcomes(t *testing.T) {
	columns := []struct {
		name string
		call call
	}{{"provision", create}, {"bind", bind}, {"update", update}, {"unbind", unbind}, {"deprovision", remove}, {"fetch", fetch}}
	for _, row := range []struct {
		status int
		body   string
		want   [6]controller.Outcome
	}{
		//                               provision  bind      update    unbind    deprov.   fetch
		{200, `{}`, [6]controller.Outcome{ok, ok, ok, ok, ok, ok}},
		{200, ``, [6]controller.Outcome{failed, failed, failed, failed, failed, failed}},
		{200, `[]`, [6]controller.Outcome{failed, failed, failed, failed, failed, failed}},
		{200, `null`, [6]controller.Outcome{failed, failed, failed, failed, failed, failed}},
		{201, `{}`, [6]controller.Outcome{ok, ok, failed, failed, failed, failed}},
		{201, `x`, [6]controller.Outcome{orphaned, orphaned, failed, failed, failed, failed}},
		{202, `{}`, [6]controller.Outcome{running, running, running, running, running, failed}},
		{202, `{"operation":"o"}`, [6]controller.Outcome{running, running, running, running, running, failed}},
		{202, `{"operation":null}`, [6]controller.Outcome{orphaned, orphaned, failed, failed, failed, failed}},
		{204, ``, [6]controller.Outcome{orphaned, orphaned, failed, failed, failed, failed}},
		{302, `{}`, [6]controller.Outcome{orphaned, orphaned, failed, failed, failed, failed}},
		{400, `{}`, [6]controller.Outcome{rejected, rejected, rejected, rejected, rejected, rejected}},
		{401, `{}`, [6]controller.Outcome{unauth, unauth, unauth, unauth, unauth, unauth}},
		{403, `{}`, [6]controller.Outcome{rejected, rejected, rejected, rejected, rejected, rejected}},
		{404, `{}`, [6]controller.Outcome{rejected, rejected, rejected, rejected, rejected, rejected}},
		{408, `{}`, [6]controller.Outcome{failed, failed, failed, failed, failed, failed}},
		{409, `{}`, [6]controller.Outcome{conflict, conflict, failed, failed, failed, failed}},
		{410, `x`, [6]controller.Outcome{orphaned, orphaned, failed, ok, ok, failed}},
		{412, `{}`, [6]controller.Outcome{rejected, rejected, rejected, rejected, rejected, rejected}},
		{422, `{"error":"AsyncRequired"}`, [6]controller.Outcome{typed, typed, typed, typed, typed, failed}},
		{422, `{"error":"ConcurrencyError"}`, [6]controller.Outcome{typed, typed, rejected, typed, typed, failed}},
		{422, `{"error":"RequiresApp"}`, [6]controller.Outcome{orphaned, typed, rejected, failed, failed, failed}},
		{422, `{"error":"MaintenanceInfoConflict"}`, [6]controller.Outcome{typed, orphaned, typed, failed, failed, failed}},
		{422, `{"description":"bad parameters"}`, [6]controller.Outcome{orphaned, orphaned, rejected, failed, failed, failed}},
		{500, `{}`, [6]controller.Outcome{orphaned, orphaned, failed, failed, failed, failed}},
		{503, `{}`, [6]controller.Outcome{orphaned, orphaned, failed, failed, failed, failed}},
	} {
		for i, column := range columns {
			t.Run(fmt.Sprintf("%d %s on %s", row.status, row.body, column.name), func(t *testing.T) {
				answer, err := column.call((&broker{status: row.status, body: row.body}).client())
				require.NoError(t, err)
				assert.Equal(t, row.want[i], answer.Outcome())
			})
		}
	}
}

func TestCatalogNeedsAnObject(t *testing.T) {
	for body, want := range map[string]controller.Outcome{`{"services":[]}`: ok, `[]`: failed, ``: failed} {
		answer, err := catalog((&broker{status: 200, body: body}).client())
		require.NoError(t, err)
		assert.Equal(t, want, answer.Outcome(), body)
	}
}

func TestMembersOfASuccess(t *testing.T) {
	long := strings.Repeat("o", 10001)
	for _, test := range []struct {
		name   string
		call   call
		status int
		body   string
		want   controller.Outcome
	}{
		{"bind without a URL is accepted, and leaves the route open", bind, 201, `{}`, ok},
		{"bind with null", bind, 201, `{"route_service_url":null}`, ok},
		{"bind with an https URL", bind, 201, `{"route_service_url":"https://gateway.example:8443/r/1?x"}`, ok},
		{"bind with an http URL", bind, 201, `{"route_service_url":"http://gateway.example"}`, orphaned},
		{"bind with an http URL, repeated", bind, 200, `{"route_service_url":"http://gateway.example"}`, orphaned},
		{"bind without a host", bind, 201, `{"route_service_url":"https:///r"}`, orphaned},
		{"bind with an empty first label", bind, 201, `{"route_service_url":"https://.example"}`, orphaned},
		{"bind with no URL at all", bind, 201, `{"route_service_url":7}`, orphaned},
		{"bind with credentials null", bind, 201, `{"credentials":null}`, ok},
		{"bind with credentials that are no object", bind, 201, `{"credentials":"x"}`, orphaned},
		{"bind for a log drain we do not require", bind, 201, `{"syslog_drain_url":"syslog://x"}`, orphaned},
		{"bind with volumes we do not require", bind, 201, `{"volume_mounts":[]}`, orphaned},
		{"bind with both null", bind, 201, `{"syslog_drain_url":null,"volume_mounts":null}`, ok},
		{"provision with a dashboard", create, 201, `{"dashboard_url":"https://x"}`, ok},
		{"provision with dashboard null", create, 201, `{"dashboard_url":null}`, ok},
		{"provision with a dashboard that is no text", create, 201, `{"dashboard_url":1}`, orphaned},
		{"fetch with parameters", fetchBinding, 200, `{"parameters":{}}`, ok},
		{"fetch with parameters null", fetchBinding, 200, `{"parameters":null}`, failed},
		{"fetch with a URL that is no text", fetchBinding, 200, `{"route_service_url":null}`, failed},
		{"fetch with a plan that is no text", fetch, 200, `{"plan_id":1}`, failed},
		{"operation of 10,000 characters at most", create, 202, `{"operation":"` + long + `"}`, orphaned},
	} {
		t.Run(test.name, func(t *testing.T) {
			answer, err := test.call((&broker{status: test.status, body: test.body}).client())
			require.NoError(t, err)
			assert.Equal(t, test.want, answer.Outcome())
		})
	}
}

// What says neither yes nor no is asked again.
func TestOutcomesOfPolling(t *testing.T) {
	for _, test := range []struct {
		status           int
		body             string
		creates, deletes controller.Outcome
	}{
		{200, `{"state":"succeeded"}`, ok, ok},
		{200, `{"state":"failed","description":"x"}`, failed, failed},
		{200, `{"state":"in progress"}`, running, running},
		{200, `{"state":"rubbish"}`, running, running},
		{200, `{}`, running, running},
		{200, ``, running, running},
		{201, `{"state":"succeeded"}`, running, running},
		{400, `{"description":"x"}`, failed, failed},
		{401, `{}`, running, running},
		{404, `{}`, running, running},
		{410, `{}`, running, ok},
		{422, `{}`, running, running},
		{500, `{}`, running, running},
	} {
		for deleting, want := range map[bool]controller.Outcome{false: test.creates, true: test.deletes} {
			for name, call := range map[string]call{"instance": pollWith(controller.Poll{Deleting: deleting}), "binding": pollBindingWith(controller.Poll{Deleting: deleting})} {
				answer, err := call((&broker{status: test.status, body: test.body}).client())
				require.NoError(t, err)
				assert.Equal(t, want, answer.Outcome(), "%s, %d %s, deleting %v", name, test.status, test.body, deleting)
			}
		}
	}
}

package broker_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/playground/controller"
)

// Where nobody looks names up, a source by name would never allow anybody: the
// developer hears it, and how to go on.
func TestNamesNeedADirectory(t *testing.T) {
	b := newTestbed(t)
	s, r := service(grants.ScopeOrg), routeOf(service(grants.ScopeOrg), bindingA, "r.example")
	const labelled = `{"source":"apps","space":"monitoring","labels":"team=payments"}`
	b.created()(b.CreateService(ctx, s, raw(`{"allow":["`+app1+`","org:."]}`)))
	b.created()(b.BindRoute(ctx, r, nil))
	for _, entry := range []string{`"app:frontend"`, `"app:shop/frontend"`, `"space:monitoring"`, labelled} {
		b.refusesUpdate(s, `{"allow_add":[`+entry+`]}`, "allow[2]", "CF_CLIENT_ID", "cf:app:<guid>")
	}
	b.cfg.Names = true
	b.restart()
	b.ok()(b.UpdateService(ctx, s, controller.Change{Parameters: raw(`{"allow_add":["app:frontend",` + labelled + `]}`)}))
	is := b.statusOf(s)
	require.Contains(t, is.Warnings, "app:frontend was not looked up yet and allows nobody")
	require.Equal(t, `{"origin":"instance","grant":"org:.","stands_for":"cf:org:`+home.OrgGUID+`"}`, string(is.Routes[0].Grants[1]))
	b.cfg.Names = false
	b.restart()
	// What is there may stay, or nobody could take a grant back.
	b.ok()(b.UpdateService(ctx, s, controller.Change{Parameters: raw(`{"allow_remove":[` + labelled + `]}`)}))
	b.refusesUpdate(s, `{"allow_add":[`+labelled+`]}`, "CF_CLIENT_ID")
}

func (b *testbed) refusesUpdate(s controller.Service, patch string, says ...string) {
	b.t.Helper()
	answer := b.rejected()(b.UpdateService(ctx, s, controller.Change{Parameters: raw(patch)}))
	for _, say := range says {
		require.Contains(b.t, answer.Description(), say)
	}
}

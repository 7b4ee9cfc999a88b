package acceptance_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground/controller"
)

// ponderous is a bundle that takes its time over one path, so that something can
// happen meanwhile.
const ponderous = `package site.check.ponderous
import rego.v1
default allow := false
allow if input.request.path != "/ponder"
allow if count([i | some i in data.site.many; some j in data.site.many; i == j]) == count(data.site.many)
`

// A route that is unbound while a request to it is decided: the router does not
// take the signature off any more, and the app would get it.
func TestAttack04UnbindBetweenDecisionAndDial(t *testing.T) {
	t.Parallel()
	many := make([]int, 1000)
	for i := range many {
		many[i] = i
	}
	data, err := json.Marshal(map[string]any{"site": map[string]any{"many": many}})
	require.NoError(t, err)
	w := start(t, setup{bundle: map[string]string{"ponderous.rego": ponderous, "data.json": string(data)}})
	require.NoError(t, until("an unbind while a request is decided", func() error {
		p := w.protect(t, protection{parameters: `{"allow":["cf:app:$frontend"]}`})
		conn, line := p.sendDirect(t, leg2{caller: "frontend", forwarded: "https://" + p.route + "/ponder"})
		for looks := 0; w.metric(t, "mtls_authz_requests_in_flight") == "0"; looks++ {
			if looks == 50 {
				return fmt.Errorf("it was over before anybody looked: %s", p.read(t, readResponse(t, conn, line)).outcome())
			}
		}
		// The broker's answer is what counts; the router hears of it later.
		answer, err := w.Controller.UnbindRoute(t.Context(), p.bound)
		require.NoError(t, err)
		require.Equal(t, controller.Succeeded, answer.Outcome())
		r := p.read(t, readResponse(t, conn, line))
		detail, _ := r.line["detail"].(string)
		if strings.Contains(detail, "unbound meanwhile") {
			r.expect(t, "403 unknown_binding")
			assert.Zero(t, p.app.count())
			assert.Equal(t, "miss", r.line["cache"], "it was decided")
			return nil
		}
		return fmt.Errorf("it was too early or too late: %s, %s", r.outcome(), detail)
	}))
}

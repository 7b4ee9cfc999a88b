package acceptance_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/mtls-authz/mtls-authz/playground/controller"
	"github.com/mtls-authz/mtls-authz/playground/controller/faults"
)

// The answer to a revocation was lost; the user repeats it, and another gateway
// finds nothing to do. Its answer too means that the revocation is in force.
func TestARepeatedUpdateIsInForceWhereItIsAnswered(t *testing.T) {
	t.Parallel()
	c := databases["PostgreSQL"].get(t)
	first, second := c.at(t, 0), c.at(t, 1)
	late := 0
	for range 15 {
		s := first.created(onlyFrontend)
		b := first.bound(s, "")
		second.reachesNow(b, allowed, noMatch)
		revoke := controller.Change{Parameters: given(onlyMonitoring)}
		first.network.Next(faults.LoseAnswer)
		_, _ = first.UpdateService(t.Context(), s, revoke)
		second.is(200)(second.UpdateService(t.Context(), s, revoke))
		if second.who(1, b) != [2]string{noMatch, allowed} {
			late++
		}
	}
	assert.Zero(t, late, "of 15 times the caller that was shut out passed after the answer 200")
}

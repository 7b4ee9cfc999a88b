package acceptance_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestUnusualMethodsPass(t *testing.T) {
	t.Parallel()
	p := common(t).protect(t, protection{parameters: `{"allow":["cf:any"]}`})
	for _, method := range []string{"PROPFIND", "PURGE", "REPORT", "M-SEARCH", "QUERY", "PATCH", "OPTIONS", "HEAD", "VERSION-CONTROL", "X_CUSTOM"} {
		p.call(t, "frontend", method, "/x").expect(t, "200 allowed")
		assert.Equal(t, method, p.app.last(t).method)
	}
}

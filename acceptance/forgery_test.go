package acceptance_test

import (
	"testing"
)

func (w *world) forged() string { return xfccHeader + ": " + w.credentials["frontend"].XFCC() }

func TestAnOperatorsWordReplacesTheSelfTest(t *testing.T) {
	t.Parallel()
	w := limited(t)
	// A route each: these have room for one request, which may still be ending
	// when its answer has come.
	route := func() *protected {
		return w.protect(t, protection{plan: "any", parameters: `{"allow":["cf:app:$frontend"]}`})
	}
	route().call(t, "frontend", "GET", "/").expect(t, "200 allowed")
	route().call(t, "intruder", "GET", "/", w.forged()).expect(t, noMatch)
	route().call(t, "", "GET", "/", w.forged()).expect(t, "403 no_certificate")
}

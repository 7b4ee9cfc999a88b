package acceptance_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

const noMatch = "403 no_matching_grant"

func TestMethodsAreExactAndGetDoesNotImplyHead(t *testing.T) {
	t.Parallel()
	p := common(t).protect(t, protection{parameters: `{"allow":[{"source":"cf:app:$frontend","methods":["GET","PROPFIND"]}]}`})
	for method, want := range map[string]string{
		"GET": "200 allowed", "PROPFIND": "200 allowed", "HEAD": noMatch, "POST": noMatch, "DELETE": noMatch, "OPTIONS": noMatch,
	} {
		p.call(t, "frontend", method, "/").expect(t, want)
	}
}

func TestPathsMatchTheWholePathAsTheAppSeesIt(t *testing.T) {
	t.Parallel()
	p := common(t).protect(t, protection{parameters: `{"allow":[{"source":"cf:app:$frontend","paths":["/metrics","/api/**","/users/*/name","/caf\u00e9"]}]}`})
	for _, test := range []struct{ path, want string }{
		{"/metrics", "200 allowed"},
		{"/metrics/", "200 allowed"},
		{"/metrics?x=/api/y", "200 allowed"},
		{"/m%65trics", "200 allowed"},
		{"/api", "200 allowed"},
		{"/api/", "200 allowed"},
		{"/api/a/b/c", "200 allowed"},
		{"/caf%C3%A9", "200 allowed"},
		{"/users/42/name", "200 allowed"},
		{"/users/a%20b/name", "200 allowed"},
		{"/", noMatch},
		{"/Metrics", noMatch},
		{"/metrics/x", noMatch},
		{"/metricsx", noMatch},
		{"/apix", noMatch},
		{"/users/name", noMatch},
		{"/users/42/43/name", noMatch},
		{"/x?/metrics", noMatch},
	} {
		r := p.raw(t, "frontend", "GET "+test.path)
		if !assert.Equal(t, test.want, r.outcome(), test.path) {
			t.Log(r.body)
		}
	}
}

func TestRoutesNarrowAGrantToSomeOfTheRoutes(t *testing.T) {
	t.Parallel()
	w := common(t)
	parameters := `{"allow":[{"source":"cf:app:$frontend","routes":["$route"]},"cf:app:$monitoring"]}`
	p := w.protect(t, protection{parameters: parameters})
	p.call(t, "frontend", "GET", "/").expect(t, "200 allowed")
	other := w.protect(t, protection{parameters: `{"allow":[{"source":"cf:app:$frontend","routes":["` + p.route + `"]},"cf:app:$monitoring"]}`})
	other.call(t, "frontend", "GET", "/").expect(t, noMatch)
	other.call(t, "monitoring", "GET", "/").expect(t, "200 allowed")
}

// The grant ends while the gateway runs: nobody touches anything in between.
func TestAGrantEndsWhenItExpires(t *testing.T) {
	t.Parallel()
	expires := time.Now().Add(4 * time.Second)
	p := common(t).protect(t, protection{parameters: fmt.Sprintf(
		`{"allow":[{"source":"cf:app:$frontend","expires":%q},"cf:app:$monitoring"]}`, expires.UTC().Format(time.RFC3339Nano))})
	if r := p.call(t, "frontend", "GET", "/"); time.Now().Before(expires) {
		r.expect(t, "200 allowed")
	}
	time.Sleep(time.Until(expires))
	p.call(t, "frontend", "GET", "/").expect(t, noMatch)
	p.call(t, "monitoring", "GET", "/").expect(t, "200 allowed")
}

func TestTheLastGrantsExpiryLeavesNoGrants(t *testing.T) {
	t.Parallel()
	expires := time.Now().Add(4 * time.Second)
	p := common(t).protect(t, protection{parameters: fmt.Sprintf(
		`{"allow":[{"source":"cf:app:$frontend","expires":%q}]}`, expires.UTC().Format(time.RFC3339Nano))})
	time.Sleep(time.Until(expires))
	p.call(t, "frontend", "GET", "/").expect(t, "403 no_grants")
}

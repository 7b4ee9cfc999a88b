package acceptance_test

import (
	"context"
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// gorouter's refusal of a HEAD has no body to know it by.
func TestARefusalByTheRouterIsSeenWhateverTheMethod(t *testing.T) {
	t.Parallel()
	w := common(t)
	p := w.protect(t, protection{parameters: `{"allow":["cf:any"]}`})
	own := w.protect(t, protection{})
	for _, method := range []string{"GET", "HEAD", "POST", "OPTIONS", "PROPFIND"} {
		r := p.direct(t, leg2{caller: "frontend", method: method, signed: "https://" + own.route + "/"})
		assert.Equal(t, "denied", r.line["mtls_auth"], method)
		assert.Equal(t, "router_rejected", r.line["mtls_denied_reason"], method)
		assert.Equal(t, true, r.line["router_rejected"], method)
	}
	assert.Zero(t, p.app.count())
}

// An app whose answers look like the router's refuses only itself; the line has
// its request id, which the router's refusals lack.
func TestAnAppThatImitatesTheRoutersRefusalIsSeen(t *testing.T) {
	t.Parallel()
	p := common(t).protect(t, protection{parameters: `{"allow":["cf:any"]}`, handler: func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadGateway)
		_, _ = io.WriteString(w, "502 Bad Gateway: Failed to validate Route Service Signature: imitated\n")
	}})
	r := p.call(t, "frontend", "GET", "/").expect(t, "502 router_rejected")
	assert.NotEmpty(t, r.line["upstream_request_id"])
}

// The beginning of an error's body passes before the rest is there.
func TestErrorsOfTheAppPassUnbuffered(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	p := common(t).protect(t, protection{parameters: `{"allow":["cf:any"]}`, handler: func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadGateway)
		_, _ = io.WriteString(w, "short")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}})
	ctx, cancel := context.WithTimeout(t.Context(), patience/4)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+p.host+"/", nil)
	require.NoError(t, err)
	res, err := p.client("frontend").Do(request)
	require.NoError(t, err, "the answer was held back")
	close(release)
	assert.Equal(t, "short", p.read(t, res).expect(t, "502 allowed").body)
}

// An app that is down, or closes the connection, is not the caller's fault, and
// the answer has nothing of the router's.
func TestAnUnreachableAppIsTold(t *testing.T) {
	t.Parallel()
	p := common(t).protect(t, protection{parameters: `{"allow":["cf:any"]}`, handler: func(http.ResponseWriter, *http.Request) {
		panic(http.ErrAbortHandler)
	}})
	r := p.call(t, "frontend", "POST", "/").expect(t, "502 upstream_unreachable")
	assert.Empty(t, r.header.Get("X-Cf-Routererror"))
}

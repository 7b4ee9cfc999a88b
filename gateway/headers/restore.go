package headers

import (
	"net/http"

	"github.com/mtls-authz/mtls-authz/identity"
)

// restored are headers that ReverseProxy takes off and the app must get as they
// came; hop-by-hop rules of the client must not take them off either.
var restored = []string{
	"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto",
	identity.Header, ForwardedURL, Signature, Metadata,
}

// Restore puts back into a request on its way what a proxy takes off and the
// app must get.
func Restore(out, in http.Header) {
	for _, name := range restored {
		if values, ok := in[name]; ok {
			out[name] = values
		}
	}
}

// OfAnswer makes the headers of an answer the gateway's own where they must be.
func OfAnswer(h http.Header, decisionID string) {
	DeleteForged(h)
	DeleteSecrets(h)
	if announced := h["Trailer"]; len(announced) > 0 {
		h["Trailer"] = AllowedNames(announced)
	}
	h[Decision] = []string{decisionID}
}

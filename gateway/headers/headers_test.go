package headers_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/mtls-authz/mtls-authz/gateway/headers"
	"github.com/mtls-authz/mtls-authz/identity"
)

func TestForgedNamesAreDeletedHoweverTheyAreSpelled(t *testing.T) {
	kept := []string{headers.ForwardedURL, headers.Signature, headers.Metadata, identity.Header, "X-Forwarded-For", "X-Mtls", "Mtls-Authz-Caller", "X-Cf-App-Instance"}
	forged := []string{
		"X-Mtls-Authz-Caller", "X-Mtls-Authz-Decision", "X-Mtls-Authz-Assertion", "X-Mtls-Authz-Hop", "X-Mtls-Authz-Policy-Tier", "X-Mtls-Authz-",
		"X_Mtls_Authz_Caller", "x_mtls_authz_caller", "X-Mtls_authz-Caller", "X-MTLS-AUTHZ-CALLER",
		"X_Forwarded_Client_Cert", "X-Forwarded_client-Cert", "X_forwarded_client_cert", "x-forwarded-client-cert", "X-FORWARDED-CLIENT-CERT",
		"X.Mtls.Authz.Caller", "x~mtls|authz.caller", "X-Mtls-Authz.Hop", "X.Forwarded.Client.Cert", "X!Cf*Proxy+Signature",
		"X_Cf_Forwarded_Url", "X_cf_proxy_signature", "X-Cf_Proxy-Metadata", "X-CF-Forwarded-Url",
	}
	h := http.Header{}
	for _, name := range append(append([]string{}, kept...), forged...) {
		h[name] = []string{"v"}
	}
	headers.DeleteForged(h)
	for _, name := range kept {
		assert.Contains(t, h, name)
	}
	assert.Len(t, h, len(kept))
}

func TestRoutersHeadersAreNoTrailers(t *testing.T) {
	for _, name := range []string{headers.ForwardedURL, headers.Signature, headers.Metadata, identity.Header, "X-Mtls-Authz-Caller", "X_Cf_Proxy_Signature"} {
		assert.True(t, headers.IsForgedTrailer(name), name)
	}
	assert.False(t, headers.IsForgedTrailer("Grpc-Status"))
}

func TestSecretsAreDeletedFromAnswers(t *testing.T) {
	h := http.Header{headers.Signature: {"s"}, headers.Metadata: {"m"}, headers.ForwardedURL: {"u"}, "Etag": {"e"}}
	headers.DeleteSecrets(h)
	assert.Equal(t, http.Header{"Etag": {"e"}}, h)
}

func TestAnnouncedTrailersAreFiltered(t *testing.T) {
	assert.Equal(t, []string{"Grpc-Status", "expires"}, headers.AllowedNames([]string{"Grpc-Status, x-mtls-authz-decision", "X_Mtls_Authz_Caller,expires"}))
	assert.Empty(t, headers.AllowedNames([]string{"X-Cf-Proxy-Signature"}), "the router's headers are no trailers")
	h := http.Header{
		"Grpc-Status": {"0"}, "X-Mtls-Authz-Caller": {"forged"}, http.TrailerPrefix + "X-Mtls-Authz-Caller": {"forged"}, http.TrailerPrefix + "Ok": {"1"},
		http.TrailerPrefix + headers.Metadata: {"secret"},
	}
	headers.DeleteForgedTrailers(h)
	assert.Equal(t, http.Header{"Grpc-Status": {"0"}, http.TrailerPrefix + "Ok": {"1"}}, h)
}

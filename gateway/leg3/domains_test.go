package leg3_test

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/gateway/leg3"
	"github.com/mtls-authz/mtls-authz/playground/ca"
	"github.com/mtls-authz/mtls-authz/playground/router"
)

// The playground's router, one of whose domains demands certificates of clients.
func TestADomainThatDemandsACertificate(t *testing.T) {
	const strict, lax = "a.iso.identity", "backend.apps.identity"
	root, err := ca.NewRoot("routerCA")
	require.NoError(t, err)
	clients, err := ca.NewRoot("instanceIdentityCA")
	require.NoError(t, err)
	server, err := root.Server("*.iso.identity", "*.apps.identity")
	require.NoError(t, err)
	roots, clientCAs := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root.Certificate())
	clientCAs.AddCert(clients.Certificate())
	made, err := router.New(router.Config{
		Certificate: server.TLS(), ClientCAs: clientCAs, Domains: []router.Domain{{Pattern: "*.iso.identity", RequireCertificate: true}},
	})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, made.Close()) })
	app := httptest.NewServer(http.HandlerFunc(fine))
	t.Cleanup(app.Close)
	for _, host := range []string{strict, lax} {
		require.NoError(t, made.Register(host, app.URL))
	}
	cfg := leg3.Config{Address: func(string) string { return made.Addr() }, Roots: roots, HeaderTimeout: time.Minute}

	t.Run("gets the gateway's", func(t *testing.T) {
		own, err := clients.Instance(ca.Identity{App: "a", Space: "b", Org: "c", Instance: "i"})
		require.NoError(t, err)
		pair := own.TLS()
		cfg := cfg
		cfg.Certificate = func() *tls.Certificate { return &pair }
		r := leg3.New(cfg)
		t.Cleanup(r.CloseIdle)
		for _, host := range []string{strict, lax, strict, lax} {
			status, err := read(t, r, "GET", "https://"+host+"/", "")
			require.NoError(t, err)
			assert.Equal(t, http.StatusOK, status)
		}
	})

	t.Run("is not reached without one", func(t *testing.T) {
		_, err := read(t, leg3.New(cfg), "GET", "https://"+strict+"/", "")
		require.Error(t, err)
		status, err := read(t, leg3.New(cfg), "GET", "https://"+lax+"/", "")
		require.NoError(t, err)
		assert.Equal(t, http.StatusOK, status)
	})

	t.Run("nor by another's connection", func(t *testing.T) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+lax+"/", nil)
		require.NoError(t, err)
		request.Host = strict
		_, err = leg3.New(cfg).RoundTrip(request)
		require.ErrorIs(t, err, leg3.ErrMisdirected)
	})
}

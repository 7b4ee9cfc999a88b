package certificates_test

import (
	"context"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/doctor"
	"github.com/mtls-authz/mtls-authz/doctor/certificates"
	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/playground"
	"github.com/mtls-authz/mtls-authz/playground/ca"
)

// world is a foundation's CA, another one, and the gateway's credential.
type world struct {
	*testing.T
	issuer, another *ca.Authority
	own             *ca.Credential
}

func newWorld(t *testing.T) *world {
	w := &world{T: t}
	root, err := ca.NewRoot("appRootCA")
	require.NoError(t, err)
	w.issuer, err = root.Intermediate("instanceIdentityCA")
	require.NoError(t, err)
	w.another, err = ca.NewRoot("another CA")
	require.NoError(t, err)
	w.own = w.credential()
	return w
}

func (w *world) credential(options ...ca.Option) *ca.Credential {
	own, err := w.issuer.Instance(playground.Authz.Identity(), options...)
	require.NoError(w, err)
	return own
}

// config is for a credential, whose PEM the settings hold.
func config(own *ca.Credential) certificates.Config {
	return certificates.Config{Certificate: identity.File(own.CertPEM()), Key: identity.File(own.KeyPEM()), Foundation: "local"}
}

func (w *world) look(cfg certificates.Config, item string) []doctor.Finding {
	w.Helper()
	for _, c := range certificates.Checks(cfg) {
		if c.Item == item {
			return doctor.Run(w.Context(), []doctor.Check{c}, nil, nil).Findings
		}
	}
	w.Fatalf("no item %q", item)
	return nil
}

func (w *world) is(found []doctor.Finding, status, text string) {
	w.Helper()
	require.Len(w, found, 1)
	assert.Equal(w, status, found[0].Status.String(), found[0].Found)
	assert.Contains(w, found[0].Found+" | "+found[0].Fix, text)
	assert.NotContains(w, found[0].Found, "PRIVATE KEY")
	assert.NotContains(w, found[0].Found, "BEGIN")
}

func in(d time.Duration) func() time.Time { return func() time.Time { return time.Now().Add(d) } }

func TestTheOwnCertificate(t *testing.T) {
	w := newWorld(t)
	w.is(w.look(config(w.own), "own certificate"), "ok", "verified as app "+playground.Authz.Identity().App)
	w.is(w.look(certificates.Config{}, "own certificate"), "skipped", "cf run-task")

	expired := config(w.own)
	expired.Now = in(25 * time.Hour)
	w.is(w.look(expired, "own certificate"), "fail", "expired")
	expired.Now = in(24*time.Hour - 10*time.Minute)
	w.is(w.look(expired, "own certificate"), "warn", "nobody has renewed it")

	swapped := config(w.own)
	swapped.Key = identity.File(w.credential().KeyPEM())
	w.is(w.look(swapped, "own certificate"), "fail", "no pair")
	missing := config(w.own)
	missing.Certificate = "/nowhere/instance.crt"
	w.is(w.look(missing, "own certificate"), "fail", "/nowhere/instance.crt")

	foreign := config(w.own)
	foreign.CallerCAs = []identity.File{identity.File(w.another.PEM())}
	w.is(w.look(foreign, "own certificate"), "fail", "CALLER_CA_FILES")
	foreign.CallerCAs = append(foreign.CallerCAs, identity.File(w.issuer.PEM()))
	w.is(w.look(foreign, "own certificate"), "ok", "verified")

	strange := config(w.credential(ca.OUs("app:x")))
	w.is(w.look(strange, "own certificate"), "fail", "would be refused")
}

func TestCallerCAs(t *testing.T) {
	w := newWorld(t)
	w.is(w.look(config(w.own), "caller CAs"), "ok", "CN=instanceIdentityCA")
	w.is(w.look(certificates.Config{CallerCAs: []identity.File{"/nowhere.pem"}}, "caller CAs"), "fail", "/nowhere.pem")
	w.is(w.look(certificates.Config{CallerCAs: []identity.File{identity.File(w.own.Leaf().Raw)}}, "caller CAs"), "fail", "CALLER_CA_FILES")

	one := certificates.Config{CallerCAs: []identity.File{identity.File(w.issuer.PEM())}, Foundation: "local"}
	one.Now = func() time.Time { return w.issuer.Certificate().NotAfter.Add(-time.Hour) }
	w.is(w.look(one, "caller CAs"), "warn", "ends soon")
	one.Now = func() time.Time { return w.issuer.Certificate().NotAfter.Add(time.Hour) }
	w.is(w.look(one, "caller CAs"), "fail", "has ended")
	one.Now = func() time.Time { return w.issuer.Certificate().NotBefore.Add(-time.Hour) }
	w.is(w.look(one, "caller CAs"), "fail", "has not begun")
	chain := certificates.Config{CallerCAs: []identity.File{identity.File(w.own.CertPEM())}}
	found := w.look(chain, "caller CAs")
	require.Len(t, found, 2)
	assert.Equal(t, []string{"fail", "ok"}, []string{found[0].Status.String(), found[1].Status.String()}, "a leaf is no CA")
}

func TestCAsThatOtherInstancesHaveFound(t *testing.T) {
	w := newWorld(t)
	cfg := config(w.own)
	cfg.Siblings = func(context.Context) ([]*x509.Certificate, error) {
		return []*x509.Certificate{w.issuer.Certificate(), w.another.Certificate(), w.another.Certificate()}, nil
	}
	found := w.look(cfg, "caller CAs")
	require.Len(t, found, 2, "each once")
	assert.Equal(t, "other instances", found[1].About)
	assert.Contains(t, found[1].Found, "another CA")

	cfg.Siblings = func(context.Context) ([]*x509.Certificate, error) { return nil, errors.New("the database is away") }
	found = w.look(cfg, "caller CAs")
	require.Len(t, found, 2)
	assert.Equal(t, []string{"ok", "skipped"}, []string{found[0].Status.String(), found[1].Status.String()})
	w.is(w.look(cfg, "own certificate"), "skipped", "the database is away")
}

package acceptance_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground"
	"github.com/mtls-authz/mtls-authz/playground/ca"
)

// rotation is a foundation whose instance identity CA is being replaced, and two
// gateways that no file tells whom to believe.
type rotation struct {
	*cloud
	b         bound
	database  string
	old, next *ca.Authority
}

// Callers of the CAs.
const (
	ofOld, ofNext, ofEvil = "frontend", "frontend of the new CA", "frontend of an evil CA"
	untrusted             = "403 untrusted_certificate"
)

func newRotation(t *testing.T) *rotation {
	shared, err := theSite()
	require.NoError(t, err)
	storeURL, err := newDatabase("")
	require.NoError(t, err)
	c, err := newCluster(t.TempDir(), storeURL, 0, "CALLER_CA_FILES=")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.close()) })
	location, err := url.Parse(storeURL)
	require.NoError(t, err)
	r := &rotation{cloud: c.at(t, -1), database: strings.TrimPrefix(location.Path, "/"), old: shared.root}
	r.next, err = shared.root.Intermediate("instanceIdentityCA") // the router lets its clients in
	require.NoError(t, err)
	own := *shared
	own.xfcc = maps.Clone(shared.xfcc)
	c.site = &own
	r.caller(ofNext, r.next)
	return r
}

// caller makes the frontend a caller whose certificate is of a CA.
func (r *rotation) caller(name string, issuer *ca.Authority) {
	one, err := issuer.Instance(playground.Frontend.Identity())
	require.NoError(r.t, err)
	r.xfcc[name] = one.XFCC()
	r.addSecret(one.XFCC())
}

// place starts the gateway i on a cell whose certificates are of a CA.
func (r *rotation) place(i int, issuer *ca.Authority) {
	r.t.Helper()
	one, err := issuer.Instance(gateway.Identity())
	require.NoError(r.t, err)
	cert, key, err := one.WriteFiles(filepath.Join(r.t.TempDir(), "cell"))
	require.NoError(r.t, err)
	r.env = append(r.env, "CF_INSTANCE_CERT="+cert, "CF_INSTANCE_KEY="+key) // the last ones count
	if i == len(r.servers) {
		r.servers = append(r.servers, nil)
	}
	require.NoError(r.t, r.start(i))
}

// now asserts what callers of a CA get at a gateway.
func (r *rotation) now(i int, caller, want string) {
	r.t.Helper()
	require.NoError(r.t, r.outcome(i, caller, want))
}

// soon waits for it.
func (r *rotation) soon(i int, caller, want string) {
	r.t.Helper()
	require.NoError(r.t, until(fmt.Sprint(want, " for ", caller, " at gateway ", i), func() error { return r.outcome(i, caller, want) }))
}

func (r *rotation) outcome(i int, caller, want string) error {
	got, err := r.reach(r.t.Context(), i, caller, r.b.Route, r.b.url)
	if err == nil && got != want {
		err = fmt.Errorf("gateway %d: %s got %s", i, caller, got)
	}
	return err
}

// believed are the CAs that a gateway reports, origin by subject key.
func (r *rotation) believed(i int) map[string]string {
	r.t.Helper()
	status, body := r.server(i).ask(r.t, "/v1/authorities")
	require.Equal(r.t, http.StatusOK, status, body)
	var report struct {
		Shared  bool
		Callers []struct{ Fingerprint, Origin string }
	}
	require.NoError(r.t, json.Unmarshal([]byte(body), &report))
	require.True(r.t, report.Shared)
	found := map[string]string{}
	for _, one := range report.Callers {
		found[one.Fingerprint] = one.Origin
	}
	return found
}

// Both gateways take callers of both CAs while the cells are replaced one after
// the other, without a restart, a file or a setting.
func TestARotationOfTheInstanceIdentityCA(t *testing.T) {
	t.Parallel()
	r := newRotation(t)
	r.place(0, r.old)
	r.turns.fixed = 0
	r.b = r.bound(r.created(`{"allow":["cf:app:$frontend"]}`), `{}`)
	r.now(0, ofOld, allowed)
	r.now(0, ofNext, untrusted)

	r.place(1, r.next) // the first gateway on a new cell
	r.now(1, ofNext, allowed)
	r.soon(1, ofOld, allowed)
	r.soon(0, ofNext, allowed)
	r.now(0, ofOld, allowed)
	seen := r.believed(0)
	assert.Len(t, seen, 2)

	require.NoError(t, r.stop(0)) // and the last one
	r.place(0, r.next)
	for i := range 2 {
		r.now(i, ofNext, allowed)
		r.soon(i, ofOld, allowed)
	}

	t.Run("an operator removes the old one", func(t *testing.T) {
		for fingerprint, origin := range r.believed(0) {
			if origin == "sibling" {
				server, err := sharedPostgres()
				require.NoError(t, err)
				require.NoError(t, server.exec(r.database, `DELETE FROM board WHERE kind = 'caller-authority' AND name = '`+fingerprint+`'`))
			}
		}
		for i := range 2 {
			r.soon(i, ofOld, untrusted)
			r.now(i, ofNext, allowed)
			assert.Len(t, r.believed(i), 1)
		}
	})

	t.Run("what else somebody writes there is not believed", func(t *testing.T) {
		evil, err := ca.NewRoot("instanceIdentityCA")
		require.NoError(t, err)
		r.caller(ofEvil, evil)
		server, err := sharedPostgres()
		require.NoError(t, err)
		for name, value := range map[string]string{"evil": string(evil.PEM()), "file": "/etc/hostname"} {
			require.NoError(t, server.exec(r.database, `INSERT INTO board (kind, name, value, made_at, ends_at)
				VALUES ('caller-authority', '`+name+`', '`+value+`', 1, 4102444800000)`))
		}
		for i := range 2 {
			r.server(i).await(t, "the complaint", func() map[string]any {
				for _, line := range r.server(i).lines {
					if strings.Contains(line, "caller CAs of siblings") {
						return map[string]any{}
					}
				}
				return nil
			})
			r.now(i, ofEvil, untrusted)
			r.now(i, ofNext, allowed)
		}
	})
}

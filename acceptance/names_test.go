package acceptance_test

import (
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground"
	"github.com/mtls-authz/mtls-authz/playground/capi"
)

// cloudOf is a Cloud Controller that knows the foundation's apps.
func cloudOf(apps ...playground.App) *capi.Cloud {
	c := capi.New()
	c.AddClient("gateway", "secret-of-the-client")
	for _, app := range apps {
		id := app.Identity()
		c.Put(capi.Orgs, capi.Entity{GUID: id.Org, Name: app.Org})
		c.Put(capi.Spaces, capi.Entity{GUID: id.Space, Name: app.Space, Parent: id.Org})
		c.Put(capi.Apps, capi.Entity{GUID: id.App, Name: app.Name, Parent: id.Space, Labels: map[string]string{"team": app.Name}})
	}
	return c
}

// askedBy is the environment by which a gateway asks a Cloud Controller.
func askedBy(server *httptest.Server, grace time.Duration) []string {
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	return []string{
		"CF_API_URL=" + server.URL, "CF_CLIENT_ID=gateway", "CF_CLIENT_SECRET=secret-of-the-client", "CA_FILES=" + string(root),
		"NAME_GRACE=" + grace.String(), "NAME_INTERVAL=200ms",
	}
}

// soon waits until a caller hears this.
func (p *protected) soon(t *testing.T, caller, outcome string) {
	t.Helper()
	require.NoError(t, until(caller, func() error {
		if got := p.call(t, caller, "GET", "/").outcome(); got != outcome {
			return fmt.Errorf("hears %q, want %q", got, outcome)
		}
		return nil
	}))
}

// A source by name follows the name: through a blue-green swap, a Cloud Controller
// that is killed, a restart without it, and the end of the app.
func TestSourcesByNameFollowTheName(t *testing.T) {
	t.Parallel()
	frontend, backend := playground.Frontend.Identity(), playground.Backend.Identity() // two apps of one space
	cloud := cloudOf(playground.Frontend, playground.Backend, playground.Monitoring, playground.Intruder)
	server := httptest.NewTLSServer(cloud)
	defer server.Close()
	w := start(t, setup{env: askedBy(server, time.Hour)})
	w.addSecrets("secret-of-the-client")
	p := w.protect(t, protection{plan: "any", parameters: `{"allow":["app:frontend"]}`})
	p.soon(t, "frontend", allowed)
	line := p.call(t, "frontend", "GET", "/").line
	require.Equal(t, "route:cf:app:"+frontend.App, line["mtls_policy"])
	for _, caller := range []string{"backend", "monitoring", "intruder"} {
		p.call(t, caller, "GET", "/").expect(t, noMatch)
	}

	cloud.Rename(capi.Apps, map[string]string{frontend.App: "frontend-old", backend.App: "frontend"})
	p.soon(t, "backend", allowed)
	p.call(t, "frontend", "GET", "/").expect(t, allowed) // in its time of grace

	cloud.Fail(capi.Fault{Path: "/", Status: 500})
	cloud.Delete(capi.Apps, frontend.App)
	for _, caller := range []string{"backend", "frontend"} {
		p.call(t, caller, "GET", "/").expect(t, allowed)
	}
	server.CloseClientConnections()
	server.Close()
	p.call(t, "backend", "GET", "/").expect(t, allowed)
	w.restart(t)
	for _, caller := range []string{"backend", "frontend"} {
		p.call(t, caller, "GET", "/").expect(t, allowed)
	}
	p.call(t, "intruder", "GET", "/").expect(t, noMatch)

	again := httptest.NewTLSServer(cloud)
	defer again.Close()
	cloud.Fail(capi.Fault{})
	w.restart(t, askedBy(again, time.Millisecond)...)
	p.soon(t, "frontend", noMatch) // it is deleted: no grace
	p.call(t, "backend", "GET", "/").expect(t, allowed)
	cloud.Rename(capi.Apps, map[string]string{backend.App: "renamed"})
	p.soon(t, "backend", nobody) // there is nobody left to match
}

// Spaces, the own org and labels; and names of another org are nobody.
func TestSourcesByNameStayInTheOrg(t *testing.T) {
	t.Parallel()
	cloud := cloudOf(playground.Frontend, playground.Monitoring, playground.Intruder)
	server := httptest.NewTLSServer(cloud)
	defer server.Close()
	w := start(t, setup{env: askedBy(server, time.Millisecond)})
	w.addSecrets("secret-of-the-client")
	for _, test := range []struct{ entry, allowed, denied string }{
		{`"space:observability"`, "monitoring", "frontend"},
		{`"app:observability/monitoring"`, "monitoring", "frontend"},
		{`"org:."`, "frontend", "intruder"},
		{`{"source":"apps","space":"shop","labels":"team=frontend"}`, "frontend", "monitoring"},
	} {
		p := w.protect(t, protection{plan: "any", parameters: `{"allow":[` + test.entry + `]}`})
		p.soon(t, test.allowed, allowed)
		p.call(t, test.denied, "GET", "/").expect(t, noMatch)
		p.call(t, "intruder", "GET", "/").expect(t, noMatch)
	}
	other := w.protect(t, protection{plan: "any", parameters: `{"allow":["space:lab","app:lab/intruder","app:frontend"]}`})
	other.soon(t, "frontend", allowed) // so all of them were looked up
	other.call(t, "intruder", "GET", "/").expect(t, noMatch)
}

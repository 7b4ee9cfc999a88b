package doctor_test

import (
	"encoding/pem"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/authorities"
	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/settings"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/parameters"
	"github.com/mtls-authz/mtls-authz/grants/route"
	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/playground"
	"github.com/mtls-authz/mtls-authz/playground/router"
	"github.com/mtls-authz/mtls-authz/store"
	"github.com/mtls-authz/mtls-authz/store/database"
	"github.com/mtls-authz/mtls-authz/store/sightings"
)

// bind puts bound routes into the world's store.
func (w *world) bind(routes ...string) {
	s, err := store.Open(w.Context(), store.Config{URL: "sqlite://" + filepath.Join(w.dir, "state.db")})
	require.NoError(w, err)
	defer func() { require.NoError(w, s.Close()) }()
	id := playground.Backend.Identity()
	owner := grants.Owner{Instance: "si-1"}
	require.NoError(w, owner.Org.UnmarshalText([]byte(id.Org)))
	require.NoError(w, owner.Space.UnmarshalText([]byte(id.Space)))
	given, err := parameters.ParseInstance([]byte(`{}`))
	require.NoError(w, err)
	_, err = s.CreateInstance(w.Context(), store.Cause{}, store.Instance{ID: "si-1", PlanID: "p", Plan: grants.ScopeOrg, Owner: owner, Parameters: given})
	require.NoError(w, err)
	for _, name := range routes {
		bound, err := route.Parse(name)
		require.NoError(w, err)
		none, err := parameters.ParseBinding([]byte(`{}`))
		require.NoError(w, err)
		_, _, err = s.CreateBinding(w.Context(), store.Cause{}, store.Binding{
			ID: "b-" + bound.Host, InstanceID: "si-1", Route: bound, Parameters: none, URL: "https://" + playground.GatewayHost + "/r/b/MARKED-token",
		})
		require.NoError(w, err)
	}
}

// saw notes requests as gateways do.
func (w *world) saw(decisions ...sightings.Decision) {
	db, err := database.Open(database.Config{URL: "sqlite://" + filepath.Join(w.dir, "state.db")})
	require.NoError(w, err)
	defer func() { require.NoError(w, db.Close()) }()
	seen := sightings.New(db, sightings.Config{Timeout: time.Minute, Interval: time.Minute, Turn: make(chan struct{}, 1)})
	for i := range decisions {
		decisions[i].At, decisions[i].DecisionID = time.Now(), fmt.Sprint("d", i)
		seen.Note(&decisions[i])
	}
	require.NoError(w, seen.Write(w.Context()))
}

func TestADomainWhoseCallersShowNoCertificate(t *testing.T) {
	w := newWorld(t, router.SanitizeSet)
	w.bind("a.good.com", "b.good.com", "a.bad.com", "a.untrusted.com", "a.new.com", "a.own.com")
	denied := func(binding, reason string) sightings.Decision {
		return sightings.Decision{Binding: binding, Outcome: sightings.Denied, Reason: reason, Method: "GET", Path: "/"}
	}
	own := denied("b-a.own.com", "loop")
	own.App = playground.Authz.Identity().App
	w.saw(
		sightings.Decision{Binding: "b-a.good.com", Outcome: sightings.Allowed, App: playground.Frontend.Identity().App}, denied("b-b.good.com", "no_certificate"),
		denied("b-a.bad.com", "no_certificate"), denied("b-a.bad.com", "router_untrusted"), denied("b-a.untrusted.com", "untrusted_certificate"),
		own, denied("b-a.own.com", "no_certificate"),
	)
	found := findings(t, append(w.environ, `VCAP_APPLICATION={"application_id":"`+playground.Authz.Identity().App+`"}`, "ALLOW_EPHEMERAL_STATE=true"))
	for domain, status := range map[string]string{"good.com": "ok", "bad.com": "warn", "untrusted.com": "ok", "new.com": "skipped", "own.com": "warn"} {
		assert.Equal(t, status, found["certificates arrive "+domain].Status, "%s: %s", domain, found["certificates arrive "+domain].Found)
	}
}

func TestCloudControllerIsAsked(t *testing.T) {
	w := newWorld(t, router.SanitizeSet)
	w.bind("a."+playground.Domain, "gone."+playground.Domain)
	var cloud *httptest.Server
	status := http.StatusOK // of the list of orgs
	cloud = httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		const relationships = `"relationships":{"service_instance":{"data":{"guid":"si-1"}},"route":{"data":{"guid":"r"}}}`
		switch r.URL.Path {
		case "/":
			fmt.Fprintf(rw, `{"links":{"uaa":{"href":%q}}}`, cloud.URL)
		case "/oauth/token":
			fmt.Fprint(rw, `{"access_token":"MARKED-access","token_type":"bearer","expires_in":600}`)
		case "/v3/service_route_bindings":
			fmt.Fprintf(rw, `{"pagination":{"total_pages":1},"resources":[{"guid":"b-a.%s",%s},{"guid":"only-there","route_service_url":"https://%s/r/x/MARKED-there",%[2]s}],"included":{"routes":[{"guid":"r","url":"a.%[1]s"}]}}`,
				playground.Domain, relationships, playground.GatewayHost)
		case "/v3/organizations":
			rw.WriteHeader(status)
			fmt.Fprint(rw, `{"pagination":{"total_pages":1},"resources":[{}]}`)
		case "/v3/domains":
			fmt.Fprintf(rw, `{"pagination":{"total_pages":1},"resources":[{"name":%q,"relationships":{"organization":{"data":null}}}]}`, playground.Domain)
		default:
			http.NotFound(rw, r)
		}
	}))
	t.Cleanup(cloud.Close)
	file := filepath.Join(w.dir, "cloud.pem")
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cloud.Certificate().Raw}), 0o600))
	environ := append(w.environ, "CF_API_URL="+cloud.URL, "CF_CLIENT_ID=doctor", "CF_CLIENT_SECRET=MARKED-client", "CA_FILES="+file)
	found := findings(t, environ, "--reconcile")
	assert.Equal(t, "warn", found["reconcile gone."+playground.Domain].Status)
	assert.Equal(t, "fail", found["reconcile a."+playground.Domain].Status)
	assert.Equal(t, "warn", found["shared domains "+playground.Domain].Status)
	assert.Equal(t, "skipped", findings(t, environ)["reconcile"].Status)
	assert.NotContains(t, run(t, environ, "--reconcile").out, "MARKED")
	assert.Equal(t, "ok", found["Cloud Controller"].Status)

	// The lists that come after one that failed say what is wrong with themselves.
	status = http.StatusForbidden
	found = findings(t, environ, "--reconcile")
	assert.Equal(t, "fail", found["Cloud Controller"].Status)
	assert.Contains(t, found["Cloud Controller"].Found, "answered 403")
	assert.Contains(t, found["Cloud Controller"].Fix, "cloud_controller.global_auditor")
	assert.Equal(t, "warn", found["reconcile gone."+playground.Domain].Status)
}

// What was asked for and could not be done ends with status 1.
func TestReconcilingWithoutCloudControllerFails(t *testing.T) {
	w := newWorld(t, router.SanitizeSet)
	require.NoError(t, run(t, w.environ).err)
	require.Error(t, run(t, w.environ, "--reconcile").err)
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, nobody.Close())
	away := append(w.environ, "CF_API_URL=https://"+nobody.Addr().String(), "CF_CLIENT_ID=doctor", "CF_CLIENT_SECRET=MARKED-client")
	for _, item := range []string{"Cloud Controller", "reconcile"} {
		f := findings(t, away, "--reconcile")[item]
		assert.Equal(t, "fail", f.Status, item)
		assert.Contains(t, f.Found, "connection refused", item)
		assert.NotContains(t, f.Found, "asked again in", item)
	}
	assert.Equal(t, "fail", findings(t, away)["Cloud Controller"].Status, "a client that does not work is never skipped")
}

func TestCAsOfOtherInstances(t *testing.T) {
	w := newWorld(t, router.SanitizeSet)
	found := findings(t, w.environ)
	assert.Equal(t, "ok", found["caller CAs CF_INSTANCE_CERT"].Status)
	assert.NotContains(t, found, "caller CAs other instances", "nobody has told of one yet")
	sibling, err := w.root.Intermediate("another instanceIdentityCA")
	require.NoError(t, err)
	own, err := sibling.Instance(playground.Authz.Identity())
	require.NoError(t, err)
	shares, err := authorities.New(authorities.Config{
		Settings: &settings.Settings{InstanceCert: identity.File(own.CertPEM()), InstanceKey: identity.File(own.KeyPEM()), FoundationName: "local"},
		Log:      slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
	})
	require.NoError(t, err)
	s, err := store.Open(t.Context(), store.Config{URL: "sqlite://" + filepath.Join(w.dir, "state.db")})
	require.NoError(t, err)
	shares.Share(t.Context(), s.Board())
	before, err := s.Board().Read(t.Context(), "caller-authority")
	require.NoError(t, err)
	require.Len(t, before, 1)
	assert.Equal(t, "ok", findings(t, w.environ)["caller CAs other instances"].Status)
	after, err := s.Board().Read(t.Context(), "caller-authority")
	require.NoError(t, err)
	assert.Equal(t, before, after, "doctor tells nobody of its own")
	require.NoError(t, s.Close())
}

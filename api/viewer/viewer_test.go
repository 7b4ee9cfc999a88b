package viewer_test

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/api/viewer"
	"github.com/mtls-authz/mtls-authz/directory/controller"
	"github.com/mtls-authz/mtls-authz/playground/capi"
)

const (
	instance = "33333333-3333-4333-8333-333333333333"
	other    = "33333333-3333-4333-8333-333333333334"
	path     = "/v3/service_instances/" + instance + "/permissions"
)

// world is viewers with a Cloud Controller, and a clock.
type world struct {
	*viewer.Viewers
	cloud *capi.Cloud
	now   time.Time
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{cloud: capi.New(), now: time.Now()}
	server := httptest.NewTLSServer(w.cloud)
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	w.Viewers = viewer.New(viewer.Config{
		Asker: controller.New(controller.Config{URL: server.URL, Roots: roots}), Now: func() time.Time { return w.now },
	})
	return w
}

func with(headers ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "https://gateway.example/v1/instances/"+instance, nil)
	r.Header["Authorization"] = headers
	return r
}

func (w *world) permits(t *testing.T, r *http.Request, id string, read, manage bool, want error) {
	t.Helper()
	got, err := w.Permits(t.Context(), r, id)
	require.ErrorIs(t, err, want)
	assert.Equal(t, []bool{read, manage}, []bool{got.Read, got.Manage})
}

func TestWhatUsersMay(t *testing.T) {
	w := newWorld(t)
	w.cloud.Permit(instance, "developer", capi.Permissions{Read: true, Manage: true})
	w.cloud.Permit(instance, "auditor", capi.Permissions{Read: true})
	w.cloud.Permit(instance, "strange", capi.Permissions{Manage: true})
	for user, may := range map[string][2]bool{"developer": {true, true}, "auditor": {true, false}, "stranger": {}, "strange": {}} {
		token := w.cloud.Login(user)
		w.permits(t, with("bearer "+token), instance, may[0], may[1], nil)
		w.permits(t, with("Bearer "+token), instance, may[0], may[1], nil)
		w.permits(t, with("bearer "+token), other, false, false, nil)
	}
}

// The user is who UAA says, in a token that Cloud Controller has accepted.
func TestTheAuditHearsWhoTheUserIs(t *testing.T) {
	w := newWorld(t)
	w.cloud.Permit(instance, "dev@example.com", capi.Permissions{Read: true})
	w.cloud.Permit(instance, "operator:broker", capi.Permissions{Read: true})
	for user, want := range map[string]string{"dev@example.com": "dev@example.com", "operator:broker": "", "stranger": ""} {
		for range 2 { // asked, and remembered
			may, err := w.Permits(t.Context(), with("bearer "+w.cloud.Login(user)), instance)
			require.NoError(t, err)
			assert.Equal(t, want, may.User)
		}
	}
	forged := "eyJhbGciOiJub25lIn0." + base64.RawURLEncoding.EncodeToString([]byte(`{"user_id":"dev@example.com"}`)) + "."
	may, err := w.Permits(t.Context(), with("bearer "+forged), instance)
	require.ErrorIs(t, err, viewer.ErrNoToken)
	assert.Zero(t, may)
}

func TestTokensThatAreNone(t *testing.T) {
	w := newWorld(t)
	w.cloud.Permit(instance, "developer", capi.Permissions{Read: true, Manage: true})
	token := w.cloud.Login("developer")
	for _, headers := range [][]string{
		nil,
		{""},
		{"bearer"},
		{"bearer "},
		{token},
		{"Basic " + token},
		{"bearer " + token, "bearer " + token},
		{"bearer  " + token},
		{"bearer " + token + " x"},
		{"bearer " + token + "\r\nX: y"},
		{"bearer " + token + "\x00"},
		{"bearer " + strings.Repeat("x", 16<<10+1)},
	} {
		before := w.cloud.Calls(path)
		w.permits(t, with(headers...), instance, false, false, viewer.ErrNoToken)
		assert.False(t, viewer.HasToken(with(headers...)))
		assert.Equal(t, before, w.cloud.Calls(path), "not even asked")
	}
	w.permits(t, with("bearer forged.token.here"), instance, false, false, viewer.ErrNoToken)
	assert.True(t, viewer.HasToken(with("bearer "+token)))
}

// An id that is not a guid goes into no path of Cloud Controller.
func TestIDsThatLeadElsewhere(t *testing.T) {
	w := newWorld(t)
	token := w.cloud.Login("developer")
	for _, id := range []string{"", "..", "../../v3/apps?x=", instance + "/../" + other, instance + "?", "%2e%2e", strings.ToUpper("aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa")} {
		w.permits(t, with("bearer "+token), id, false, false, nil)
	}
	assert.Empty(t, w.cloud.Queries())
}

func TestAnswersAreRememberedForAMinute(t *testing.T) {
	w := newWorld(t)
	w.cloud.Permit(instance, "developer", capi.Permissions{Read: true, Manage: true})
	developer, stranger := with("bearer "+w.cloud.Login("developer")), with("bearer "+w.cloud.Login("stranger"))
	for range 3 {
		w.permits(t, developer, instance, true, true, nil)
		w.permits(t, stranger, instance, false, false, nil)
	}
	require.Equal(t, 2, w.cloud.Calls(path), "each token's own answer")
	w.cloud.Fail(capi.Fault{Path: "/", Status: 500})
	w.now = w.now.Add(59 * time.Second)
	w.permits(t, developer, instance, true, true, nil)
	w.permits(t, stranger, instance, false, false, viewer.ErrUnavailable)
	w.now = w.now.Add(time.Second)
	w.permits(t, developer, instance, false, false, viewer.ErrUnavailable)
	w.cloud.Fail(capi.Fault{})
	w.permits(t, developer, instance, true, true, nil)
	w.cloud.Permit(instance, "developer", capi.Permissions{})
	w.now = w.now.Add(time.Minute)
	w.permits(t, developer, instance, false, false, nil)
	w.now = w.now.Add(-time.Hour)
	w.permits(t, developer, instance, false, false, nil)
}

// A token without cloud_controller.read is a user's, who may nothing here.
func TestATokenThatMayNotAsk(t *testing.T) {
	w := newWorld(t)
	w.cloud.Permit(instance, "developer", capi.Permissions{Read: true, Manage: true})
	w.cloud.Fail(capi.Fault{Path: "/", Status: 403})
	w.permits(t, with("bearer "+w.cloud.Login("developer")), instance, false, false, nil)
}

// Neither yes nor no: the caller cannot tell what the user may.
func TestWithoutCloudController(t *testing.T) {
	w := newWorld(t)
	w.cloud.Permit(instance, "developer", capi.Permissions{Read: true, Manage: true})
	developer := with("bearer " + w.cloud.Login("developer"))
	for _, fault := range []capi.Fault{
		{Path: "/", Status: 500},
		{Path: "/", Status: 429},
		{Path: "/", Status: 302, Header: http.Header{"Location": {"/v3"}}},
		{Path: "/", Status: 200, Body: "<html>"},
		{Path: "/", Status: 200, Body: `{"read":"yes"}`},
		{Path: "/", Status: 202, Body: `{"read":true,"manage":true}`},
	} {
		w.cloud.Fail(fault)
		w.permits(t, developer, instance, false, false, viewer.ErrUnavailable)
	}
	w.cloud.Fail(capi.Fault{})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := w.Permits(ended, developer, instance)
	require.ErrorIs(t, err, viewer.ErrUnavailable)
	require.NotContains(t, err.Error(), "eyJ")
	w.permits(t, developer, instance, true, true, nil)
	w.cloud.Revoke()
	w.now = w.now.Add(time.Hour)
	w.permits(t, developer, instance, false, false, viewer.ErrNoToken)
}

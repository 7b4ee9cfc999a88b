package viewer_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
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
	asker *controller.Client
	now   time.Time
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{cloud: capi.New(), now: time.Now()}
	server := httptest.NewTLSServer(w.cloud)
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	w.asker = controller.New(controller.Config{URL: server.URL, Roots: roots})
	w.Viewers = viewer.New(viewer.Config{
		Asker: w.asker, Now: func() time.Time { return w.now },
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
	forged := "eyJhbGciOiJub25lIn0." + encoded(`{"user_id":"dev@example.com"}`) + ".x"
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
		assert.Equal(t, before, w.cloud.Calls(path), "not even asked")
	}
	// What cannot be a token, or has ended, costs Cloud Controller nothing either.
	for _, rubbish := range []string{"forged", "forged.token.here", ".e30.x", "e30.e30.", "e30.e30.x.y", "x." + encoded(`[]`) + ".x", "x." + encoded(`{"exp":"now"}`) + ".x", jwt(w.now.Add(-2 * time.Minute))} {
		w.permits(t, with("bearer "+rubbish), instance, false, false, viewer.ErrNoToken)
	}
	assert.Empty(t, w.cloud.Queries())
	w.permits(t, with("bearer "+jwt(w.now.Add(time.Minute))), instance, false, false, viewer.ErrNoToken)
	assert.Len(t, w.cloud.Queries(), 1, "that this one is forged only Cloud Controller can tell")
}

func encoded(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

// jwt is forged and looks like a token that ends then.
func jwt(ends time.Time) string {
	return fmt.Sprintf("e30.%s.%s", encoded(fmt.Sprintf(`{"exp":%d}`, ends.Unix())), rand.Text())
}

// slow is a Cloud Controller that answers nobody but whoever it knows.
type slow struct {
	viewer.Asker
	asked chan struct{}
}

func (s slow) Get(ctx context.Context, token, path string, answer any) error {
	if !strings.HasPrefix(token, "e30.") {
		return s.Asker.Get(ctx, token, path, answer)
	}
	s.asked <- struct{}{}
	<-ctx.Done()
	return fmt.Errorf("%w: %w", controller.ErrUnavailable, ctx.Err())
}

// Whoever makes up tokens, while Cloud Controller is slow to say so, does not keep
// users waiting whose tokens it knows; nobody waits for long.
func TestForgedTokensDoNotKeepUsersWaiting(t *testing.T) {
	w := newWorld(t)
	w.cloud.Permit(instance, "developer", capi.Permissions{Read: true})
	developer, newcomer := with("bearer "+w.cloud.Login("developer")), with("bearer "+w.cloud.Login("developer"))
	asked := make(chan struct{}, 1_000_000)
	w.Viewers = viewer.New(viewer.Config{Asker: slow{w.asker, asked}, MaxInFlight: 2, Now: func() time.Time { return w.now }})
	w.permits(t, developer, instance, true, false, nil)
	w.now = w.now.Add(2 * time.Minute) // forgotten
	var forgers sync.WaitGroup
	t.Cleanup(forgers.Wait)
	for range 2 {
		forgers.Go(func() { _, _ = w.Permits(t.Context(), with("bearer "+jwt(w.now.Add(time.Hour))), instance) })
		<-asked
	}
	forging, end := context.WithCancel(t.Context())
	t.Cleanup(end)
	for range 80 {
		forgers.Go(func() {
			for forging.Err() == nil {
				_, _ = w.Permits(forging, with("bearer "+jwt(w.now.Add(time.Hour))), instance)
			}
		})
	}
	w.permits(t, developer, instance, true, false, nil)
	require.Eventually(t, func() bool {
		ended, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		_, err := w.Permits(ended, newcomer, other)
		return err != nil && strings.Contains(err.Error(), "too many tokens at once")
	}, time.Second, time.Millisecond, "so many wait, and no more")
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

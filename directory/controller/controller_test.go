package controller_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/directory/controller"
	"github.com/mtls-authz/mtls-authz/playground/capi"
)

const id, secret = "gateway", "s3cret &+%:, of the client"

// clock is a clock that tests turn.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time       { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) wait(d time.Duration) { c.ahead.Add(int64(d)) }

func session(t *testing.T, handler http.Handler) (*controller.Session, *clock) {
	t.Helper()
	server := httptest.NewTLSServer(handler)
	t.Cleanup(server.Close)
	roots, c := x509.NewCertPool(), &clock{}
	roots.AddCert(server.Certificate())
	return controller.New(controller.Config{URL: server.URL, Roots: roots, Now: c.now}).Session(id, secret), c
}

func newCloud() *capi.Cloud {
	cloud := capi.New()
	cloud.AddClient(id, secret)
	return cloud
}

func list(t *testing.T, s *controller.Session) error {
	t.Helper()
	return s.List(t.Context(), "/v3/apps", url.Values{}, func(json.RawMessage) error { return nil })
}

func TestOneTokenForAll(t *testing.T) {
	cloud := newCloud()
	s, c := session(t, cloud)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() { assert.NoError(t, list(t, s)) })
	}
	all.Wait()
	require.Equal(t, 1, cloud.Calls("/oauth/token"))
	cloud.Revoke()
	require.NoError(t, list(t, s), "a token that is refused is renewed")
	require.Equal(t, 2, cloud.Calls("/oauth/token"))
	c.wait(10 * time.Minute)
	require.NoError(t, list(t, s), "and one that has ended")
	require.Equal(t, 3, cloud.Calls("/oauth/token"))
}

// A server that refuses every token is not asked without end.
func TestTokensThatAreNeverAccepted(t *testing.T) {
	cloud := newCloud()
	s, _ := session(t, cloud)
	cloud.Fail(capi.Fault{Path: "/v3", Status: 401})
	require.ErrorIs(t, list(t, s), controller.ErrUnauthorized)
	require.Equal(t, 2, cloud.Calls("/v3/apps"))
	require.ErrorIs(t, list(t, s), controller.ErrUnavailable)
	require.Equal(t, 2, cloud.Calls("/v3/apps"), "it pauses")
}

func TestBackOff(t *testing.T) {
	cloud := newCloud()
	s, c := session(t, cloud)
	for name, fault := range map[string]struct {
		fault capi.Fault
		least time.Duration
	}{
		"Retry-After":       {capi.Fault{Path: "/v3", Status: 429, Header: http.Header{"Retry-After": {"120"}}}, 119 * time.Second},
		"X-RateLimit-Reset": {capi.Fault{Path: "/v3", Status: 429, Header: http.Header{"X-Ratelimit-Remaining": {"0"}}}, time.Minute},
		"503":               {capi.Fault{Path: "/v3", Status: 503, Header: http.Header{"Retry-After": {"60"}}}, 59 * time.Second},
		"500":               {capi.Fault{Path: "/v3", Status: 500}, time.Second / 2},
	} {
		if name == "X-RateLimit-Reset" {
			fault.fault.Header.Set(name, strconv.FormatInt(c.now().Add(5*time.Minute).Unix(), 10))
		}
		cloud.Fail(fault.fault)
		before := cloud.Calls("/v3/apps")
		require.ErrorIs(t, list(t, s), controller.ErrUnavailable, name)
		cloud.Fail(capi.Fault{})
		c.wait(fault.least - time.Second/2)
		require.ErrorIs(t, list(t, s), controller.ErrUnavailable, name)
		require.Equal(t, before+1, cloud.Calls("/v3/apps"), "%s: asked again too soon", name)
		c.wait(11 * time.Minute) // longer than any pause
		require.NoError(t, list(t, s), name)
	}
	// A server that wants to be left alone for ever is not believed.
	cloud.Fail(capi.Fault{Path: "/v3", Status: 429, Header: http.Header{"Retry-After": {"2000000000"}}})
	require.Error(t, list(t, s))
	cloud.Fail(capi.Fault{})
	c.wait(11 * time.Minute)
	require.NoError(t, list(t, s))
}

// No redirect takes a token or the secret anywhere.
func TestRedirectsAreNotFollowed(t *testing.T) {
	var stolen atomic.Int64
	thief := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { stolen.Add(1) }))
	defer thief.Close()
	for _, path := range []string{"/v3", "/oauth", "/"} {
		cloud := newCloud()
		s, _ := session(t, cloud)
		cloud.Fail(capi.Fault{Path: path, Status: 307, Header: http.Header{"Location": {thief.URL + "/v3/apps"}}})
		require.ErrorIs(t, list(t, s), controller.ErrUnavailable)
	}
	require.Zero(t, stolen.Load())
}

// The links of pages could lead anywhere: they are not used.
func TestLinksOfPagesAreNotUsed(t *testing.T) {
	cloud := newCloud()
	s, _ := session(t, cloud)
	cloud.Fail(capi.Fault{Path: "/v3/apps", Status: 200, Body: `{"pagination":{"total_pages":2,"next":{"href":"https://thief.example/v3/apps"}},"resources":[]}`})
	require.NoError(t, list(t, s))
	require.Equal(t, 2, cloud.Calls("/v3/apps"))
}

func TestServersThatAreNotTrusted(t *testing.T) {
	cloud := newCloud()
	server := httptest.NewTLSServer(cloud)
	defer server.Close()
	s := controller.New(controller.Config{URL: server.URL, Roots: x509.NewCertPool()}).Session(id, secret)
	require.ErrorIs(t, list(t, s), controller.ErrUnavailable)
	require.Zero(t, cloud.Calls("/"))
	for _, uaa := range []string{"http://uaa.example", "https://", "//uaa.example", "https://u:p@uaa.example", ""} {
		cloud := newCloud()
		s, _ := session(t, cloud)
		cloud.Fail(capi.Fault{Path: "/", Status: 200, Body: `{"links":{"uaa":{"href":"` + uaa + `"},"login":null}}`})
		require.ErrorIs(t, list(t, s), controller.ErrUnavailable, uaa)
		require.Zero(t, cloud.Calls("/oauth/token"))
	}
}

func TestAnswersAreBounded(t *testing.T) {
	cloud := newCloud()
	s, c := session(t, cloud)
	for _, body := range []string{
		`{"pagination":{"total_pages":-1}}`, `[]`, `null`, ``,
	} {
		cloud.Fail(capi.Fault{Path: "/v3", Status: 200, Body: body})
		require.ErrorIs(t, list(t, s), controller.ErrUnavailable)
		c.wait(time.Hour)
	}
	for _, body := range []string{`{"pagination":{"total_pages":100000},"resources":[]}`, `{"pagination":{"total_pages":1},"resources":"` + strings.Repeat("x", 33<<20) + `"}`} {
		cloud.Fail(capi.Fault{Path: "/v3", Status: 200, Body: body})
		require.ErrorIs(t, list(t, s), controller.ErrRefused)
	}
	cloud.Fail(capi.Fault{Path: "/v3", Status: 200, Body: strings.Repeat(" ", 2<<20) + `{}`})
	var answer struct{}
	require.ErrorIs(t, s.Get(t.Context(), "token", "/v3/service_instances/x/permissions", &answer), controller.ErrRefused)
}

// A question that Cloud Controller refuses says nothing about others.
func TestRefusedQuestions(t *testing.T) {
	cloud := newCloud()
	s, _ := session(t, cloud)
	for _, status := range []int{400, 413, 414, 422, 431} {
		cloud.Fail(capi.Fault{Path: "/v3", Query: "names", Status: status})
		err := s.List(t.Context(), "/v3/apps", url.Values{"names": {"x"}}, func(json.RawMessage) error { return nil })
		require.ErrorIs(t, err, controller.ErrRefused, status)
		require.NotErrorIs(t, err, controller.ErrUnavailable, status)
		require.NoError(t, list(t, s), "and it does not pause")
	}
}

// Operators can allow less than is asked for at first.
func TestSmallPages(t *testing.T) {
	cloud := newCloud()
	cloud.MaxPerPage(100)
	s, _ := session(t, cloud)
	for n := range 120 {
		cloud.Put(capi.Apps, capi.Entity{GUID: strconv.Itoa(n), Name: strconv.Itoa(n)})
	}
	for range 2 {
		seen := 0
		require.NoError(t, s.List(t.Context(), "/v3/apps", url.Values{}, func(raw json.RawMessage) error {
			var page struct{ Resources []struct{} }
			require.NoError(t, json.Unmarshal(raw, &page))
			seen += len(page.Resources)
			return nil
		}))
		require.Equal(t, 120, seen)
	}
	require.Equal(t, 1+3+3, cloud.Calls("/v3/apps"), "which is found out once")
}

// What is deleted while a list is read shifts what comes after it.
func TestListsThatChange(t *testing.T) {
	cloud := newCloud()
	cloud.PageLimit(2)
	cloud.Put(capi.Spaces, capi.Entity{GUID: "s", Name: "s"})
	for n := range 6 {
		cloud.Put(capi.Apps, capi.Entity{GUID: strconv.Itoa(n), Name: strconv.Itoa(n), Parent: "s"})
	}
	s, _ := session(t, cloud)
	read := func(deleted ...string) (seen map[string]bool, err error) {
		seen = map[string]bool{}
		err = s.List(t.Context(), "/v3/apps", url.Values{}, func(raw json.RawMessage) error {
			var page struct{ Resources []struct{ GUID string } }
			require.NoError(t, json.Unmarshal(raw, &page))
			for _, one := range page.Resources {
				seen[one.GUID] = true
			}
			if len(deleted) > 0 {
				cloud.Delete(capi.Apps, deleted[0])
				deleted = deleted[1:]
			}
			return nil
		})
		return seen, err
	}
	seen, err := read("0")
	require.NoError(t, err)
	for n := 1; n < 6; n++ {
		require.True(t, seen[strconv.Itoa(n)], n)
	}
	_, err = read("1", "2", "3", "4")
	require.ErrorIs(t, err, controller.ErrRefused, "it changes all the time")
}

func TestWhoSeesAll(t *testing.T) {
	for scope, all := range map[string]bool{
		"cloud_controller.global_auditor": true, "uaa.none cloud_controller.admin_read_only": true, "cloud_controller.admin": true,
		"cloud_controller.read": false, "": false, "xcloud_controller.admin": false,
	} {
		cloud := newCloud()
		cloud.Scope(scope)
		s, _ := session(t, cloud)
		require.False(t, s.SeesAll(), "before anybody has said so")
		require.NoError(t, list(t, s))
		require.Equal(t, all, s.SeesAll(), scope)
	}
}

// Neither tokens nor the secret are in an error, nor what a server says.
func TestSecretsAreInNoError(t *testing.T) {
	cloud := newCloud()
	token := cloud.Login("somebody")
	s, c := session(t, cloud)
	var answer struct{}
	for _, fault := range []capi.Fault{{Path: "/v3", Status: 500, Body: "echo " + token}, {Path: "/oauth", Status: 401, Body: secret}, {Path: "/v3", Status: 200, Body: token}} {
		cloud.Fail(fault)
		for _, err := range []error{list(t, s), s.Get(t.Context(), token, "/v3/apps?guids=hidden", &answer)} {
			if err != nil {
				assert.NotContains(t, err.Error(), token)
				assert.NotContains(t, err.Error(), secret)
				assert.NotContains(t, err.Error(), "hidden")
			}
		}
		c.wait(time.Hour)
		cloud.Revoke()
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := s.Get(ctx, token, "/v3/apps?guids=hidden", &answer)
	require.ErrorIs(t, err, controller.ErrUnavailable)
	assert.NotContains(t, fmt.Sprintf("%+v", err), "hidden")
}

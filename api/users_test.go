package api_test

import (
	"crypto/x509"
	"io"
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
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/display"
	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/playground/capi"
)

const (
	ours, theirs = "33333333-3333-4333-8333-333333333333", "44444444-4444-4444-8444-444444444444"
	foreign      = "d76446a1-f429-4444-8797-00000000beef"
	grantsPath   = "/v1/instances/" + ours + "/grants"
)

// withUsers is the API beside a Cloud Controller, in which a developer and an auditor
// may do something with our instance, and neither with theirs, which has the same
// route.
func withUsers(t *testing.T, options ...func(*testbed)) (*testbed, *capi.Cloud) {
	t.Helper()
	cloud := capi.New()
	server := httptest.NewTLSServer(cloud)
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	b := newTestbed(t, append(options, func(b *testbed) {
		b.cfg.Permits = viewer.New(viewer.Config{Asker: controller.New(controller.Config{URL: server.URL, Roots: roots})}).Permits
		b.cfg.Labels = func(_ grants.Kind, id identity.GUID) display.Label {
			switch id.String() {
			case frontend, shop, acme:
				return display.Label{Name: "known-" + id.String()[:2], Space: guid(t, shop), Org: guid(t, acme)}
			}
			return display.Label{Name: "hidden-name", Space: guid(t, lab), Org: guid(t, globex)}
		}
	})...)
	b.create(ours, grants.ScopeOrg, acme, shop, `{"allow":["cf:app:`+frontend+`","cf:app:`+foreign+`"]}`)
	b.create(theirs, grants.ScopeOrg, globex, lab, `{"allow":["cf:any"]}`)
	b.bind(ours, "55555555-5555-4555-8555-555555555555", "a.example", "")
	b.bind(theirs, "66666666-6666-4666-8666-666666666666", "a.example", "")
	cloud.Permit(ours, "developer", capi.Permissions{Read: true, Manage: true})
	cloud.Permit(ours, "auditor", capi.Permissions{Read: true})
	cloud.Permit(theirs, "somebody", capi.Permissions{Read: true, Manage: true})
	return b, cloud
}

func as(token string) change {
	return func(r *http.Request) { r.Header["Authorization"] = []string{"bearer " + token} }
}

func body(text string) change {
	return func(r *http.Request) {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
		r.Header.Set("Content-Type", "application/json")
	}
}

func TestWhatUsersTokensOpen(t *testing.T) {
	b, cloud := withUsers(t)
	add := body(`{"allow_add":["cf:app:` + frontend + `"]}`)
	own, unknown := "/v1/instances/"+ours, "/v1/instances/77777777-7777-4777-8777-777777777777"
	for _, row := range []struct {
		method, path                 string
		developer, auditor, stranger int
	}{
		{"GET", own, 200, 200, 403},
		{"HEAD", own, 200, 200, 403},
		{"GET", own + "/bindings", 200, 200, 403},
		{"POST", own + "/grants", 200, 403, 403},
		{"GET", own + "/grants", 405, 405, 403},
		{"DELETE", own, 405, 403, 403},
		{"GET", "/v1/instances/" + theirs, 403, 403, 403},
		{"GET", "/v1/instances/" + theirs + "/bindings", 403, 403, 403},
		{"POST", "/v1/instances/" + theirs + "/grants", 403, 403, 403},
		{"GET", unknown, 403, 403, 403},
		{"GET", "/v1/instances/" + ours + "%2f..%2f" + theirs, 403, 403, 403},
		{"GET", own + "/../" + theirs, 403, 403, 403},
		{"GET", "/v1/instances", 403, 403, 403},
		{"GET", "/v1/bindings", 403, 403, 403},
		{"GET", "/v1/bindings/55555555-5555-4555-8555-555555555555", 403, 403, 403},
		{"DELETE", "/v1/bindings/55555555-5555-4555-8555-555555555555", 403, 403, 403},
		{"GET", "/v1/audit?service_instance_guids=" + ours, 403, 403, 403},
		{"GET", "/v1/decisions", 403, 403, 403},
		{"GET", "/", 403, 403, 403},
	} {
		for user, want := range map[string]int{"developer": row.developer, "auditor": row.auditor, "stranger": row.stranger} {
			got := b.do(row.method, row.path, as(cloud.Login(user)), add)
			assert.Equal(t, want, got.StatusCode, "%s: %s %s: %s", user, row.method, row.path, got.body)
		}
		assert.Contains(t, []int{401, 403}, b.do(row.method, row.path, as("forged.token.x"), add).StatusCode, "%s %s", row.method, row.path)
	}
	stranger := as(cloud.Login("stranger"))
	there, not := b.do("GET", own, stranger), b.do("GET", unknown, stranger)
	assert.Equal(t, not.body, there.body, "whether it exists is not told")
}

// A token beside a password is judged as neither; Cloud Controller's silence is no
// right.
func TestTokensThatOpenNothing(t *testing.T) {
	b, cloud := withUsers(t)
	token := cloud.Login("developer")
	path := "/v1/instances/" + ours
	b.do("GET", path, header("Authorization", "bearer "+token)).expect(t, 401, "token") // besides the operator's password
	b.do("GET", "/v1/instances", header("Authorization", "bearer x")).expect(t, 403, "a user's token opens")
	b.do("GET", path, as("x y")).expect(t, 401, "token")
	r := b.do("GET", path, as("forged")).expect(t, 401, "token")
	assert.Contains(t, r.Header.Get("WWW-Authenticate"), "Bearer")
	b.do("POST", grantsPath, as(token), body(`{"allow_add":["cf:any"]}`), header("Origin", "https://evil.example")).expect(t, 403, "browser")
	cloud.Fail(capi.Fault{Path: "/", Status: 500})
	r = b.do("GET", path, as(token)).expect(t, 503, "Cloud Controller does not say")
	assert.NotContains(t, r.body, "127.0.0.1")
	cloud.Fail(capi.Fault{})
	b.do("GET", path, as(token))
	cloud.Revoke()
	b.do("GET", path, as(cloud.Login("developer")[1:])).expect(t, 401, "token")

	b.server.Close()
	b.cfg.Permits = nil
	b.serve()
	b.do("GET", path, as(token)).expect(t, 401, "tokens are not accepted here")
}

// Users of one instance take one turn together, and leave the others to others.
func TestUsersOfOneInstanceDoNotKeepOthersWaiting(t *testing.T) {
	var s *slow
	b, cloud := withUsers(t, func(b *testbed) {
		s = &slow{b.store, make(chan struct{}, 3), make(chan struct{})}
		b.cfg.Reader, b.cfg.MaxInFlight, b.cfg.MaxWait = s, 2, 20*time.Millisecond
	})
	developer, somebody := as(cloud.Login("developer")), as(cloud.Login("somebody"))
	release := sync.OnceFunc(func() { close(s.release) })
	defer time.AfterFunc(10*time.Second, release).Stop() // or nobody hears what was wrong
	answers := make(chan int, 2)
	get := func(id string, who change) {
		go func() { answers <- b.do("GET", "/v1/instances/"+id, who).StatusCode }()
		<-s.entered
	}
	get(ours, developer)
	r := b.do("GET", "/v1/instances/"+ours, as(cloud.Login("auditor"))).expect(t, 429, "too many requests")
	assert.NotEmpty(t, r.Header.Get("Retry-After"))
	get(theirs, somebody)
	release()
	for range cap(answers) {
		assert.Equal(t, 200, <-answers)
	}
}

// Whoever reads an instance, however slowly, keeps nobody from changing who may call
// it: the change may be a revocation.
func TestReadersDoNotKeepAManagerFromRevoking(t *testing.T) {
	var s *slow
	b, cloud := withUsers(t, func(b *testbed) {
		s = &slow{b.store, make(chan struct{}, 3), make(chan struct{})}
		b.cfg.Reader, b.cfg.MaxInFlight, b.cfg.MaxWait = s, 8, 50*time.Millisecond
	})
	release := sync.OnceFunc(func() { close(s.release) })
	defer time.AfterFunc(10*time.Second, release).Stop() // or nobody hears what was wrong
	answers := make(chan int, 2)
	send := func(method, path string, changes ...change) {
		go func() { answers <- b.do(method, path, changes...).StatusCode }()
		select {
		case <-s.entered:
		case status := <-answers:
			t.Errorf("%s %s: %d", method, path, status)
			answers <- status
		}
	}
	send("GET", "/v1/instances/"+ours, as(cloud.Login("auditor")))
	send("POST", grantsPath, as(cloud.Login("developer")), body(`{"allow_add":["cf:app:d76446a1-f429-4444-8797-be2f78b75b08"]}`))
	release()
	for range cap(answers) {
		assert.Equal(t, 200, <-answers)
	}
}

// Whatever users read is their instance's, with names of its org alone.
func TestUsersReadNothingOfOthers(t *testing.T) {
	b, cloud := withUsers(t)
	b.site = &grants.Site{Grants: []grants.Grant{mustGrant(t, "cf:space:"+lab)}}
	user := as(cloud.Login("auditor"))
	b.bind(ours, "88888888-8888-4888-8888-888888888888", "a.example", "")
	all := b.do("GET", "/v1/instances/"+ours, user).body + b.do("GET", "/v1/instances/"+ours+"/bindings", user).body
	for _, secret := range []string{"hidden-name", theirs, "66666666", globex, "/v1/audit", "/v1/bindings"} {
		assert.NotContains(t, all, secret)
	}
	for _, shown := range []string{`"owner_name":"known-aa/known-11"`, `"name":"known-aa/known-11/known-d7"`, foreign, "other bindings have the same route: 88888888-8888-4888-8888-888888888888", "another service instance has a binding of this route too"} {
		assert.Contains(t, all, shown)
	}
	operators := b.do("GET", "/v1/instances/"+ours+"/bindings").body + b.do("GET", "/v1/bindings").body
	for _, shown := range []string{"hidden-name/hidden-name/hidden-name", "66666666", "known-aa/known-11/known-d7"} {
		assert.Contains(t, operators, shown)
	}
}

func mustGrant(t *testing.T, source string) grants.Grant {
	t.Helper()
	grant, err := grants.ParseGrant([]byte(`"` + source + `"`))
	require.NoError(t, err)
	return grant
}

// A change of grants is the update of the broker, and no more than that.
func TestUsersChangeGrants(t *testing.T) {
	b, cloud := withUsers(t)
	developer := as(cloud.Login("developer"))
	var shown struct {
		Parameters struct{ Allow []any }
		UpdatedBy  string `json:"updated_by"`
	}
	change := func(text string, who ...change) reply {
		return b.do("POST", grantsPath, append([]change{body(text)}, who...)...)
	}
	r := change(`{"allow_add":["cf:space:`+shop+`"],"allow_remove":["cf:app:`+foreign+`"]}`, developer)
	require.Equal(t, 200, r.StatusCode, r.body)
	b.get("/v1/instances/"+ours, &shown)
	assert.Equal(t, []any{"cf:app:" + frontend, "cf:space:" + shop}, shown.Parameters.Allow)
	assert.Equal(t, "developer", shown.UpdatedBy)
	assert.Len(t, b.store.View().Access("55555555-5555-4555-8555-555555555555").Live(b.now(), nil).Rules, 2, "in force at once")
	entry := b.list("/v1/audit?service_instance_guids=" + ours + "&actions=update").Resources[0]
	assert.Equal(t, []string{"update", "developer"}, []string{entry.Action, *entry.By})
	assert.Contains(t, b.log.String(), `"by":"developer"`)

	for text, says := range map[string]string{
		`{}`:                                     "nothing to change",
		``:                                       "allow_add",
		`[]`:                                     "allow_add",
		`null`:                                   "nothing to change",
		`{"allow_add":["cf:any"],"scope":"any"}`: "unknown member",
		`{"Allow_Add":["cf:any"]}`:               "unknown member",
		`{"mode":"report"}`:                      "unknown member",
		`{"allow":[]}`:                           "unknown member",
		`{"allow_add":["cf:any"]} {}`:            "allow_add",
		`{"allow_add":["cf:app:x"]}`:             "allow_add[0]",
		`{"allow_add":["app:frontend"]}`:         "CF_CLIENT_ID",
		`{"allow_add":[{"source":"cf:any","expires":"2020-01-01T00:00Z"}]}`: "allow_add[0]",
	} {
		change(text, developer).expect(t, 400, says)
	}
	b.do("POST", grantsPath+"?x=1", developer, body(`{"allow_add":["cf:any"]}`)).expect(t, 400, "unknown query parameter")
	b.do("POST", grantsPath, developer, body(`{"allow_add":["cf:any"]}`), func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }).expect(t, 400, "application/json")
	change(`{"allow_add":["cf:any"]}`, asReader).expect(t, 403, "may read and not change")
	assert.Equal(t, 200, change(`{"allow_remove":["cf:space:`+shop+`"]}`).StatusCode)
	b.get("/v1/instances/"+ours, &shown)
	assert.Equal(t, []any{"cf:app:" + frontend}, shown.Parameters.Allow)
	assert.Equal(t, "operator:"+brokers, shown.UpdatedBy)
	cloud.Permit("77777777-7777-4777-8777-777777777777", "developer", capi.Permissions{Read: true, Manage: true})
	b.do("GET", "/v1/instances/77777777-7777-4777-8777-777777777777/bindings", developer).expect(t, 404, "service instance")
	b.do("POST", "/v1/instances/77777777-7777-4777-8777-777777777777/grants", developer, body(`{"allow_add":["cf:any"]}`)).expect(t, 404, "service instance")
}

// A grant by name is shown as its owner wrote it, beside the guid that it stands for.
func TestGrantsByNameAreShownAsTheyWereWritten(t *testing.T) {
	b := newTestbed(t)
	b.create(ours, grants.ScopeOrg, acme, shop, `{"allow":["org:."]}`)
	b.bind(ours, "55555555-5555-4555-8555-555555555555", "a.example", "")
	assert.Contains(t, b.do("GET", "/v1/bindings").body, `"grants":[{"source":"cf:org:`+acme+`","grant":"org:.",`)
}

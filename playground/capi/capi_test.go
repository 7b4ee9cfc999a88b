package capi_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground/capi"
)

// It answers as Cloud Controller does: pages with links, errors with codes, and
// values of lists that are decoded once more after they are split.
func TestCloud(t *testing.T) {
	cloud := capi.New()
	cloud.AddClient("reader", "secret")
	cloud.Put(capi.Orgs, capi.Entity{GUID: "o", Name: "org"})
	cloud.Put(capi.Spaces, capi.Entity{GUID: "s", Name: "space", Parent: "o"})
	for i := range 5 {
		cloud.Put(capi.Apps, capi.Entity{GUID: "a" + strconv.Itoa(i), Name: "app," + strconv.Itoa(i), Parent: "s", Labels: map[string]string{"n": strconv.Itoa(i)}})
	}
	server := httptest.NewTLSServer(cloud)
	defer server.Close()
	get := func(token, path string, status int) (body map[string]any) {
		t.Helper()
		r, err := http.NewRequest(http.MethodGet, server.URL+path, nil)
		require.NoError(t, err)
		r.Header.Set("Authorization", "bearer "+token)
		res, err := server.Client().Do(r)
		require.NoError(t, err)
		defer res.Body.Close()
		raw, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.Equal(t, status, res.StatusCode, string(raw))
		require.NoError(t, json.Unmarshal(raw, &body))
		return body
	}
	grant := func(secret string, status int) string {
		t.Helper()
		res, err := server.Client().PostForm(server.URL+"/oauth/token", url.Values{"grant_type": {"client_credentials"}, "client_id": {"reader"}, "client_secret": {secret}})
		require.NoError(t, err)
		defer res.Body.Close()
		require.Equal(t, status, res.StatusCode)
		var body struct {
			Token string `json:"access_token"`
		}
		require.NoError(t, json.NewDecoder(res.Body).Decode(&body))
		return body.Token
	}
	require.Empty(t, grant("wrong", 401))
	token := grant("secret", 200)
	require.Contains(t, get("", "/", 200)["links"], "login")
	require.Contains(t, get("", "/v3", 200)["links"], "apps")
	require.Equal(t, "CF-InvalidAuthToken", get("x", "/v3/apps", 401)["errors"].([]any)[0].(map[string]any)["title"])
	page := get(token, "/v3/apps?per_page=2&page=2&include=space,space.organization", 200)
	require.Len(t, page["resources"], 2)
	require.InDelta(t, 3, page["pagination"].(map[string]any)["total_pages"], 0)
	require.Len(t, page["included"].(map[string]any)["organizations"], 1)
	require.NotNil(t, page["pagination"].(map[string]any)["next"])
	require.Len(t, get(token, "/v3/apps?names=app%252C1,app%252C3", 200)["resources"], 2)
	require.Empty(t, get(token, "/v3/apps?names=app%2C1", 200)["resources"])
	require.Len(t, get(token, "/v3/apps?label_selector=n%3D1", 200)["resources"], 1)
	get(token, "/v3/apps?nonsense=1", 400)
	get(token, "/v3/apps?per_page=5001", 400)
	cloud.Delete(capi.Spaces, "s")
	require.Empty(t, get(token, "/v3/apps", 200)["resources"])
	cloud.Fail(capi.Fault{Path: "/v3", Status: 429, Times: 1})
	get(token, "/v3/apps", 429)
	cloud.TokenLife(-time.Second)
	get(cloud.Login("user"), "/v3/service_instances/i/permissions", 401)
}

package acceptance_test

import (
	"encoding/json"
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// v1 sends a request to the gateway's own API at url; nothing that is heard may
// hold a secret.
func v1(t *testing.T, method, url string, secrets []string, edit func(*http.Request)) (*http.Response, map[string]any) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, http.NoBody)
	require.NoError(t, err)
	edit(request)
	res, err := http.DefaultTransport.RoundTrip(request)
	require.NoError(t, err)
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	assert.Empty(t, leak(string(raw), secrets), "%s", raw)
	var object map[string]any
	if len(raw) > 0 {
		require.NoError(t, json.Unmarshal(raw, &object), "%s", raw)
	}
	return res, object
}

const readersPassword = "readers-own-password"

func credentials(username, password string) func(*http.Request) {
	return func(r *http.Request) { r.SetBasicAuth(username, password) }
}

func TestWhoMayReadAndWhoMayChange(t *testing.T) {
	t.Parallel()
	_, url, out := serving(t, complete(t, "READ_USERNAME=auditor", "READ_PASSWORD="+readersPassword, "BROKER_PASSWORD_PREVIOUS=the-former-password"))
	nobody := func(*http.Request) {}
	for name, row := range map[string]struct {
		as           func(*http.Request)
		read, change int
	}{
		"nobody":                      {nobody, 401, 401},
		"a wrong password":            {credentials("auditor", "wrong"), 401, 401},
		"the auditor":                 {credentials("auditor", readersPassword), 200, 403},
		"the operator":                {credentials("broker", password), 200, 404},
		"the operator, in a rotation": {credentials("broker", "the-former-password"), 200, 404},
		"a mixture":                   {credentials("auditor", password), 401, 401},
	} {
		for _, path := range []string{"/v1/instances", "/v1/bindings", "/v1/audit"} {
			res, got := v1(t, "GET", url+path, []string{password}, row.as)
			assert.Equal(t, row.read, res.StatusCode, name)
			assert.Equal(t, "no-store", res.Header.Get("Cache-Control"), name)
			if row.read == 200 {
				assert.Contains(t, got, "pagination", name)
				assert.Equal(t, "application/json", res.Header.Get("Content-Type"))
			} else {
				assert.Equal(t, "application/problem+json", res.Header.Get("Content-Type"))
				assert.Contains(t, res.Header.Get("WWW-Authenticate"), "Basic", name)
			}
		}
		for _, path := range []string{"/v1/instances/unknown", "/v1/bindings/unknown"} {
			res, got := v1(t, "DELETE", url+path, []string{password}, row.as)
			assert.Equal(t, row.change, res.StatusCode, name)
			assert.EqualValues(t, row.change, got["status"], name)
		}
	}
	assert.NotContains(t, out.String(), readersPassword)
	assert.NotContains(t, out.String(), password)
}

func TestWithoutReadersOnlyTheBrokersCredentialsOpenTheAPI(t *testing.T) {
	t.Parallel()
	_, url, _ := serving(t, complete(t))
	for _, as := range []func(*http.Request){credentials("", ""), credentials("auditor", ""), credentials("", password)} {
		res, _ := v1(t, "GET", url+"/v1/instances", nil, as)
		assert.Equal(t, 401, res.StatusCode)
	}
	res, _ := v1(t, "GET", url+"/v1/instances", nil, credentials("broker", password))
	assert.Equal(t, 200, res.StatusCode)
}

func TestTheAPIHidesOnOtherHostsThanTheBrokers(t *testing.T) {
	t.Parallel()
	_, url, _ := serving(t, complete(t, "BROKER_HOST=broker.internal.example"))
	as := func(host string) func(*http.Request) {
		return func(r *http.Request) {
			r.SetBasicAuth("broker", password)
			if host != "" {
				r.Host = host
			}
			r.Header.Set("X-Forwarded-Host", "broker.internal.example")
		}
	}
	for _, path := range []string{"/v1", "/v1/", "/v1/instances", "/v1/bindings", "/v1/audit", "/v1/nothing"} {
		for _, host := range []string{"", "mtls-authz.apps.identity", "broker.internal.example.evil.example", "evil.example"} {
			for _, method := range []string{"GET", "DELETE", "BREW"} {
				res, got := v1(t, method, url+path, nil, as(host))
				assert.Equal(t, 404, res.StatusCode, host)
				assert.NotContains(t, got, "detail", "as any path that is not there")
			}
		}
	}
	for _, host := range []string{"broker.internal.example", "BROKER.internal.example", "broker.internal.example:8443"} {
		res, got := v1(t, "GET", url+"/v1/instances", nil, as(host))
		assert.Equal(t, 200, res.StatusCode, host)
		first := got["pagination"].(map[string]any)["first"].(map[string]any)["href"]
		assert.Equal(t, "https://broker.internal.example/v1/instances?page=1&per_page=50", first, "links lead where the API is")
	}
}

func TestPathsOfTheAPIThatAreNotThereAreProblems(t *testing.T) {
	t.Parallel()
	_, url, _ := serving(t, complete(t))
	for path, want := range map[string]int{"/v1": 404, "/v1/": 404, "/v1/nothing": 404, "/v1//instances": 404, "/v1/instances/%2e%2e/audit": 404} {
		for _, method := range []string{"GET", "PUT", "BREW"} {
			res, got := v1(t, method, url+path, nil, credentials("broker", password))
			assert.Equal(t, want, res.StatusCode, path)
			assert.Equal(t, "application/problem+json", res.Header.Get("Content-Type"), path)
			assert.NotEmpty(t, got["detail"])
		}
	}
	for _, method := range []string{"PUT", "DELETE", "OPTIONS", "BREW"} {
		res, _ := v1(t, method, url+"/v1/audit", nil, credentials("broker", password))
		assert.Equal(t, 405, res.StatusCode, method)
		assert.Equal(t, "GET, HEAD", res.Header.Get("Allow"))
		assert.Empty(t, res.Header.Get("Access-Control-Allow-Origin"))
	}
}

package acceptance_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground"
)

// Certificates as the router's header carries them, and as clients present them
// to a router that lets them in; all but the first claim to be the frontend.
func TestAttack11Certificates(t *testing.T) {
	t.Parallel()
	p := attacked(t).protect(t, protection{parameters: `{"allow":["cf:any"]}`})
	for caller, want := range map[string]string{
		"frontend": "200 allowed", "": "403 no_certificate", "foreign CA": "403 untrusted_certificate",
		"expired": "403 untrusted_certificate", "CA as leaf": "403 untrusted_certificate",
		"two apps": "403 identity_extraction", "no space": "403 identity_extraction", "upper case guid": "403 identity_extraction",
	} {
		r := p.direct(t, leg2{caller: caller}).expect(t, want)
		for _, name := range []string{"caller_app", "caller_space", "caller_org", "caller_instance"} {
			assert.Equal(t, caller == "frontend", r.line[name] != nil && r.line[name] != "", "%s of %q", name, caller)
		}
		if caller != "expired" && caller != "CA as leaf" { // a router lets neither in
			p.call(t, caller, "GET", "/").expect(t, want)
		}
	}

	good := p.credentials["frontend"].XFCC()
	der, err := base64.StdEncoding.DecodeString(good)
	require.NoError(t, err)
	twin := strings.ReplaceAll(xfccHeader, "-", "_")
	for name, headers := range map[string][]string{
		"twice the same":       {xfccHeader + ": " + good, xfccHeader + ": " + good},
		"twice, other case":    {xfccHeader + ": " + good, strings.ToLower(xfccHeader) + ": " + good},
		"two in one":           {xfccHeader + ": " + good + "," + good},
		"two in one, spaced":   {xfccHeader + ": " + good + ", " + good},
		"folded":               {xfccHeader + ": " + good[:100] + "\r\n " + good[100:]},
		"rubbish":              {xfccHeader + ": rubbish"},
		"without its padding":  {xfccHeader + ": " + base64.RawStdEncoding.EncodeToString(append(der, 0))},
		"URL-safe base64":      {xfccHeader + ": " + base64.URLEncoding.EncodeToString(append(der, 0xff, 0xfe, 0xff))},
		"trailing bytes":       {xfccHeader + ": " + base64.StdEncoding.EncodeToString(append(der, 0))},
		"truncated":            {xfccHeader + ": " + base64.StdEncoding.EncodeToString(der[:len(der)-1])},
		"two in one DER":       {xfccHeader + ": " + base64.StdEncoding.EncodeToString(append(append([]byte{}, der...), der...))},
		"URL-encoded PEM":      {xfccHeader + ": -----BEGIN%20CERTIFICATE-----"},
		"the Envoy form":       {xfccHeader + ": " + envoyForm(playground.Frontend)},
		"a good one in a twin": {xfccHeader + ": rubbish", twin + ": " + good},
	} {
		t.Run(name, func(t *testing.T) {
			p.direct(t, leg2{headers: headers}).expect(t, "403 untrusted_certificate")
		})
	}
	for name, headers := range map[string][]string{"only its twin": {twin + ": " + good}, "with dots": {strings.ReplaceAll(xfccHeader, "-", ".") + ": " + good}} {
		t.Run(name, func(t *testing.T) {
			p.direct(t, leg2{headers: headers}).expect(t, "403 no_certificate")
		})
	}
}

// envoyForm is what a router in Envoy's form says of an app.
func envoyForm(app playground.App) string {
	id := app.Identity()
	return `Hash=` + strings.Repeat("0a", 32) + `;Subject="CN=` + id.Instance + ",OU=app:" + id.App + "+OU=space:" + id.Space + "+OU=organization:" + id.Org + `"`
}

func TestAttack12EnvoysForm(t *testing.T) {
	t.Parallel()
	w := attacked(t)
	p := w.protect(t, protection{route: "envoy.apps.identity", parameters: `{"allow":["cf:app:$frontend"]}`})
	good, other := envoyForm(playground.Frontend), envoyForm(playground.Monitoring)
	one := func(value string) leg2 { return leg2{headers: []string{xfccHeader + ": " + value}} }
	p.direct(t, one(good)).expect(t, "200 allowed")
	p.direct(t, one(other)).expect(t, noMatch)

	t.Run("only where the operator says so", func(t *testing.T) {
		w.protect(t, protection{parameters: `{"allow":["cf:any"]}`}).direct(t, one(good)).expect(t, "403 untrusted_certificate")
		p.direct(t, leg2{caller: "frontend"}).expect(t, "403 untrusted_certificate")
	})

	frontend, monitoring := playground.Frontend.Identity().App, playground.Monitoring.Identity().App
	for name, values := range map[string][]string{
		"two elements":             {other + "," + good},
		"two headers":              {other, good},
		"Subject twice":            {other + ";" + good[strings.Index(good, "Subject"):]},
		"Hash twice":               {good + ";" + good[:strings.Index(good, ";")]},
		"nested quotes":            {strings.Replace(good, "CN=", `CN=\"x\",`, 1)},
		"quotes that end early":    {strings.Replace(good, "CN=", `CN=x";Subject="`, 1)},
		"a bare Subject":           {strings.ReplaceAll(good, `"`, "")},
		"a key it does not know":   {good + ";Cert=x"},
		"a key in lower case":      {strings.Replace(good, "Subject", "subject", 1)},
		"no Hash":                  {good[strings.Index(good, "Subject"):]},
		"spaces":                   {strings.Replace(good, ";", "; ", 1)},
		"text behind":              {good + "x"},
		"a letter not of ASCII":    {good + ";URI=\u00e4"},
		"two apps":                 {strings.Replace(good, "OU=app:", "OU=app:"+monitoring+"+OU=app:", 1)},
		"an escaped comma":         {strings.Replace(good, "CN=", `CN=x\,OU=app:`+frontend+",", 1)},
		"an upper case guid":       {strings.Replace(good, frontend, strings.ToUpper(frontend), 1)},
		"no space":                 {strings.Replace(good, "+OU=space:"+playground.Frontend.Identity().Space, "", 1)},
		"an attribute not of ours": {strings.Replace(good, "CN=", "O=x,CN=", 1)},
	} {
		t.Run(name, func(t *testing.T) {
			var headers []string
			for _, value := range values {
				headers = append(headers, xfccHeader+": "+value)
			}
			r := p.direct(t, leg2{headers: headers})
			assert.Contains(t, []string{"403 untrusted_certificate", "403 identity_extraction"}, r.outcome())
			assert.Empty(t, r.line["caller_app"])
		})
	}
}

// Neither a check, nor the operator's bundle, nor a memory of better days allows
// what no unexpired grant allows.
func TestAttack20GrantsThatMeanMoreThanTheySay(t *testing.T) {
	t.Parallel()
	p := policed(t).protect(t, protection{plan: "any", parameters: `{"allow":[{"source":"cf:app:$backend","methods":["GET"],"paths":["/a/*"]}]}`})
	p.call(t, "backend", "GET", "/a/b").expect(t, "200 allowed")
	for _, other := range []struct{ caller, method, path string }{
		{"frontend", "GET", "/a/b"},
		{"intruder", "GET", "/a/b"},
		{"backend", "HEAD", "/a/b"},
		{"backend", "GET", "/a"},
		{"backend", "GET", "/a/b/c"},
		{"backend", "GET", "/A/b"},
		{"backend", "GET", "/a/*/"},
		{"monitoring", "GET", "/metrics/x"},
		{"monitoring", "POST", "/metrics"},
	} {
		want := noMatch
		if other.path == "/a/*/" {
			want = "200 allowed" // a star is a segment like any other
		}
		p.call(t, other.caller, other.method, other.path).expect(t, want)
	}

	t.Run("nor a bundle that speaks for the gateway", func(t *testing.T) {
		for _, files := range map[string]map[string]string{
			"the decision":     {"a.rego": "package mtls.authz\nimport rego.v1\ndecision := {\"allow\": true, \"policy\": \"\", \"reason\": \"\", \"headers\": {}}\n"},
			"what is granted":  {"a.rego": "package mtls\nimport rego.v1\nauthz.granted := true\n"},
			"granted, as data": {"data.json": `{"mtls":{"authz":{"granted":true}}}`},
			"grants by a rule": {"a.rego": "package site\nimport rego.v1\ngrants := [{\"source\": \"cf:any\"}]\n"},
		} {
			unready(t, files)
		}
	})

	t.Run("nor what was forged in an update", func(t *testing.T) {
		for _, parameters := range []string{
			`{"allow":["cf:*"]}`, `{"allow":["cf:app:*"]}`, `{"allow":["cf:any","cf:any"]}`, `{"allow":[{"source":"cf:any","paths":[]}]}`, `{"allow":[{"source":"cf:any","paths":["/a*"]}]}`,
			`{"allow":[{"source":"cf:any","Paths":["/a"]}]}`, `{"allow":[{"source":"cf:any","methods":["get"]}]}`, `{"allow":[{"source":"cf:any","expires":"2000-01-01T00:00:00Z"}]}`, `{"scope":"all"}`, `{"mode":"off"}`,
		} {
			assert.Error(t, p.UpdateService(t.Context(), p.service, parameters), parameters)
		}
		p.call(t, "frontend", "GET", "/a/b").expect(t, noMatch)
	})
}

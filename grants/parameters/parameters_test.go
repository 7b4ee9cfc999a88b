package parameters_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mtls-authz/mtls-authz/grants/parameters"

	"github.com/mtls-authz/mtls-authz/grants/route"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/grants"
)

const (
	app   = "cf:app:" + frontend
	app2  = "cf:app:" + metrics
	space = "cf:space:" + shop
	org   = "cf:org:" + acme
)

func TestParametersAreRead(t *testing.T) {
	p := given(t, `{"scope":"org","mode":"report","report_routes":["backend.apps.identity/beta"],"assert":true,
		"allow":["`+app+`",{"source":"`+org+`","methods":["GET","HEAD"],"paths":["/api/**"],"routes":["backend.apps.identity"],
		"expires":"2026-12-31T01:00:00.5+01:00","reason":"INC-1234"}],"labels":{"team":"payments"},"annotations":{"contact":"a@b"}}`)
	assert.Equal(t, grants.ScopeOrg, p.Scope)
	assert.Equal(t, grants.Report, p.Mode)
	assert.True(t, p.Assert)
	assert.True(t, p.Reports())
	assert.Equal(t, []route.Route{{Host: "backend.apps.identity", Path: "/beta"}}, p.ReportRoutes)
	assert.Equal(t, map[string]string{"team": "payments"}, p.Labels)
	assert.Equal(t, map[string]string{"contact": "a@b"}, p.Annotations)
	assert.Equal(t, []grants.Grant{
		{Source: grants.Source{Kind: grants.App, ID: guid(frontend)}},
		{Source: grants.Source{Kind: grants.Org, ID: guid(acme)}, Terms: &grants.Terms{
			Methods: []string{"GET", "HEAD"}, Paths: []route.Pattern{"/api/**"}, Routes: []route.Route{backend},
			Expires: time.Date(2026, 12, 31, 0, 0, 0, 5e8, time.UTC), Reason: "INC-1234",
		}},
	}, p.Allow)
}

func TestNothingGivenIsNothing(t *testing.T) {
	for _, text := range []string{"", "  ", "null", "{}", `{"status":{"routes":[]}}`, `{"allow":null,"scope":null,"mode":null,"labels":null}`} {
		p := given(t, text)
		assert.Equal(t, parameters.Parameters{}, p, text)
		assert.JSONEq(t, `{}`, string(p.JSON()), text)
		assert.False(t, p.Reports())
	}
}

// Each refusal names the offending entry and the way out.
func TestParametersThatAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		parameters string
		words      []string
	}{
		"not JSON":                   {`{`, []string{"malformed JSON"}},
		"a list":                     {`[]`, []string{"expected an object", "array"}},
		"a string":                   {`"cf:any"`, []string{"expected an object", "string"}},
		"two objects":                {`{} {}`, []string{"one JSON object"}},
		"a brace too many":           {`{}}`, []string{"one JSON object"}},
		"a bracket too many":         {`{}]`, []string{"one JSON object"}},
		"unknown field":              {`{"alow":[]}`, []string{`"alow"`, "known are", "allow"}},
		"field in upper case":        {`{"Allow":["cf:any"]}`, []string{`"Allow"`, "known are"}},
		"field with a long s":        {`{"\u017fcope":"any"}`, []string{"unknown parameter"}},
		"unknown scope":              {`{"scope":"all"}`, []string{`scope "all"`, "space, org or any"}},
		"empty scope":                {`{"scope":""}`, []string{`scope ""`}},
		"scope is a number":          {`{"scope":` + strings.Repeat("9", 2000) + `}`, []string{`"scope"`, "expected a string", "number"}},
		"unknown mode":               {`{"mode":"off"}`, []string{`mode "off"`, "enforce or report"}},
		"assert is text":             {`{"assert":"yes"}`, []string{`"assert"`, "true or false"}},
		"report_routes is text":      {`{"report_routes":"a.b"}`, []string{`"report_routes"`, "expected a list"}},
		"report_routes with a null":  {`{"report_routes":[null]}`, []string{"report_routes"}},
		"allow is text":              {`{"allow":"cf:any"}`, []string{`"allow"`, "expected a list"}},
		"allow is an object":         {`{"allow":{"cf:any":true}}`, []string{`"allow"`, "expected a list"}},
		"allow_add at creation":      {`{"allow_add":["cf:any"]}`, []string{"allow_add", "update-service", "write allow here"}},
		"allow_remove at creation":   {`{"allow_remove":["cf:any"]}`, []string{"allow_remove", "update-service"}},
		"label value is a number":    {`{"labels":{"a":1}}`, []string{"labels", "expected a string"}},
		"label value with a space":   {`{"labels":{"team":"a b"}}`, []string{`label "team"="a b"`}},
		"label key empty":            {`{"labels":{"":"a"}}`, []string{`label ""`}},
		"label key with two slashes": {`{"labels":{"a/b/c":"a"}}`, []string{`label "a/b/c"`}},
		"label key too long":         {`{"labels":{"` + strings.Repeat("k", 64) + `":"a"}}`, []string{"label"}},
		"label with a newline":       {`{"labels":{"a":"b\n"}}`, []string{`label "a"="b\n"`}},
		"labels, the first by name":  {`{"labels":{"b":" ","c":" ","a":" "}}`, []string{`label "a"`}},
		"annotation key":             {`{"annotations":{" ":"a"}}`, []string{`annotation " "`}},
		"annotation of two lines":    {`{"annotations":{"a":"b\nc"}}`, []string{"annotation a", "one line"}},
		"annotation too long":        {`{"annotations":{"a":"` + strings.Repeat("x", 5001) + `"}}`, []string{"annotation a", "5001 bytes"}},
		"too many labels":            {`{"labels":{` + many(65, `"k%d":"v"`) + `}}`, []string{"at most 64 labels"}},
		"too many grants":            {`{"allow":[` + many(10_001, `"cf:app:%[1]d"`) + `]}`, []string{"10001 entries", "at most 10000"}},
		"too many report routes":     {`{"report_routes":[` + many(1001, `"a%d.b"`) + `]}`, []string{"1001 entries", "at most 1000"}},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := parameters.ParseInstance([]byte(c.parameters))
			refused(t, err, c.words...)
			assert.Zero(t, p)
			if !strings.Contains(name, "at creation") {
				_, err = given(t, `{}`).Update([]byte(c.parameters), now)
				refused(t, err, c.words...)
			}
		})
	}
}

func many(n int, format string) string {
	parts := make([]string, n)
	for i := range parts {
		parts[i] = fmt.Sprintf(format, i)
	}
	return strings.Join(parts, ",")
}

func TestEntriesThatAreRefused(t *testing.T) {
	entry := func(members string) string { return `{"source":"` + app + `",` + members + `}` }
	for name, c := range map[string]struct {
		entry string
		words []string
	}{
		"null":                       {`null`, []string{"found null"}},
		"a number":                   {`5`, []string{"expected an object", "number"}},
		"a list":                     {`["` + app + `"]`, []string{"expected an object", "array"}},
		"an empty object":            {`{}`, []string{`source ""`}},
		"no source":                  {`{"methods":["GET"]}`, []string{`source ""`}},
		"source is null":             {`{"source":null}`, []string{`"source" is null`}},
		"source is a list":           {`{"source":["` + app + `"]}`, []string{`"source"`, "expected a string"}},
		"unknown source":             {`"cf:app:frontend"`, []string{"cf:app:frontend", "36 characters"}},
		"unknown field":              {entry(`"method":["GET"]`), []string{`"method"`, "known are source, methods"}},
		"field in another case":      {entry(`"Methods":["GET"]`), []string{`"Methods"`, "known are"}},
		"a second source, Source":    {entry(`"Source":"cf:any"`), []string{`"Source"`}},
		"a source with a long s":     {`{"` + "\u017f" + `ource":"cf:any"}`, []string{"unknown field"}},
		"methods is null":            {entry(`"methods":null`), []string{`"methods" is null`, "leave it out"}},
		"methods is text":            {entry(`"methods":"GET"`), []string{`"methods"`, "expected a list"}},
		"methods empty":              {entry(`"methods":[]`), []string{app, "methods is empty", "leave it out"}},
		"methods with a null":        {entry(`"methods":[null]`), []string{`method ""`}},
		"method in lower case":       {entry(`"methods":["get"]`), []string{app, `method "get"`, "upper-case"}},
		"method of two words":        {entry(`"methods":["GET POST"]`), []string{`method "GET POST"`}},
		"method star":                {entry(`"methods":["*"]`), []string{`method "*"`}},
		"CONNECT":                    {entry(`"methods":["CONNECT"]`), []string{`method "CONNECT"`}},
		"TRACE":                      {entry(`"methods":["GET","TRACE"]`), []string{`method "TRACE"`}},
		"method too long":            {entry(`"methods":["` + strings.Repeat("A", 33) + `"]`), []string{"method"}},
		"too many methods":           {entry(`"methods":[` + many(33, `"M%d"`) + `]`), []string{"33 entries", "at most 32"}},
		"paths is null":              {entry(`"paths":null`), []string{`"paths" is null`}},
		"paths empty":                {entry(`"paths":[]`), []string{app, "paths is empty"}},
		"path without a slash":       {entry(`"paths":["/ok","api"]`), []string{app, `path "api"`, "begin with /"}},
		"path with a bad wildcard":   {entry(`"paths":["/a*"]`), []string{`path "/a*"`, "whole segment"}},
		"too many paths":             {entry(`"paths":[` + many(101, `"/%d"`) + `]`), []string{"101 entries"}},
		"routes is null":             {entry(`"routes":null`), []string{`"routes" is null`}},
		"routes empty":               {entry(`"routes":[]`), []string{app, "routes is empty"}},
		"route with a port":          {entry(`"routes":["a.b:443"]`), []string{app, `route "a.b:443"`, "port"}},
		"too many routes":            {entry(`"routes":[` + many(101, `"a%d.b"`) + `]`), []string{"101 entries"}},
		"expires is null":            {entry(`"expires":null`), []string{`"expires" is null`}},
		"expires empty":              {entry(`"expires":""`), []string{app, `expires ""`, "RFC 3339"}},
		"expires is a date":          {entry(`"expires":"2026-12-31"`), []string{`expires "2026-12-31"`, "2026-12-31T00:00:00Z"}},
		"expires without a zone":     {entry(`"expires":"2026-12-31T00:00:00"`), []string{"expires"}},
		"expires with a comma":       {entry(`"expires":"2026-12-31T00:00:00,5Z"`), []string{"expires"}},
		"expires in lower case":      {entry(`"expires":"2026-12-31t00:00:00z"`), []string{"expires"}},
		"expires with a short hour":  {entry(`"expires":"2026-12-31T1:00:00Z"`), []string{"expires"}},
		"expires is a number":        {entry(`"expires":1798675200`), []string{`"expires"`, "expected a string"}},
		"expires on no day":          {entry(`"expires":"2026-02-30T00:00:00Z"`), []string{"expires"}},
		"expires at Go's zero time":  {entry(`"expires":"0001-01-01T00:00:00Z"`), []string{`expires "0001-01-01T00:00:00Z"`}},
		"expires in the year 10000":  {entry(`"expires":"9999-12-31T23:59:59-12:00"`), []string{"expires"}},
		"expires in the year -1":     {entry(`"expires":"0000-01-01T00:00:00+12:00"`), []string{"expires"}},
		"reason of two lines":        {entry(`"reason":"a\nb"`), []string{app, "reason", "one line"}},
		"reason turned around":       {entry(`"reason":"\u202eabc"`), []string{"reason", "printable"}},
		"reason with terminal codes": {entry(`"reason":"\u001b[31m"`), []string{"reason"}},
		"reason too long":            {entry(`"reason":"` + strings.Repeat("x", 256) + `"`), []string{"256 bytes", "at most 255"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := grants.ParseGrant([]byte(c.entry))
			require.Error(t, err)
			for _, name := range []string{"allow", "allow_add", "allow_remove"} {
				entries := `{"` + name + `":["` + app2 + `",` + c.entry + `]}`
				_, err := given(t, `{}`).Update([]byte(entries), now)
				refused(t, err, append(c.words, name+"[1]")...)
			}
			_, err = parameters.ParseBinding([]byte(`{"allow":["` + app2 + `",` + c.entry + `]}`))
			refused(t, err, append(c.words, "allow[1]")...)
		})
	}
}

func TestParseGrantReadsOneValue(t *testing.T) {
	for _, text := range []string{`"cf:any"`, ` "cf:any" `, `{"source":"cf:any"}`, "\n{ \"source\" : \"cf:any\" }"} {
		grant, err := grants.ParseGrant([]byte(text))
		require.NoError(t, err, text)
		assert.Equal(t, grants.Grant{Source: grants.Source{Kind: grants.Any}}, grant)
		assert.False(t, grant.IsConditional())
	}
	for _, text := range []string{``, ` `, `cf:any`, `"cf:any" "cf:any"`, `"cf:any"x`, `{"source":"cf:any"}{}`, `{"source":"cf:any"} x`, `{"source":"cf:any"`, `"cf:any`} {
		grant, err := grants.ParseGrant([]byte(text))
		assert.Error(t, err, text)
		assert.Zero(t, grant, text)
	}
}

func TestListsThatContradictThemselves(t *testing.T) {
	get := func(source string) string { return `{"source":"` + source + `","methods":["GET"]}` }
	for name, c := range map[string]struct {
		entries []string
		words   []string
	}{
		"twice the same":              {[]string{app, space, app}, []string{"[2]", app, "twice"}},
		"twice, once with a reason":   {[]string{app, `{"source":"` + app + `","reason":"x"}`}, []string{"[1]", app, "twice"}},
		"twice the same conditions":   {[]string{get(app), get(app2), get(app)}, []string{"[2]", app, "twice"}},
		"twice, in another order":     {[]string{`{"source":"` + app + `","methods":["GET","PUT"]}`, `{"methods":["PUT","GET"],"source":"` + app + `"}`}, []string{"[1]", "twice"}},
		"twice, but for a slash":      {[]string{`{"source":"` + app + `","paths":["/a"]}`, `{"source":"` + app + `","paths":["/a/"]}`}, []string{"[1]", "twice"}},
		"twice, but for the zone":     {[]string{`{"source":"` + app + `","expires":"2026-12-31T00:00:00Z"}`, `{"source":"` + app + `","expires":"2026-12-31T01:00:00+01:00"}`}, []string{"[1]", "twice"}},
		"with and without conditions": {[]string{app, app2, get(app)}, []string{"[2]", app, "with and without"}},
		"without and with":            {[]string{get(app), app}, []string{"[1]", app, "with and without"}},
		"expiry counts as condition":  {[]string{app, `{"source":"` + app + `","expires":"2026-12-31T00:00:00Z"}`}, []string{"[1]", "with and without"}},
		"any beside an app":           {[]string{app, "cf:any"}, []string{"[1]", "cf:any", "beside"}},
		"an app beside any":           {[]string{"cf:any", get(space), app}, []string{"[0]", "cf:any", "beside"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parameters.ParseInstance([]byte(`{"allow":` + list(c.entries...) + `}`))
			refused(t, err, c.words...)
			assert.ErrorContains(t, err, "allow[")
			_, err = given(t, `{}`).Update([]byte(`{"allow_add":`+list(c.entries...)+`}`), now)
			refused(t, err, c.words...)
			assert.ErrorContains(t, err, "allow_add[")
		})
	}
	for name, entries := range map[string][]string{
		"any with conditions beside an app":   {app, get("cf:any")},
		"an app with conditions beside any":   {"cf:any", get(app)},
		"one source with several conditions":  {get(app), `{"source":"` + app + `","methods":["PUT"]}`},
		"the same guid as another kind":       {app, "cf:space:" + frontend},
		"one guid with a reason":              {`{"source":"` + app + `","reason":"INC-1"}`, app2},
		"methods given twice within an entry": {`{"source":"` + app + `","methods":["GET","GET"]}`},
	} {
		t.Run(name, func(t *testing.T) { allowing(t, entries...) })
	}
}

func TestBindingTakesWhatCannotNeedAnUpdate(t *testing.T) {
	p, err := parameters.ParseBinding([]byte(`{"allow":["` + app + `"],"scope":"space","labels":{"a":"b"},"annotations":{"c":"d"},"status":{}}`))
	require.NoError(t, err)
	assert.Len(t, p.Allow, 1)
	for name, value := range map[string]string{"mode": `"report"`, "report_routes": `[]`, "assert": `true`} {
		for _, v := range []string{value, "null"} {
			_, err := parameters.ParseBinding([]byte(`{"` + name + `":` + v + `}`))
			refused(t, err, `"`+name+`"`, "allow, scope, labels and annotations only", "service instance")
		}
	}
	_, err = parameters.ParseBinding([]byte(`{"allow_add":["cf:any"]}`))
	refused(t, err, "allow_add")
	p, err = parameters.ParseBinding([]byte(`{"mtls_allowed_apps":"` + frontend + `"}`))
	require.NoError(t, err, "the flat form is allow")
	assert.Equal(t, app, p.Allow[0].Source.String())
}

// Parameters name routes in the one spelling in which they are compared.
func TestRoutesInParametersAreExact(t *testing.T) {
	for _, name := range []string{"Backend.apps", "backend.apps/", "backend.apps/Beta", "backend.apps:443", "10.0.0.1", "backend.apps/b/"} {
		for _, text := range []string{
			`{"allow":[{"source":"cf:any","routes":["` + name + `"]}]}`,
			`{"report_routes":["` + name + `"]}`,
		} {
			_, err := parameters.ParseInstance([]byte(text))
			refused(t, err, "routes", `"`+name+`"`)
		}
	}
}

package grants_test

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/parameters"
	"github.com/mtls-authz/mtls-authz/grants/route"
	"github.com/mtls-authz/mtls-authz/identity"
)

var sourceGrammar = regexp.MustCompile(`\Acf:(?:any|(?:app|space|org):[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\z`)

// FuzzSource: a source is refused, or has one spelling.
func FuzzSource(f *testing.F) {
	for _, s := range []string{"cf:any", app, space, org, "cf:app:", "cf:app:" + nobody, "cf:app:" + strings.ToUpper(frontend), "app:x", "app:a/b", "app:a/b/c", "space:m", "org:.", "org:x", "apps", "cf:any ", "cf:app:" + frontend + "\n", "cf:any:x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		source, err := grants.ParseSource(s)
		byName := err == nil && source.Kind == grants.Named
		require.Equal(t, sourceGrammar.MatchString(s) && !strings.HasSuffix(s, nobody), err == nil && !byName, "%v", err)
		if err != nil {
			require.Zero(t, source)
			return
		}
		require.Equal(t, s, source.String())
	})
}

// FuzzGrant: an entry is refused, or reads back the same from its canonical
// form, and allows the same.
func FuzzGrant(f *testing.F) {
	for _, entry := range []string{
		`"cf:any"`, `"` + app + `"`, `{"source":"cf:any","methods":["GET","GET"],"paths":["/a/"],"routes":["*.a.b/c"],"expires":"2026-12-31T00:00:00.5+01:00","reason":"r"}`,
		`{"source":"cf:any"}`, `{"source":"cf:any","methods":[]}`, `{"source":"cf:any","Source":"cf:any"}`, `{"source":"cf:any","expires":"0001-01-01T00:00:00Z"}`, ` "cf:any" x`, `null`, `[]`,
		`"app:frontend"`, `{"source":"apps","space":"m","labels":"a=b,c=d"}`, `{"source":"apps","space":"m","labels":"!a"}`, `{"source":"cf:any","space":"m","labels":"a=b"}`,
	} {
		f.Add([]byte(entry))
	}
	f.Fuzz(func(t *testing.T, entry []byte) {
		grant, err := grants.ParseGrant(entry)
		if err != nil {
			require.Zero(t, grant)
			return
		}
		require.NotEmpty(t, grant.Source.String())
		canonical, err := json.Marshal(grant)
		require.NoError(t, err)
		again, err := grants.ParseGrant(canonical)
		require.NoError(t, err, "%s", canonical)
		require.Equal(t, grant, again)
		require.Equal(t, grant.Identity(), again.Identity())
		if grant.Terms == nil {
			require.False(t, grant.Expired(now))
		}
	})
}

// patternMatches is the pattern language once more: recursive, over segments.
func patternMatches(pattern, segments []string) bool {
	switch {
	case len(pattern) == 0:
		return len(segments) == 0
	case pattern[0] == "**":
		return true
	case len(segments) == 0:
		return false
	}
	return (pattern[0] == "*" || pattern[0] == segments[0]) && patternMatches(pattern[1:], segments[1:])
}

// allows says of one grant whether it lets a caller do this.
func allows(grant grants.Grant, who identity.Caller, method string, segments []string) bool {
	switch named := strings.TrimPrefix(grant.Source.String(), "cf:"); named {
	case "any", "app:" + who.App.String(), "space:" + who.Space.String(), "org:" + who.Org.String():
	default:
		return false
	}
	if terms := grant.Terms; terms != nil {
		path := func(p route.Pattern) bool { return patternMatches(route.Segments(string(p)), segments) }
		return (terms.Expires.IsZero() || now.Before(terms.Expires)) &&
			(terms.Methods == nil || slices.Contains(terms.Methods, method)) &&
			(terms.Paths == nil || slices.ContainsFunc(terms.Paths, path)) &&
			(terms.Routes == nil || slices.Contains(terms.Routes, backend))
	}
	return true
}

// entryOf builds an entry from a selector: two bits for the source, then one
// each for methods, for paths, for a route that is not the bound one, for an
// expiry, and for whether that is past.
func entryOf(selector uint8, method, pattern string) string {
	entry := map[string]any{"source": []string{app, space, org, "cf:any"}[selector&3]}
	if selector&4 != 0 {
		entry["methods"] = []string{method}
	}
	if selector&8 != 0 {
		entry["paths"] = []string{pattern}
	}
	if selector&16 != 0 {
		entry["routes"] = []string{"other.apps.identity"}
	}
	if selector&32 != 0 {
		entry["expires"] = now.Add(time.Duration(int(selector>>6&1)*2-1) * time.Second).Format(time.RFC3339)
	}
	text, _ := json.Marshal(entry)
	return string(text)
}

// FuzzMatch: a request is allowed if and only if one of the grants, looked at
// one by one, allows it; and nobody is never allowed.
func FuzzMatch(f *testing.F) {
	f.Add(uint8(0), uint8(2+4+8), "GET", "/api/*/x", "GET", "/api/1/x")
	f.Add(uint8(3+4), uint8(2+8+32), "HEAD", "/m/**", "HEAD", "/m")
	f.Add(uint8(1+32), uint8(3+8+32+64), "GET", "/", "GET", "//")
	f.Add(uint8(3+16), uint8(8), "GET", "/*", "PUT", "/*/")
	f.Add(uint8(3+8), uint8(0), "GET", "/a/*/**", "GET", "/a/b")
	callers := []identity.Caller{caller, callerOf(metrics, shop, globex), callerOf(metrics, billing, acme), callerOf(shop, frontend, globex), {}}
	f.Fuzz(func(t *testing.T, first, second uint8, granted, pattern, method, path string) {
		p, err := parameters.ParseInstance([]byte(`{"allow":[` + entryOf(first, granted, pattern) + `,` + entryOf(second, granted, pattern) + `]}`))
		if err != nil {
			return
		}
		l := parameters.NewAccess(bound(p)).Live(now, nil)
		segments := route.Segments(path)
		for _, who := range callers {
			want := !who.IsZero() && slices.ContainsFunc(p.Allow, func(g grants.Grant) bool { return allows(g, who, method, segments) })
			rule, ok := l.Match(who, method, segments)
			require.Equal(t, want, ok)
			if ok {
				require.True(t, allows(rule.Grant, who, method, segments), "the rule that is named allows it")
			}
		}
	})
}

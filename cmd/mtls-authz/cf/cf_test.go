package cf_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/cf"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/identity"
)

func TestQuotedForAShell(t *testing.T) {
	for _, args := range [][]string{
		{"plain-name_1.2/x:y@z"}, {""}, {"a b"}, {"it's"}, {`"$(id)"`}, {"`id`"}, {`back\slash`}, {"new\nline"}, {"*"}, {"~"}, {"a;b|c&d"}, {"#x"}, {"ü"}, {"a", "b c", "'"}, {"!!"}, {"{a,b}"}, {"x=y"},
	} {
		shown := cf.Quote(args...)
		said, err := exec.CommandContext(t.Context(), "sh", "-c", `printf '%s\0' `+shown).Output()
		require.NoError(t, err, shown)
		want := ""
		for _, arg := range args {
			want += arg + "\x00"
		}
		assert.Equal(t, want, string(said), shown)
	}
}

// answering is a cf that answers with the script.
func answering(t *testing.T, script string) *cf.CLI {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "cf"), []byte("#!/bin/sh\n"+script+"\n"), 0o700))
	t.Setenv("PATH", dir+":/usr/bin:/bin")
	cli, err := cf.Find()
	require.NoError(t, err)
	return cli
}

const (
	guid    = "3b1c8a52-9d1f-4a0e-8c55-6f2a1d0e7b34"
	secret  = "https://authz.example/r/binding/SECRET"
	escapes = `\033[2J`
)

// What is no answer of Cloud Controller is an error that shows nothing of it.
func TestStrangeAnswers(t *testing.T) {
	for name, c := range map[string]struct{ script, want string }{
		"a page for people":      {`echo '<html>` + secret + `'`, "expected JSON"},
		"nothing":                {`true`, "expected JSON"},
		"another shape":          {`echo '{"resources":{"route_service_url":"` + secret + `"}}'`, "another shape"},
		"no list":                {`echo '{"name":"` + secret + `"}'`, "expected a list"},
		"an error":               {`echo '{"errors":[{"title":"CF-NotAuthorized","detail":"You are not authorized","code":10003}]}'`, "You are not authorized (CF-NotAuthorized)"},
		"not logged in":          {`echo '{"errors":[{"title":"CF-InvalidAuthToken","detail":"Invalid Auth Token","code":1000}]}'`, "use cf login"},
		"no guid":                {`echo '{"resources":[{"name":"acme","guid":"../x"}]}'`, "guid"},
		"pages without end":      {`echo '{"pagination":{"next":{"href":"x"}},"resources":[]}'`, "more than 200 pages"},
		"a failure":              {`echo FAILED; echo 'No API endpoint set.' >&2; exit 1`, "cf curl: No API endpoint set"},
		"a failure in silence":   {`exit 3`, "exit status 3"},
		"a failure in colours":   {`printf 'red ` + escapes + `\nend' >&2; exit 1`, "red [2J end"},
		"a name that is like it": {`echo '{"resources":[{"name":"ACME","guid":"` + guid + `"}]}'`, "not found"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := answering(t, c.script).Org(t.Context(), "acme")
			require.ErrorContains(t, err, c.want)
			assert.NotContains(t, err.Error(), "SECRET")
			assert.NotContains(t, err.Error(), "\x1b")
		})
	}
}

// Whatever cf takes for a name: what has another one is not meant.
func TestATargetHasTheName(t *testing.T) {
	cli := answering(t, `case "$1" in curl) printf '{"guid":"`+guid+`","name":"x,y"}';; *) echo `+guid+`;; esac`)
	for _, kind := range []string{"app", "space", "org"} {
		found, err := cli.Target(t.Context(), kind, "x,y")
		require.NoError(t, err)
		assert.Equal(t, guid, found.String())
		for _, name := range []string{"x%2Cy", "X,y", "x,y "} {
			_, err = cli.Target(t.Context(), kind, name)
			require.ErrorIs(t, err, cf.ErrNotFound, name)
			require.ErrorContains(t, err, `cf takes "x,y" for it`)
		}
	}
}

// Where a route is bound is told exactly, or not at all.
func TestBindingsThatCannotBeTold(t *testing.T) {
	binding := func(route string) string {
		return `{"relationships":{"route":{"data":{"guid":"` + route + `"}},"service_instance":{"data":{"guid":"` + guid + `"}}}}`
	}
	const routes = `"included":{"routes":[{"guid":"r","url":"backend.apps.identity"},{"guid":"tcp","url":"tcp.apps.identity:1024"}],"service_instances":[{"guid":"` + guid + `","type":"user-provided","name":"mine"}]}`
	for want, bindings := range map[string]string{
		`bound to "mine", a user-provided service`: binding("r"),
		"of a route that is not shown":             binding("hidden"),
		"it has a port":                            binding("tcp"),
	} {
		_, err := answering(t, `printf '%s' '{"resources":[`+bindings+`],`+routes+`}'`).BoundTo(t.Context(), "r")
		require.ErrorContains(t, err, want)
	}
	managed := strings.Replace(routes, "user-provided", "managed", 1)
	_, err := answering(t, `printf '%s' '{"resources":[`+binding("r")+`,`+binding("r")+`],`+managed+`}'`).BoundTo(t.Context(), "r")
	require.ErrorContains(t, err, "expected one binding, found several")
	none, err := answering(t, `echo '{"resources":[]}'`).BoundTo(t.Context(), "r")
	require.NoError(t, err)
	assert.Empty(t, none)
}

func TestTracesAreSwitchedOff(t *testing.T) {
	t.Setenv("CF_TRACE", "true")
	cli := answering(t, `[ "$CF_TRACE" = false ] && echo '{"resources":[{"name":"acme","guid":"`+guid+`"}]}'`)
	found, err := cli.Org(t.Context(), "acme")
	require.NoError(t, err)
	assert.Equal(t, guid, found.String())
}

// A name is only a convenience: without it the guid is shown.
func TestNamesMayBeMissing(t *testing.T) {
	id, err := identity.ParseGUID(guid)
	require.NoError(t, err)
	app := grants.Source{Kind: grants.App, ID: id}
	assert.Empty(t, answering(t, `exit 1`).Names(t.Context(), []grants.Source{app}))
	named := answering(t, `printf '{"resources":[{"name":"a`+`\\u001b'"[2J"'","guid":"`+guid+`"}]}'`)
	assert.Equal(t, map[grants.Source]string{app: "a[2J"}, named.Names(t.Context(), []grants.Source{app}))
}

func TestOnlyACfOfThePath(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "cf"), []byte("#!/bin/sh\n"), 0o700))
	t.Chdir(dir)
	t.Setenv("PATH", ".:/nowhere")
	_, err := cf.Find()
	require.ErrorContains(t, err, "the cf command is needed")
}

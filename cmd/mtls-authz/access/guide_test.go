package access_test

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/cf/cftest"
)

var update = flag.Bool("update", false, "write what the commands of the guide print into it")

// fenced is a block of commands, and one of what they print if it follows.
var fenced = regexp.MustCompile("(?ms)^```sh\n(.*?)^```\n(?:```text\n(.*?)^```\n)?")

// inGuide are the answers of the gateway in the guide: of /v1, whose own tests hold
// these forms.
var inGuide = map[string]string{
	"GET /v1/routes/backend.apps.identity": `route      backend.apps.identity
scope      org (plan org)
owner      space ` + space + `, organization ` + org + `
binding    7f0d2c1e-5a43-4b7a-9e11-2d6c8b9a0f15 of service instance ` + authz + `
mode       enforce
policy     4f0c9e2b7a61d35885e0c4f19b27a6d3, no checks
last used  2026-11-22T10:15:03Z

WHO MAY CALL                                 CONDITIONS    ORIGIN    EXPIRES  LAST ALLOWED
cf:app:` + scraper + `  GET /metrics  instance  -        -
cf:app:` + app + `  -             instance  -        2026-11-22T10:15:03Z
`,
	"POST /v1/decide": `outcome   denied no_matching_grant
policy    route:no_matching_grant
step      decide
detail    denied by policy
caller    app ` + scraper + `, space ` + second + `, organization ` + org + `
request   DELETE https://backend.apps.identity/items/1
route     backend.apps.identity (binding 7f0d2c1e-5a43-4b7a-9e11-2d6c8b9a0f15, mode enforce)
grant     {"source":"cf:app:` + scraper + `","methods":["GET"],"paths":["/metrics"]} (instance): method DELETE is not one of GET
grant     "cf:app:` + app + `" (instance): not the caller's, which is cf:app:` + scraper + `
remedy    a grant to the caller: cf update-service SERVICE -c '{"allow_add":["cf:app:` + scraper + `"]}'
`,
	"GET /v1/decisions/5f1c2a9e-0d4b-4c8e-9b1a-7e6d5c4b3a21": "outcome   denied no_matching_grant\n",
}

// Every command of the guide for developers runs, in one shell, and prints what the
// guide says. -update writes what it prints.
func TestTheGuideForDevelopers(t *testing.T) {
	t.Parallel()
	const name = "../../../docs/developers.md"
	text, err := os.ReadFile(name)
	require.NoError(t, err)
	document := string(text)
	f := foundation()
	f.Routes, f.Apps[1].Labels = f.Routes[:1], "team=payments"
	f.Policies = []cftest.Policy{{GUID: "p", Route: f.Routes[0].GUID, Source: "cf:space:" + second}}
	cf := cftest.New(t, f)
	executable, err := os.Executable()
	require.NoError(t, err)
	require.NoError(t, os.Symlink(executable, filepath.Join(cf.Dir, "mtls-authz")))
	answers := bindings(t, nil, boundTo("backend.apps.identity", "cf:app:"+app, map[string]any{"source": "cf:app:" + scraper, "methods": []string{"GET"}, "paths": []string{"/metrics"}}))
	for path, answer := range inGuide {
		answers[path] = answer
	}

	const mark = "-- end of block --\n"
	script := ""
	blocks := fenced.FindAllStringSubmatchIndex(document, -1)
	require.GreaterOrEqual(t, len(blocks), 9)
	for _, at := range blocks {
		script += document[at[2]:at[3]] + "printf -- '" + strings.TrimSuffix(mark, "\n") + "\\n'\n"
	}
	command := exec.CommandContext(t.Context(), "sh", "-c", script)
	command.Dir, command.Env = t.TempDir(), slices.Concat(cf.Environ(), serve(t, answers).environ(), []string{"CF_TRACE=false"})
	said, err := command.CombinedOutput()
	require.NoError(t, err, "%s", said)
	outputs := strings.Split(string(said), mark)
	require.Len(t, outputs, len(blocks)+1)

	updated, last := "", 0
	for i, at := range blocks {
		if at[4] < 0 {
			assert.NotContains(t, outputs[i], "mtls-authz:", "no error is left out of the guide")
			continue
		}
		updated += document[last:at[4]] + outputs[i]
		last = at[5]
		if !*update {
			assert.Equal(t, document[at[4]:at[5]], outputs[i], document[at[2]:at[3]])
		}
	}
	if *update {
		require.NoError(t, os.WriteFile(name, []byte(updated+document[last:]), 0o644))
	}
}

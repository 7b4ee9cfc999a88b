package acceptance_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground"
	"github.com/mtls-authz/mtls-authz/playground/capi"
)

// cfOfTheGuide is cf as the commands of docs/api.md use it.
const cfOfTheGuide = `#!/bin/sh
case "$*" in
"service my-authz --guid") echo "$GUIDE_INSTANCE" ;;
oauth-token) echo "bearer $GUIDE_TOKEN" ;;
"curl /v3/service_instances/"*) echo '{"errors":[{"code":10010,"title":"CF-ResourceNotFound","detail":"Service instance not found"}]}' ;;
"curl /v3/routes?hosts="*) echo '{"resources":[{"url":"backend.apps.example.com","relationships":{"space":{"data":{"guid":"0a1b8c6e-7d0e-4b8e-93fd-1f4a3d2b9c10"}}}}]}' ;;
*) echo "cf $*: the guide has a command that this test does not know" >&2; exit 1 ;;
esac
`

// said are what the commands of the guide print: by a part of the command, what must
// be in its output.
var said = []struct{ command, prints string }{
	{"$API/instances\n", `"resources":\[`},
	{"$API/instances/$ID/grants", `WHO MAY CALL[\s\S]*"reason":"no_matching_grant"[\s\S]*"allow":`},
	{`"$API/instances" | jq .`, `"plan": "org"`},
	{"$API/bindings/7f0d2c1e", `"origin": "instance"`},
	{"/bindings?routes=", `(?m)^\S+\tcf:app:\S+\tinstance$`},
	{"$API/routes/backend", `WHO MAY CALL +CONDITIONS[\s\S]*LAST REFUSALS[\s\S]*no_matching_grant`},
	{"$API/decide", `"allowed":true[\s\S]*"remedies":`},
	{"$API/decisions/", `"decision_id":[\s\S]*"reason":"no_matching_grant"`},
	{"/audit?actions=delete", `"action": "delete"`},
	{"/bindings?route=x", `unknown query parameter`},
	{"-X DELETE", `^HTTP/1.1 204 No Content`},
	{"is not in Cloud Controller", `(?m)^\S+ is not in Cloud Controller$`},
	{"select(.warnings != [])", `(?m)^\S+\t\S+\tother bindings have the same route: `},
	{`cf curl "/v3/routes?hosts=`, `^backend.apps.example.com\t0a1b8c6e`},
}

// Every command of docs/api.md runs against a gateway, in the order of the page and in
// one shell, and prints what the page says: the same members of JSON, the same
// sentences.
func TestTheCommandsOfTheAPIGuide(t *testing.T) {
	t.Parallel()
	jq, err := exec.LookPath("jq")
	require.NoError(t, err, "run make setup")
	cloud := cloudOf(playground.Frontend, playground.Backend, playground.Monitoring)
	server := httptest.NewTLSServer(cloud)
	defer server.Close()
	w := start(t, setup{env: append(askedBy(server, time.Hour), "READ_USERNAME=monitor", "READ_PASSWORD="+markedReader)})
	w.addSecrets("secret-of-the-client", markedReader)
	p := w.protect(t, protection{parameters: `{"allow":["cf:app:$frontend"]}`})
	ids := map[string]string{"7f0d2c1e-5a43-4b7a-9e11-2d6c8b9a0f15": p.bound.GUID}
	for _, id := range []string{"deleted", "c2a9e8d4-1b7c-4f56-8a3e-90d1f4b6e7a8", "another"} {
		service, err := w.CreateService(t.Context(), t.Name()+" "+id, "org", playground.Backend, names.Replace(`{"allow":["cf:app:$frontend"]}`))
		require.NoError(t, err)
		again, url, err := w.BindRoute(t.Context(), service, p.route, "")
		require.NoError(t, err)
		w.addSecrets(url[strings.LastIndex(url, "/")+1:])
		ids[id] = again.GUID
	}
	require.NoError(t, w.Router.Bind(p.route, p.url)) // the others are of binds whose answer got lost
	status, answer := w.askAs(t, "", http.MethodDelete, "/v1/bindings/"+ids["deleted"], "")
	require.Equal(t, http.StatusNoContent, status, answer)
	p.call(t, "frontend", "GET", "/").expect(t, allowed)
	refused := p.call(t, "monitoring", "GET", "/").expect(t, noMatch)
	ids["5f1c2a9e-0d4b-4c8e-9b1a-7e6d5c4b3a21"] = refused.header.Get(decisionHeader)
	for path, told := range map[string]string{ // refusals and names, which come a little later
		"/v1/decisions/" + refused.header.Get(decisionHeader): "no_matching_grant", "/v1/instances/" + p.service.GUID + "/denials": "no_matching_grant",
		"/v1/instances": `"owner_name"`, "/v1/bindings/" + p.bound.GUID: `"name"`,
	} {
		require.NoError(t, until(path, func() error {
			if _, answer := w.askAs(t, "", http.MethodGet, path, ""); !strings.Contains(answer, told) {
				return fmt.Errorf("not yet: %s", answer)
			}
			return nil
		}))
	}
	cloud.Permit(p.service.GUID, "user-developer", capi.Permissions{Read: true, Manage: true})
	token := cloud.Login("user-developer")
	w.addSecrets(token)
	pairs := []string{
		"https://mtls-authz.apps.example.com", w.Controller.URL, "auditor:PASSWORD", "monitor:" + markedReader, "operator:PASSWORD", w.Controller.Username + ":" + w.Controller.Password,
		"backend.apps.example.com", p.host, "d76446a1-f429-4444-8797-be2f78b75b08", playground.Frontend.Identity().App,
	}
	for documented, real := range ids {
		pairs = append(pairs, documented, real)
	}
	here := strings.NewReplacer(pairs...)

	bin := filepath.Join(t.TempDir(), "bin")
	require.NoError(t, writeFiles(bin, map[string]string{"cf": cfOfTheGuide}))
	require.NoError(t, os.Chmod(filepath.Join(bin, "cf"), 0o700))
	run := func(script string) (outputs []string) {
		command := exec.CommandContext(t.Context(), "sh", "-c", script)
		command.Env = append(os.Environ(), "PATH="+bin+":"+filepath.Dir(jq)+":"+os.Getenv("PATH"), "GUIDE_INSTANCE="+p.service.GUID, "GUIDE_TOKEN="+token)
		printed, err := command.Output()
		require.NoError(t, err)
		return strings.Split(string(printed), mark)
	}
	guide := commandsOf(t, "../docs/api.md")
	script := ""
	for _, one := range guide {
		script += here.Replace(one.command) + "printf '" + mark + "'\n"
	}
	outputs := run(script)
	require.Len(t, outputs, len(guide)+1)
	rest := slices.Clone(said)
	for i, one := range guide {
		at := slices.IndexFunc(rest, func(s struct{ command, prints string }) bool { return strings.Contains(one.command, s.command) })
		if !assert.GreaterOrEqual(t, at, 0, "nobody says what this prints: %s", one.command) {
			continue
		}
		assert.Regexp(t, rest[at].prints, outputs[i], one.command)
		rest = slices.Delete(rest, at, at+1)
		if one.json != "" {
			assert.Equal(t, membersOf(t, one.json), membersOf(t, outputs[i]), one.command)
		}
	}
	assert.Empty(t, rest, "the guide has no such command any more")
}

// mark ends the output of a block.
const mark = "(end of block)"

// guideCommand is a block of commands, and the JSON that the page shows after it.
type guideCommand struct{ command, json string }

// fence is a block without a language, or of JSON.
var fence = regexp.MustCompile("(?ms)^```(json|)\n(.*?)^```$")

// commandsOf are the blocks of a page that are commands: their first line is one of
// curl's or cf's, or names what is used later.
func commandsOf(t *testing.T, name string) (all []guideCommand) {
	t.Helper()
	text, err := os.ReadFile(name)
	require.NoError(t, err)
	end := 0
	for _, at := range fence.FindAllStringSubmatchIndex(string(text), -1) {
		language, block, between := string(text[at[2]:at[3]]), string(text[at[4]:at[5]]), string(text[end:at[0]])
		switch {
		case regexp.MustCompile(`^(curl|cf|API=|ID=)`).MatchString(block):
			all = append(all, guideCommand{command: block})
		case language == "json" && len(all) > 0 && strings.TrimSpace(between) == "":
			all[len(all)-1].json = block
		}
		end = at[1]
	}
	require.Greater(t, len(all), 10)
	return all
}

// membersOf are the paths of all members of a text of JSON, and no values.
func membersOf(t *testing.T, text string) (paths []string) {
	t.Helper()
	var value any
	require.NoError(t, json.Unmarshal([]byte(text), &value), text)
	var walk func(path string, value any)
	walk = func(path string, value any) {
		switch v := value.(type) {
		case map[string]any:
			for name, member := range v {
				walk(path+"."+name, member)
			}
		case []any:
			for _, member := range v {
				walk(path+"[]", member)
			}
		default:
			paths = append(paths, path)
		}
	}
	walk("", value)
	slices.Sort(paths)
	return slices.Compact(paths)
}

package grant_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/cf/cftest"
	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/grant"
)

// The test's executable is also the cf command and the command under test, each
// in a process of its own.
func TestMain(m *testing.M) {
	cftest.Main()
	if filepath.Base(os.Args[0]) == "mtls-authz" {
		os.Exit(command(os.Args[1:]))
	}
	os.Exit(m.Run())
}

func command(args []string) int {
	var commands struct {
		Grant grant.Command `cmd:""`
	}
	parser, err := kong.New(&commands, kong.BindTo(context.Background(), (*context.Context)(nil)))
	if err != nil {
		panic(err)
	}
	parsed, err := parser.Parse(args)
	if err == nil {
		err = parsed.Run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "mtls-authz:", err)
		return 1
	}
	return 0
}

const (
	frontend   = "d76446a1-f429-4444-8797-be2f78b75b08"
	odd        = "0f7c3a52-9d1f-4a0e-8c55-6f2a1d0e7b01"
	scraper    = "1f7c3a52-9d1f-4a0e-8c55-6f2a1d0e7b02"
	foreign    = "2f7c3a52-9d1f-4a0e-8c55-6f2a1d0e7b03"
	dev        = "0a1b8c6e-7d0e-4b8e-93fd-1f4a3d2b9c10"
	monitoring = "1a1b8c6e-7d0e-4b8e-93fd-1f4a3d2b9c11"
	elsewhere  = "2a1b8c6e-7d0e-4b8e-93fd-1f4a3d2b9c12"
	acme       = "6e424e4e-5e46-419a-9cb6-eac9de2794e8"
	other      = "7e424e4e-5e46-419a-9cb6-eac9de2794e9"
	authz      = "3b1c8a52-9d1f-4a0e-8c55-6f2a1d0e7b34"
	shared     = "4b1c8a52-9d1f-4a0e-8c55-6f2a1d0e7b35"
)

const oddName = `it's "my" app; $(rm -rf /), 100%2C \`

// foundation has one route of one instance, and three of another.
func foundation() cftest.Foundation {
	return cftest.Foundation{
		TargetSpace: dev,
		Orgs:        []cftest.Org{{GUID: acme, Name: "acme"}, {GUID: other, Name: "other, inc"}},
		Spaces:      []cftest.Space{{GUID: dev, Name: "dev", Org: acme}, {GUID: monitoring, Name: "monitoring", Org: acme}, {GUID: elsewhere, Name: "dev", Org: other}},
		Apps: []cftest.App{
			{GUID: frontend, Name: "frontend", Space: dev},
			{GUID: odd, Name: oddName, Space: dev},
			{GUID: scraper, Name: "scraper", Space: monitoring},
			{GUID: foreign, Name: "frontend", Space: elsewhere},
		},
		Domains: []cftest.Named{{GUID: "domain-1", Name: "apps.identity"}},
		Routes: []cftest.Route{
			{GUID: "route-1", Host: "backend", Domain: "domain-1", Space: dev, Instance: authz},
			{GUID: "route-2", Host: "api", Domain: "domain-1", Space: dev, Instance: shared},
			{GUID: "route-3", Host: "api", Domain: "domain-1", Path: "/Metrics", Space: dev, Instance: shared},
			{GUID: "route-4", Host: "web", Domain: "domain-1", Space: dev, Instance: shared},
			{GUID: "route-5", Host: "open", Domain: "domain-1", Space: dev},
			{GUID: "route-6", Host: "", Domain: "domain-1", Space: dev, Instance: "5b1c8a52-9d1f-4a0e-8c55-6f2a1d0e7b36"},
			{GUID: "route-7", Host: "limited", Domain: "domain-1", Space: dev, Instance: "6b1c8a52-9d1f-4a0e-8c55-6f2a1d0e7b37"},
			{GUID: "route-8", Host: "far", Domain: "domain-1", Space: monitoring, Instance: "7b1c8a52-9d1f-4a0e-8c55-6f2a1d0e7b38"},
		},
		Instances: []cftest.Instance{
			{GUID: authz, Name: "my authz's", Space: dev, Offering: "mtls-authz", Plan: "org"},
			{GUID: shared, Name: "shared", Space: dev, Offering: "mtls-authz", Plan: "any"},
			{GUID: "5b1c8a52-9d1f-4a0e-8c55-6f2a1d0e7b36", Name: "provided", Space: dev},
			{GUID: "6b1c8a52-9d1f-4a0e-8c55-6f2a1d0e7b37", Name: "limiter", Space: dev, Offering: "rate-limiter"},
			{GUID: "7b1c8a52-9d1f-4a0e-8c55-6f2a1d0e7b38", Name: "shared", Space: monitoring, Offering: "mtls-authz", Plan: "org"},
		},
	}
}

// given is a foundation in which the two instances have these grants.
func given(allow ...string) cftest.Foundation {
	f := foundation()
	for i := range 2 {
		f.Instances[i].Parameters = json.RawMessage(`{"allow":[` + strings.Join(allow, ",") + `]}`)
	}
	return f
}

// result is what became of a command.
type result struct {
	cf             *cftest.CF
	code           int
	stdout, stderr string
}

// mtlsAuthz runs a command line, split at spaces, with {name} for names that have
// some.
func mtlsAuthz(t *testing.T, f cftest.Foundation, stdin, line string) result {
	t.Helper()
	r := result{cf: cftest.New(t, f)}
	executable, err := os.Executable()
	require.NoError(t, err)
	args := strings.Fields(line)
	for i, arg := range args {
		args[i] = strings.NewReplacer("{odd}", oddName, "{none}", "", "{other}", "other, inc").Replace(arg)
	}
	process := exec.CommandContext(t.Context(), executable)
	process.Args = append([]string{"mtls-authz", "grant"}, args...)
	process.Env, process.Dir, process.Stdin = r.cf.Environ(), t.TempDir(), strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	process.Stdout, process.Stderr = &stdout, &stderr
	if err := process.Run(); err != nil {
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit)
	}
	r.code, r.stdout, r.stderr = process.ProcessState.ExitCode(), stdout.String(), stderr.String()
	assert.NotContains(t, r.stdout+r.stderr, "SECRET-TOKEN")
	return r
}

func (r result) parameters(t *testing.T) (texts []string) {
	t.Helper()
	for _, change := range r.cf.Changes() {
		require.Len(t, change, 4)
		texts = append(texts, change[1]+" "+change[3])
	}
	return texts
}

func TestNamesBecomeGrants(t *testing.T) {
	for line, want := range map[string]string{
		"apps.identity --hostname backend --source-app frontend":                                              `my authz's {"allow_add":["cf:app:` + frontend + `"]}`,
		"apps.identity -n backend --source-app {odd}":                                                         `my authz's {"allow_add":["cf:app:` + odd + `"]}`,
		"apps.identity -n backend --source-app scraper --source-space monitoring":                             `my authz's {"allow_add":["cf:app:` + scraper + `"]}`,
		"apps.identity -n backend --source-app frontend --source-space dev --source-org {other}":              `my authz's {"allow_add":["cf:app:` + foreign + `"]}`,
		"apps.identity -n backend --source-space monitoring":                                                  `my authz's {"allow_add":["cf:space:` + monitoring + `"]}`,
		"apps.identity -n backend --source-space dev --source-org {other}":                                    `my authz's {"allow_add":["cf:space:` + elsewhere + `"]}`,
		"apps.identity -n backend --source-org acme":                                                          `my authz's {"allow_add":["cf:org:` + acme + `"]}`,
		"apps.identity -n backend --source-any":                                                               `my authz's {"allow_add":["cf:any"]}`,
		"apps.identity -n backend --source cf:app:" + foreign:                                                 `my authz's {"allow_add":["cf:app:` + foreign + `"]}`,
		"apps.identity -n backend --source-any --method GET --method HEAD --match-path /a,b/**":               `my authz's {"allow_add":[{"source":"cf:any","methods":["GET","HEAD"],"paths":["/a,b/**"]}]}`,
		"apps.identity -n backend --source-any --expires 2099-01-01T00:00:00Z --reason INC-1":                 `my authz's {"allow_add":[{"source":"cf:any","expires":"2099-01-01T00:00:00Z","reason":"INC-1"}]}`,
		"apps.identity -n backend --source-any --only-this-route":                                             `my authz's {"allow_add":[{"source":"cf:any","routes":["backend.apps.identity"]}]}`,
		"apps.identity -n api --source-app frontend":                                                          `shared {"allow_add":[{"source":"cf:app:` + frontend + `","routes":["api.apps.identity"]}]}`,
		"apps.identity -n api --path /Metrics --source-app frontend":                                          `shared {"allow_add":[{"source":"cf:app:` + frontend + `","routes":["api.apps.identity/metrics"]}]}`,
		"apps.identity -n api -p metrics/ --source-app frontend --method GET":                                 `shared {"allow_add":[{"source":"cf:app:` + frontend + `","methods":["GET"],"routes":["api.apps.identity/metrics"]}]}`,
		"apps.identity -n backend --source-app frontend --source-space dev --source-org acme --reason a<b>&c": `my authz's {"allow_add":[{"source":"cf:app:` + frontend + `","reason":"a\u003cb\u003e\u0026c"}]}`,
	} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			r := mtlsAuthz(t, foundation(), "", "add "+line+" -y")
			require.Zero(t, r.code, r.stderr)
			assert.Equal(t, []string{want}, r.parameters(t))
			assert.Contains(t, r.stdout, "complete.\nOK\n", "what cf says is shown")
		})
	}
}

func TestAddRefusesWhatCannotBeMeant(t *testing.T) {
	hidden := foundation()
	hidden.Hidden = []string{"route-1"}
	twice := foundation()
	twice.Apps = append(twice.Apps, cftest.App{GUID: odd, Name: "scraper", Space: monitoring})
	untargeted, loggedOut := foundation(), foundation()
	untargeted.TargetSpace, loggedOut.NoLogin = "", true
	for name, c := range map[string]struct {
		f          cftest.Foundation
		line, want string
	}{
		"nobody":                {foundation(), "apps.identity -n backend", "who? give one of --source-app"},
		"two":                   {foundation(), "apps.identity -n backend --source-any --source-app frontend", "nothing of another"},
		"raw and named":         {foundation(), "apps.identity -n backend --source cf:any --source-org acme", "nothing of another"},
		"an org without space":  {foundation(), "apps.identity -n backend --source-app frontend --source-org acme", "needs --source-space"},
		"a strange source":      {foundation(), "apps.identity -n backend --source cf:user:x", `source "cf:user:x": expected cf:app:<guid>`},
		"an unknown app":        {foundation(), "apps.identity -n backend --source-app nobody", "App 'nobody' not found; an app of another space is named with --source-space"},
		"an unknown app there":  {foundation(), "apps.identity -n backend --source-app nobody --source-space monitoring", `app "nobody": not found, or not visible to you`},
		"two apps of that name": {twice, "apps.identity -n backend --source-app scraper --source-space monitoring", `app "scraper": there are 2 of them`},
		"a flag as name":        {foundation(), "apps.identity -n backend --source-app=--guid", "for a flag"},
		"an unknown domain":     {foundation(), "example.com -n backend --source-any", `domain "example.com": not found`},
		"an unknown route":      {foundation(), "apps.identity -n nothing --source-any", `route "nothing.apps.identity": not found`},
		"another path":          {foundation(), "apps.identity -n backend --path /x --source-any", `route "backend.apps.identity/x": not found`},
		"a hidden route":        {hidden, "apps.identity -n backend --source-any", `route "backend.apps.identity": not found`},
		"not bound":             {foundation(), "apps.identity -n open --source-any", "bound to no service"},
		"user-provided":         {foundation(), "apps.identity --hostname= --source-any", `"provided", a user-provided service`},
		"another service":       {foundation(), "apps.identity -n limited --source-any", `"limiter" is not an instance of mtls-authz`},
		"another space, where an instance has the same name": {foundation(), "apps.identity -n far --source-any", "not in the targeted space (the one there of that name is another): target its space with cf target -o acme -s monitoring"},
		"not targeted":      {untargeted, "apps.identity -n backend --source-any", "No org and space targeted"},
		"not logged in":     {loggedOut, "apps.identity -n backend --source-any", "Authentication error; use cf login"},
		"a past end":        {foundation(), "apps.identity -n backend --source-any --expires 2001-01-01T00:00:00Z", "would refuse this"},
		"a lower method":    {foundation(), "apps.identity -n backend --source-any --method get", "upper-case"},
		"free beside bound": {given(`{"source":"cf:app:` + frontend + `","methods":["GET"]}`), "apps.identity -n backend --source-app frontend", "would refuse this"},
		"any beside others": {given(`"cf:app:` + frontend + `"`), "apps.identity -n backend --source-any", "would refuse this"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := mtlsAuthz(t, c.f, "y\n", "add "+c.line+" -y")
			assert.Equal(t, 1, r.code, r.stdout)
			assert.Contains(t, strings.Join(strings.Fields(r.stderr), " "), c.want)
			assert.Empty(t, r.cf.Changes())
		})
	}
}

// Cloud Controller decodes what cf sends once more than cf encodes it.
func TestANearMatchIsNoMatch(t *testing.T) {
	t.Parallel()
	near := func(names ...string) cftest.Foundation {
		f := foundation()
		f.Apps[0].Name, f.Spaces[1].Name = names[0], names[0]
		for i, name := range names[1:] {
			f.Apps = append(f.Apps, cftest.App{GUID: fmt.Sprintf("3f7c3a52-9d1f-4a0e-8c55-6f2a1d0e7b%02d", i), Name: name, Space: dev})
		}
		return f
	}
	for _, line := range []string{"--source-app x%2Cy", "--source-app x%252Cy", "--source-space x%2Cy"} {
		r := mtlsAuthz(t, near("x,y"), "", "add apps.identity -n backend "+line+" -y")
		assert.Equal(t, 1, r.code, line)
		assert.Empty(t, r.cf.Changes(), line)
	}
	r := mtlsAuthz(t, near("x,y", "x%2Cy"), "", "add apps.identity -n backend --source-app x%2Cy -y")
	require.Zero(t, r.code, r.stderr)
	assert.Equal(t, []string{`my authz's {"allow_add":["cf:app:3f7c3a52-9d1f-4a0e-8c55-6f2a1d0e7b00"]}`}, r.parameters(t), "the one of exactly that name")

	f := foundation()
	f.Instances[0].Name = "x%2Cy"
	f.Instances = append(f.Instances, cftest.Instance{GUID: "9b1c8a52-9d1f-4a0e-8c55-6f2a1d0e7b3a", Name: "x,y", Space: dev, Offering: "mtls-authz", Plan: "org"})
	r = mtlsAuthz(t, f, "", "add apps.identity -n backend --source-any -y")
	assert.Equal(t, 1, r.code, "update-service would update another")
	assert.Contains(t, r.stderr, "the one there of that name is another")
	assert.Empty(t, r.cf.Changes())
}

// The domain itself has one route; its domain may have thousands.
func TestTheDomainItselfIsAskedForAlone(t *testing.T) {
	t.Parallel()
	r := mtlsAuthz(t, foundation(), "", "list apps.identity --hostname=")
	assert.Contains(t, r.stderr, "a user-provided service")
	asked := ""
	for _, call := range r.cf.Calls() {
		asked += call[len(call)-1] + "\n"
	}
	assert.Contains(t, asked, "/v3/routes?domain_guids=domain-1&hosts=&")
}

// Nobody's name may have another command run, or move the cursor.
func TestWhatIsShownIsWhatRuns(t *testing.T) {
	t.Parallel()
	r := mtlsAuthz(t, foundation(), "", "add apps.identity -n backend --source-app {odd} --reason it's -y")
	require.Zero(t, r.code, r.stderr)
	for line := range strings.Lines(r.stdout) {
		shown, is := strings.CutPrefix(line, "  cf ")
		if !is {
			continue
		}
		said, err := exec.CommandContext(t.Context(), "sh", "-c", "printf '%s\\n' "+shown).Output()
		require.NoError(t, err)
		assert.Equal(t, strings.Join(r.cf.Changes()[0], "\n")+"\n", string(said))
		return
	}
	t.Fatal("no command was shown: " + r.stdout)
}

func TestNamesThatCannotBeShown(t *testing.T) {
	t.Parallel()
	f := foundation()
	f.Instances[0].Name = "authz\x1b[2J"
	r := mtlsAuthz(t, f, "", "add apps.identity -n backend --source-any -y")
	assert.Equal(t, 1, r.code)
	assert.NotContains(t, r.stdout+r.stderr, "\x1b")
	f = foundation()
	f.Instances[0].Name = " two  spaces "
	r = mtlsAuthz(t, f, "", "add apps.identity -n backend --source-any -y")
	assert.Zero(t, r.code, r.stderr)
	assert.Equal(t, " two  spaces ", r.cf.Changes()[0][1])
	f = foundation()
	f.Spaces[1].Name, f.Orgs[0].Name = "a  b", " acme"
	r = mtlsAuthz(t, f, "", "add apps.identity -n far --source-any -y")
	assert.Contains(t, r.stderr, "cf target -o ' acme' -s 'a  b'", "as they are")
	f.Spaces[1].Name = "a\u202eb"
	r = mtlsAuthz(t, f, "", "add apps.identity -n far --source-any -y")
	assert.Contains(t, r.stderr, "target space "+monitoring)
	f = foundation()
	f.Instances[0].Name = "--help"
	r = mtlsAuthz(t, f, "", "add apps.identity -n backend --source-any -y")
	assert.Equal(t, 1, r.code)
	assert.Contains(t, r.stderr, "for a flag")
}

func TestAskingFirst(t *testing.T) {
	t.Parallel()
	for answer, c := range map[string]struct {
		code, changes int
		says          string
	}{
		"y\n": {0, 1, "OK"}, "YES\n": {0, 1, "OK"}, "n\n": {0, 0, "Nothing was changed."}, "\n": {0, 0, "Nothing was changed."}, "what\n": {0, 0, "Nothing was changed."},
		"": {1, 0, "Run it? [yN]"},
	} {
		r := mtlsAuthz(t, foundation(), answer, "add apps.identity -n backend --source-any")
		assert.Equal(t, c.code, r.code, answer)
		assert.Len(t, r.cf.Changes(), c.changes, answer)
		assert.Contains(t, r.stdout, c.says, answer)
	}
}

func TestNothingToDo(t *testing.T) {
	t.Parallel()
	for _, line := range []string{
		"apps.identity -n backend --source-app frontend", "apps.identity -n api --source-app frontend", "apps.identity -n web --source-app frontend",
	} {
		r := mtlsAuthz(t, given(`"cf:app:`+frontend+`"`), "", "add "+line+" -y")
		assert.Zero(t, r.code, r.stderr)
		assert.Contains(t, r.stdout, "already")
		assert.Empty(t, r.cf.Changes())
	}
}

// What cf says when it fails is passed on.
func TestCfFails(t *testing.T) {
	t.Parallel()
	f := foundation()
	f.Refusal = "allow has too many entries"
	r := mtlsAuthz(t, f, "", "add apps.identity -n backend --source-any -y")
	assert.Equal(t, 1, r.code)
	assert.Contains(t, r.stderr, "Service broker error: allow has too many entries\n")
	assert.Contains(t, r.stderr, "cf update-service failed: exit status 1")
	assert.Contains(t, r.stdout, "FAILED\n")
}

func TestThereIsNoCf(t *testing.T) {
	t.Parallel()
	executable, err := os.Executable()
	require.NoError(t, err)
	process := exec.CommandContext(t.Context(), executable)
	process.Args, process.Env = []string{"mtls-authz", "grant", "list", "d", "-n", "h"}, []string{"PATH=/nowhere"}
	said, err := process.CombinedOutput()
	require.Error(t, err)
	assert.Contains(t, string(said), "the cf command is needed")
}

func TestRemoveLeavesOtherRoutesAlone(t *testing.T) {
	app := "cf:app:" + frontend
	for name, c := range map[string]struct {
		allow      []string
		line, want string
	}{
		"the only route": {[]string{`"` + app + `"`}, "-n backend --source-app frontend", `my authz's {"allow_remove":["` + app + `"]}`},
		"one of three routes": {
			[]string{`"` + app + `"`},
			"-n api --source-app frontend",
			`shared {"allow_remove":["` + app + `"],"allow_add":[{"source":"` + app + `","routes":["api.apps.identity/metrics","web.apps.identity"]}]}`,
		},
		"the note stays with what is kept": {
			[]string{`{"source":"` + app + `","reason":"INC-1"}`},
			"-n web --source-app frontend",
			`shared {"allow_remove":["` + app + `"],"allow_add":[{"source":"` + app + `","routes":["api.apps.identity","api.apps.identity/metrics"],"reason":"INC-1"}]}`,
		},
		"a grant of this route": {
			[]string{`{"source":"` + app + `","routes":["web.apps.identity"]}`, `{"source":"` + app + `","routes":["api.apps.identity"]}`},
			"-n web --source-app frontend",
			`shared {"allow_remove":[{"source":"` + app + `","routes":["web.apps.identity"]}]}`,
		},
		"a grant of two routes": {
			[]string{`{"source":"` + app + `","methods":["GET"],"routes":["web.apps.identity","api.apps.identity"]}`},
			"-n web --source-app frontend",
			`shared {"allow_remove":[{"source":"` + app + `","methods":["GET"],"routes":["web.apps.identity","api.apps.identity"]}],"allow_add":[{"source":"` + app + `","methods":["GET"],"routes":["api.apps.identity"]}]}`,
		},
		"all of them": {
			[]string{`{"source":"` + app + `","methods":["GET"]}`, `{"source":"` + app + `","paths":["/x"]}`, `"cf:space:` + dev + `"`},
			"-n backend --source-app frontend",
			`my authz's {"allow_remove":[{"source":"` + app + `","methods":["GET"]},{"source":"` + app + `","paths":["/x"]}]}`,
		},
		"one of them": {
			[]string{`{"source":"` + app + `","methods":["GET"]}`, `{"source":"` + app + `","paths":["/x"]}`},
			"-n backend --source-app frontend --match-path /x",
			`my authz's {"allow_remove":[{"source":"` + app + `","paths":["/x"]}]}`,
		},
		"an expired one is not kept": {
			[]string{`{"source":"` + app + `","expires":"2001-01-01T00:00:00Z"}`},
			"-n api --source-app frontend",
			`shared {"allow_remove":[{"source":"` + app + `","expires":"2001-01-01T00:00:00Z"}]}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := mtlsAuthz(t, given(c.allow...), "", "remove apps.identity "+c.line+" -f")
			require.Zero(t, r.code, r.stderr)
			assert.Equal(t, []string{c.want}, r.parameters(t))
		})
	}
}

func TestRemoveSaysWhatStays(t *testing.T) {
	t.Parallel()
	r := mtlsAuthz(t, given(`"cf:app:`+frontend+`"`, `"cf:org:`+acme+`"`), "n\n", "remove apps.identity -n backend --source-app frontend")
	require.Zero(t, r.code, r.stderr)
	assert.Contains(t, r.stdout, "stays     cf:org:"+acme+", from the instance")
	r = mtlsAuthz(t, given(`"cf:org:`+acme+`"`), "", "remove apps.identity -n backend --source-app frontend -y")
	assert.Equal(t, 1, r.code)
	assert.Contains(t, r.stderr, "no grant of cf:app:"+frontend+" on backend.apps.identity")
}

func TestScopeIsTold(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"-n backend --source-app frontend --source-space dev --source-org {other}": "a caller of another org is refused all the same",
		"-n backend --source-org {other}":                                          "a caller of another org is refused all the same",
		"-n backend --source-any":                                                  "the scope of the route is its org: callers of others",
		"-n api --source-any":                                                      "",
		"-n backend --source-app scraper --source-space monitoring":                "",
	} {
		r := mtlsAuthz(t, foundation(), "n\n", "add apps.identity "+line)
		require.Zero(t, r.code, r.stderr)
		if want == "" {
			assert.NotContains(t, r.stdout, "the scope of the route")
		} else {
			assert.Contains(t, r.stdout, want)
		}
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	f := given(`"cf:app:`+frontend+`"`, `"cf:space:`+monitoring+`"`, `{"source":"cf:org:`+other+`","methods":["GET"],"paths":["/api/**"],"expires":"2099-01-01T00:00:00Z","reason":"INC-1"}`, `{"source":"cf:any","routes":["web.apps.identity"]}`)
	f.Hidden = []string{other}
	f.PageSize = 1 // each list comes in pages
	r := mtlsAuthz(t, f, "", "list apps.identity -n web")
	require.Zero(t, r.code, r.stderr)
	assert.Equal(t, `Service shared admits callers of scope any to web.apps.identity

route               source                                          scope   name         conditions                                       origin
web.apps.identity   cf:app:d76446a1-f429-4444-8797-be2f78b75b08     app     frontend                                                      instance
web.apps.identity   cf:space:1a1b8c6e-7d0e-4b8e-93fd-1f4a3d2b9c11   space   monitoring                                                    instance
web.apps.identity   cf:org:7e424e4e-5e46-419a-9cb6-eac9de2794e9     org                  GET /api/** until 2099-01-01T00:00:00Z (INC-1)   instance
web.apps.identity   cf:any                                          any                                                                   instance
`, r.stdout)
	r = mtlsAuthz(t, foundation(), "", "list apps.identity -n backend")
	assert.Contains(t, r.stdout, "Nobody may call it.")
}

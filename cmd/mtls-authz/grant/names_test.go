package grant_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/cf/cftest"
)

const (
	green    = "3f7c3a52-9d1f-4a0e-8c55-6f2a1d0e7b04"
	labelled = `{"source":"apps","space":"monitoring","labels":"team=payments"}`
)

// named is a foundation in which two apps of monitoring have a label, and the two
// instances these grants.
func named(allow ...string) cftest.Foundation {
	f := given(allow...)
	f.Apps[2].Labels = "team=payments,tier=front"
	f.Apps = append(f.Apps, cftest.App{GUID: green, Name: "scraper-green", Space: monitoring, Labels: "team=payments"})
	return f
}

// A variable of a script that is not set makes no grant wider, and takes no other
// grant away.
func TestAnEmptyFlagIsRefused(t *testing.T) {
	t.Parallel()
	const at = " apps.identity -n backend "
	for _, line := range []string{
		"add" + at + "--source-space monitoring --source-app=", "add" + at + "--source-space monitoring --source-app {none}",
		"add" + at + "--source-org acme --source-space=", "add" + at + "--source-any --source-org=", "add" + at + "--source-any --source=",
		"add" + at + "--source-any --expires=", "add" + at + "--source-any --method=", "add" + at + "--source-any --method GET,,HEAD", "add" + at + "--source-any --method GET --method=",
		"add" + at + "--source-any --match-path=", "add" + at + "--source-any --reason=", "add" + at + "--source-any --path=",
		"remove" + at + "--source-space monitoring --source-app=", "remove" + at + "--source-any --expires=", "remove" + at + "--source-any --method=", "remove" + at + "--source-any --path=",
	} {
		r := mtlsAuthz(t, given(`"cf:space:`+monitoring+`"`), "", line+" -y")
		assert.Equal(t, 1, r.code, line)
		assert.Contains(t, r.stderr, "is given without a value", line)
		assert.Empty(t, r.cf.Calls(), line)
	}
	for _, line := range []string{"add" + at + "--source-any=", "add" + at + "--source-any --yes=", "add" + at + "--source-any --only-this-route=", "remove" + at + "--source-any --force="} {
		r := mtlsAuthz(t, foundation(), "y\n", line)
		assert.Equal(t, 1, r.code, line)
		assert.Empty(t, r.cf.Calls(), line)
	}
	r := mtlsAuthz(t, foundation(), "", "list"+at+"--path=")
	assert.Contains(t, r.stderr, "--path: is given without a value")
	r = mtlsAuthz(t, foundation(), "", "add"+at+"--source-any --method GET,HEAD -y")
	assert.Equal(t, []string{`my authz's {"allow_add":[{"source":"cf:any","methods":["GET","HEAD"]}]}`}, r.parameters(t))
}

// One row for each grant as it was written, with what it stands for.
func TestListOfNames(t *testing.T) {
	t.Parallel()
	f := named(`"app:frontend"`, labelled, `{"source":"space:monitoring","methods":["GET"]}`, `{"source":"org:.","paths":["/x"]}`, `"app:typo"`, `"app:a/b"`, `"cf:app:`+scraper+`"`,
		`{"source":"app:of the past","expires":"2001-01-01T00:00:00Z"}`, `{"source":"app:elsewhere","routes":["api.apps.identity"]}`)
	f.Hidden = []string{green}
	r := mtlsAuthz(t, f, "", "list apps.identity -n backend")
	require.Zero(t, r.code, r.stderr)
	assert.Equal(t, `Service my authz's admits callers of scope org to backend.apps.identity

route                   source                                                            scope   name                                             conditions   origin
backend.apps.identity   cf:app:1f7c3a52-9d1f-4a0e-8c55-6f2a1d0e7b02                       app     scraper                                                       instance
backend.apps.identity   `+labelled+`   app     2 apps: scraper, acme/monitoring/scraper-green                instance
backend.apps.identity   app:frontend                                                      app     frontend                                                      instance
backend.apps.identity   space:monitoring                                                  space   monitoring                                       GET          instance
backend.apps.identity   org:.                                                             org     acme                                             /x           instance
backend.apps.identity   app:typo                                                          app     nobody                                                        instance
backend.apps.identity   app:a/b                                                           app     nobody                                                        instance

Warnings of the service:
- app:typo: no app bears this name since 2026-05-04T10:15:30Z, so it allows nobody
- app:a/b: no app bears this name since 2026-05-04T10:15:30Z, so it allows nobody
- app:of the past: no app bears this name since 2026-05-04T10:15:30Z, so it allows nobody
- app:elsewhere: no app bears this name since 2026-05-04T10:15:30Z, so it allows nobody
`, r.stdout)
}

// What the gateway shows of many is cut off: a name may stand for more.
func TestListOfMany(t *testing.T) {
	t.Parallel()
	f := named(labelled, `"app:typo"`)
	for i := range 300 {
		f.Apps = append(f.Apps, cftest.App{GUID: fmt.Sprintf("%08d-0000-4000-8000-000000000000", i), Name: fmt.Sprint("app", i), Space: monitoring, Labels: "team=payments"})
	}
	r := mtlsAuthz(t, f, "", "list apps.identity -n backend")
	require.Zero(t, r.code, r.stderr)
	assert.Contains(t, r.stdout, "200 apps: app0, app1, app2, …, perhaps more")
	assert.Contains(t, r.stdout, "and 102 more\n")
	assert.NotContains(t, r.stdout, "nobody  ", "what is not shown may stand for somebody")
}

// --source takes what parameters take, and remove what list prints.
func TestNamesAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	for source, entry := range map[string]string{
		"app:frontend": `"app:frontend"`, "app:monitoring/scraper": `"app:monitoring/scraper"`, "space:monitoring": `"space:monitoring"`, "org:.": `"org:."`, labelled: labelled,
		`{"source":"app:frontend"}`: `"app:frontend"`,
	} {
		r := mtlsAuthz(t, named(), "", "add apps.identity -n backend --source "+source+" -y")
		require.Zero(t, r.code, r.stderr)
		assert.Equal(t, []string{`my authz's {"allow_add":[` + entry + `]}`}, r.parameters(t))
		assert.NotContains(t, r.stdout, "warning")

		list := mtlsAuthz(t, r.cf.Foundation(), "", "list apps.identity -n backend")
		printed := strings.Fields(strings.Split(list.stdout, "\n")[3])[1]
		r = mtlsAuthz(t, r.cf.Foundation(), "", "remove apps.identity -n backend --source "+printed+" -y")
		require.Zero(t, r.code, r.stderr)
		assert.Equal(t, []string{`my authz's {"allow_remove":[` + entry + `]}`}, r.parameters(t))
	}
	r := mtlsAuthz(t, named(), "", "add apps.identity -n api --method GET --source "+labelled+" -y")
	assert.Equal(t, []string{`shared {"allow_add":[{"source":"apps","space":"monitoring","labels":"team=payments","methods":["GET"],"routes":["api.apps.identity"]}]}`}, r.parameters(t))
	for source, want := range map[string]string{
		"apps": "expected an object such as", `{"source":"apps"}`: "expected an object such as", "org:acme": "another one by its guid", "{": "--source: entry: malformed JSON",
		`{"source":"cf:any","methods":["GET"]}`: "conditions have flags of their own",
	} {
		r := mtlsAuthz(t, named(), "", "add apps.identity -n backend --source "+source+" -y")
		assert.Equal(t, 1, r.code, source)
		assert.Contains(t, r.stderr, want)
		assert.Empty(t, r.cf.Changes())
	}
}

// A source by guid and the same by name are two grants.
func TestWhatANameLetsIn(t *testing.T) {
	t.Parallel()
	const by = "cf:app:" + scraper
	for _, written := range []string{"app:monitoring/scraper", labelled} {
		entry := written
		if written != labelled {
			entry = `"` + written + `"`
		}
		command := "mtls-authz grant remove apps.identity --hostname backend --source " + strings.NewReplacer(labelled, "'"+labelled+"'").Replace(written)
		r := mtlsAuthz(t, named(entry), "", "remove apps.identity -n backend --source-app scraper --source-space monitoring -y")
		assert.Equal(t, 1, r.code)
		assert.Contains(t, r.stderr, by+" has no grant of its own on backend.apps.identity; "+written+" lets it in, which stands for ")
		assert.Contains(t, r.stderr, ": "+command+"\n")

		r = mtlsAuthz(t, named(entry), "", "add apps.identity -n backend --source-app scraper --source-space monitoring -y")
		require.Zero(t, r.code, r.stderr)
		assert.Equal(t, written+" lets "+by+" in on backend.apps.identity already, for as long as it stands for it. Nothing was changed; to allow it whatever it is called: "+
			"mtls-authz grant add apps.identity --hostname backend --source "+by+"\n", r.stdout)
		assert.Empty(t, r.cf.Changes())
		r = mtlsAuthz(t, named(entry), "", "add apps.identity -n backend --source "+by+" -y")
		require.Zero(t, r.code, r.stderr)
		assert.Contains(t, r.stdout, "note      "+written+" lets "+by+" in")
		assert.Len(t, r.cf.Changes(), 1)

		r = mtlsAuthz(t, named(entry, `"`+by+`"`), "n\n", "remove apps.identity -n backend --source "+by)
		assert.Contains(t, r.stdout, "stays     "+written+", from the instance")
		r = mtlsAuthz(t, named(entry, `"`+by+`"`, `"cf:app:`+frontend+`"`, `"space:monitoring"`), "n\n", "remove apps.identity -n backend --source "+written)
		require.Zero(t, r.code, r.stderr)
		assert.Contains(t, r.stdout, "stays     "+by+", from the instance")
		assert.Contains(t, r.stdout, "stays     space:monitoring, from the instance")
		assert.NotContains(t, r.stdout, "stays     cf:app:"+frontend)
		assert.NotContains(t, r.stdout, "stays     "+written)
	}
	// What a name allows less of is no reason not to allow it.
	r := mtlsAuthz(t, named(`{"source":"app:frontend","methods":["GET"]}`), "", "add apps.identity -n backend --source-app frontend -y")
	assert.Len(t, r.cf.Changes(), 1, r.stderr)
}

// A grant to nobody is no error: the app may come later. It is told.
func TestANameThatNothingBears(t *testing.T) {
	t.Parallel()
	for source, nobody := range map[string]bool{
		"app:typo": true, "app:typo/scraper": true, "app:monitoring/typo": true, "space:typo": true, `{"source":"apps","space":"monitoring","labels":"team=typo"}`: true, `{"source":"apps","space":"typo","labels":"team=payments"}`: true,
		"app:frontend": false, "app:monitoring/scraper": false, "space:monitoring": false, "org:.": false, labelled: false, "cf:app:" + scraper: false,
	} {
		r := mtlsAuthz(t, named(), "", "add apps.identity -n backend --source "+source+" -y")
		require.Zero(t, r.code, r.stderr)
		assert.Len(t, r.cf.Changes(), 1, source)
		assert.Equal(t, nobody, strings.Contains(r.stdout, "warning   nothing that you can see bears this name: until something does, it allows nobody\n"), source)
	}
}

// A note is changed where the grant is the one that was named, and never lost in
// silence.
func TestTheNoteOfAGrant(t *testing.T) {
	t.Parallel()
	const app = "cf:app:" + frontend
	for name, c := range map[string]struct {
		has, line string
		says      string
		want      []string
	}{
		"a new note": {`{"source":"` + app + `","reason":"old"}`, "-n backend --reason new", "note      the grant is there already; this changes its note", []string{`my authz's {"allow_add":[{"source":"` + app + `","reason":"new"}]}`}},
		"a first note": {
			`{"source":"` + app + `","methods":["GET"]}`, "-n backend --method GET --reason new", "this changes its note",
			[]string{`my authz's {"allow_add":[{"source":"` + app + `","methods":["GET"],"reason":"new"}]}`},
		},
		"the same note": {`{"source":"` + app + `","reason":"old"}`, "-n backend --reason old", "already; nothing to do.", nil},
		"no note":       {`{"source":"` + app + `","reason":"old"}`, "-n backend", "already; nothing to do.", nil},
		"the note of all routes": {
			`{"source":"` + app + `","reason":"old"}`, "-n api --reason new",
			"allowed on api.apps.identity already, with all routes of the service, and nothing was changed. Its note changes with: " + `cf update-service shared -c '{"allow_add":[{"source":"` + app + `","reason":"new"}]}'`,
			nil,
		},
	} {
		r := mtlsAuthz(t, given(c.has), "", "add apps.identity --source-app frontend "+c.line+" -y")
		require.Zero(t, r.code, "%s: %s", name, r.stderr)
		assert.Contains(t, r.stdout, c.says, name)
		assert.Equal(t, c.want, r.parameters(t), name)
	}
}

// One grant names 100 routes at most.
func TestRemoveOnMoreThanAHundredRoutes(t *testing.T) {
	t.Parallel()
	f := given(`{"source":"cf:app:` + frontend + `","methods":["GET"]}`)
	for i := range 110 {
		f.Routes = append(f.Routes, cftest.Route{GUID: fmt.Sprint("many-", i), Host: fmt.Sprint("many", i), Domain: "domain-1", Space: dev, Instance: shared})
	}
	r := mtlsAuthz(t, f, "", "remove apps.identity -n api --source-app frontend -y")
	require.Zero(t, r.code, r.stderr)
	after := string(r.cf.Foundation().Instances[1].Parameters)
	assert.Equal(t, 2, strings.Count(after, `"methods":["GET"]`))
	assert.Equal(t, 112, strings.Count(after, ".apps.identity"))
	assert.NotContains(t, after, `"api.apps.identity"`)
}

package acceptance_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/util"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// documents are all pages for people: by path, what is in them.
func documents(t *testing.T) map[string]string {
	t.Helper()
	names, err := filepath.Glob("../docs/*.md")
	require.NoError(t, err)
	require.NotEmpty(t, names)
	texts := map[string]string{}
	for _, name := range append(names, "../README.md", "../CONTRIBUTING.md", "../CHANGELOG.md") {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		texts[name] = string(text)
	}
	return texts
}

var (
	fences   = regexp.MustCompile("(?ms)^```.*?^```$")
	link     = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading  = regexp.MustCompile(`(?m)^#+ (.*)$`)
	noAnchor = regexp.MustCompile(`[^\pL\pN _-]`)
)

// anchors are the places in a document that a link can lead to, as GitHub names them.
func anchors(document string) map[string]bool {
	found := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(fences.ReplaceAllString(document, ""), -1) {
		found[strings.ReplaceAll(noAnchor.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-")] = true
	}
	return found
}

// Every link within the repository leads to a file that is there, and to a
// heading that is in it.
func TestLinksInTheDocumentsLeadSomewhere(t *testing.T) {
	t.Parallel()
	links := 0
	for name, text := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(fences.ReplaceAllString(text, ""), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			links++
			file, anchor, _ := strings.Cut(m[1], "#")
			target := name
			if file != "" {
				target = filepath.Join(filepath.Dir(name), file)
			}
			content, err := os.ReadFile(target)
			if info, statErr := os.Stat(target); statErr == nil && info.IsDir() {
				continue
			}
			if assert.NoError(t, err, "%s links to %q", name, m[1]) && anchor != "" {
				assert.True(t, anchors(string(content))[anchor], "%s links to %q, and no heading there is called so", name, m[1])
			}
		}
	}
	assert.Greater(t, links, 50)
}

// foreign are names in capitals that are no settings of serve: those of Cloud
// Foundry and of the tools, and what stands for a value.
var foreign = map[string]bool{
	"CF_INSTANCE_PORTS": true, "CF_INSTANCE_INDEX": true, "CF_SYSTEM_CERT_PATH": true, "DATABASE_URL": true, "VCAP_APPLICATION": true, "VCAP_SERVICES": true,
	"MTLS_AUTHZ_URL": true, "MEMORY_LIMIT": true, "CF_BIN": true, "MTLS_AUTHZ_HEAVY": true, "GOROUTER_BIN": true, "BENCH_WRITE": true, "BENCH_MEMORY": true, "DECISION_ID": true, "SSL_CERT_DIR": true, "NODE_EXTRA_CA_CERTS": true,
}

var (
	inline  = regexp.MustCompile("`[^`\n]+`")
	capital = regexp.MustCompile(`\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b`)
	setting = regexp.MustCompile(`(?m)^([A-Z][A-Z0-9_]+) `) // begins each row of --print-config
)

// Every setting that a document names is one, and every setting is in
// docs/settings.md.
func TestSettingsInTheDocumentsAreSettings(t *testing.T) {
	t.Parallel()
	settings := map[string]bool{}
	for _, row := range setting.FindAllStringSubmatch(execute(t, complete(t), "serve", "--print-config").stdout, -1) {
		settings[row[1]] = true
	}
	delete(settings, "SETTING") // the head of the table
	require.Greater(t, len(settings), 40)
	texts := documents(t)
	for name, text := range texts {
		for _, code := range inline.FindAllString(fences.ReplaceAllString(text, ""), -1) {
			for _, word := range capital.FindAllString(code, -1) {
				assert.True(t, settings[word] || foreign[word], "%s names %s, which is no setting", name, word)
			}
		}
	}
	for _, code := range inline.FindAllString(texts["../docs/settings.md"], -1) {
		delete(settings, strings.Trim(code, "`"))
	}
	assert.Empty(t, settings, "docs/settings.md says nothing of these")
}

// What an operator pastes into files can be read: JSON, the ops file, the rules
// for alerts, the dashboard.
func TestBlocksOfTheOperatorsGuideParse(t *testing.T) {
	t.Parallel()
	count := map[string]int{}
	for _, b := range blocksOf(documents(t)["../docs/operators.md"]) {
		var value any
		switch b.language {
		case "json":
			assert.NoError(t, json.Unmarshal([]byte(b.text), &value), b.text)
		case "yaml":
			assert.NoError(t, util.Unmarshal([]byte(b.text), &value), b.text)
			if strings.HasPrefix(b.text, "# router") {
				assert.IsType(t, []any{}, value, "an ops file is a list")
			}
		}
		count[b.language]++
	}
	assert.Positive(t, count["json"])
	assert.Positive(t, count["yaml"])
	for _, b := range blocksOf(documents(t)["../docs/observability.md"]) {
		if b.language != "yaml" {
			continue
		}
		var prometheus struct {
			Jobs []struct {
				Name    string `json:"job_name"`
				Headers map[string]struct{ Values []string }
				Static  []struct{ Labels map[string]string } `json:"static_configs"`
			} `json:"scrape_configs"`
		}
		require.NoError(t, util.Unmarshal([]byte(strings.ReplaceAll(b.text, "http_headers", "headers")), &prometheus))
		require.Len(t, prometheus.Jobs, 2)
		for i, job := range prometheus.Jobs {
			index := fmt.Sprint(i)
			assert.True(t, strings.HasSuffix(job.Name, "-"+index) && strings.HasSuffix(job.Headers["X-CF-App-Instance"].Values[0], ":"+index), "%+v", job)
			assert.Equal(t, map[string]string{"job": "mtls-authz", "instance": index}, job.Static[0].Labels, "as alert rules and dashboard want it")
		}
		count["scrapes"]++
	}
	assert.Positive(t, count["scrapes"])
	for _, name := range []string{"alerts.yml", "dashboard.json"} {
		text, err := os.ReadFile(filepath.Join("..", "docs", "observability", name))
		require.NoError(t, err)
		var value map[string]any
		assert.NoError(t, util.Unmarshal(text, &value), name)
		assert.NotEmpty(t, value, name)
	}
}

// A list in an ops file replaces the one of the job: what gorouter keeps safe by
// default stays in it.
func TestTheOpsFileKeepsTheHeadersThatGorouterProtects(t *testing.T) {
	t.Parallel()
	want := []string{
		"X-Forwarded-For", "X-Forwarded-Proto", "B3", "X-B3", "X-B3-SpanID", "X-B3-TraceID", "X-Request-Start", "X-Forwarded-Client-Cert",
		"X-CF-Forwarded-Url", "X-CF-Proxy-Signature", "X-CF-Proxy-Metadata",
	}
	lists := 0
	for _, b := range blocksOf(documents(t)["../docs/operators.md"]) {
		var operations []struct {
			Path  string
			Value any
		}
		if b.language != "yaml" || util.Unmarshal([]byte(b.text), &operations) != nil {
			continue
		}
		for _, one := range operations {
			if strings.HasSuffix(one.Path, "/hop_by_hop_headers_to_filter?") {
				lists++
				assert.Subset(t, one.Value, want)
			}
		}
	}
	assert.Positive(t, lists)
}

var (
	variable = regexp.MustCompile(`\(\((\w+)\)\)`)
	push     = regexp.MustCompile(`cf push[^\n|` + "`" + `]*`)
)

// manifest.yml can be pushed as the guides say: each of its variables is in the file
// that they show, each push brings them, and what it sets are settings.
func TestTheManifestIsPushedAsTheGuidesSay(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../manifest.yml")
	require.NoError(t, err)
	var manifest struct {
		Applications []struct {
			Name, Command string
			Env           map[string]string
			Routes        []map[string]string
			Services      []string
			Check         string `json:"health-check-http-endpoint"`
		}
	}
	require.NoError(t, util.Unmarshal(text, &manifest))
	require.Len(t, manifest.Applications, 1)
	app := manifest.Applications[0]
	assert.Equal(t, []string{"mtls-authz", "./mtls-authz serve", "/healthz"}, []string{app.Name, app.Command, app.Check})
	assert.Contains(t, app.Services, "mtls-authz-db")

	wanted := map[string]bool{}
	for _, line := range strings.Split(string(text), "\n") {
		if !strings.HasPrefix(strings.TrimSpace(line), "#") {
			for _, name := range variable.FindAllStringSubmatch(line, -1) {
				wanted[name[1]] = true
			}
		}
	}
	require.Len(t, wanted, 4)
	texts := documents(t)
	shown := map[string]bool{}
	for _, b := range blocksOf(texts["../docs/operators.md"]) {
		var vars map[string]string
		if strings.HasPrefix(b.text, "# vars.yml") && assert.NoError(t, util.Unmarshal([]byte(b.text), &vars)) {
			for name := range vars {
				shown[name] = true
			}
		}
	}
	assert.Equal(t, wanted, shown)
	texts["../manifest.yml"] = string(text)
	pushes := 0
	for name, text := range texts {
		for _, command := range push.FindAllString(text, -1) {
			if !strings.Contains(command, "-") { // a word about pushing
				continue
			}
			pushes++
			assert.Contains(t, command, "-f manifest.yml --vars-file vars.yml", name)
		}
	}
	assert.GreaterOrEqual(t, pushes, 4)

	environ := []string{"GATEWAY_URL=https://mtls-authz.apps.identity"}
	for name, value := range app.Env {
		environ = append(environ, name+"="+variable.ReplaceAllString(value, "a-value-of-the-variable"))
	}
	end := execute(t, complete(t, environ...), "serve", "--print-config")
	require.Zero(t, end.code, end.stderr)
	for name := range app.Env {
		assert.Regexp(t, `(?m)^`+name+` +\S+ +environment$`, end.stdout)
	}
}

// What is on a command line is in the shell's history and in the list of processes.
func TestNoGuideHasAPasswordOnACommandLine(t *testing.T) {
	t.Parallel()
	texts := documents(t)
	for _, name := range []string{"../README.md", "../docs/operators.md", "../docs/doctor.md", "../docs/settings.md", "../docs/observability.md"} {
		for _, line := range strings.Split(texts[name], "\n") {
			if regexp.MustCompile(`\b(cf|curl) [a-z-]+ `).MatchString(line) {
				assert.NotRegexp(t, ` (?:PASSWORD|OLD|NEW) https://|--var broker_password|-p '\{.*PASSWORD`, line, name)
			}
		}
	}
}

var (
	// invocation is the program with its arguments, up to what ends a command.
	invocation = regexp.MustCompile(`(?:^|[\s"'/(])mtls-authz ((?:[^\n|;&<>#"'` + "`" + `]|'[^'\n]*'|"[^"\n]*")+)`)
	option     = regexp.MustCompile(`(?:^|\s)(--?[a-z][a-z-]*)`)
	commands   = []string{
		"serve", "playground", "doctor", "access", "version", "grant add", "grant remove", "grant list",
		"policy check", "policy test", "policy eval", "policy build", "policy diff",
	}
)

// Every flag that a document shows for a command of mtls-authz is in its --help.
func TestFlagsInTheDocumentsAreFlags(t *testing.T) {
	t.Parallel()
	help := map[string]string{}
	for _, command := range commands {
		end := execute(t, nil, append(strings.Fields(command), "--help")...)
		require.Zero(t, end.code, command)
		help[command] = end.stdout
	}
	flags := 0
	for name, text := range documents(t) {
		for _, m := range invocation.FindAllStringSubmatch(strings.ReplaceAll(text, "\\\n", " "), -1) {
			for _, command := range commands {
				if m[1] != command && !strings.HasPrefix(m[1], command+" ") {
					continue
				}
				for _, flag := range option.FindAllStringSubmatch(m[1], -1) {
					flags++
					assert.Regexp(t, `(?m)(^|\s)`+regexp.QuoteMeta(flag[1])+`\b`, help[command], "%s: mtls-authz %s", name, m[1])
				}
			}
		}
	}
	assert.Greater(t, flags, 20)
}

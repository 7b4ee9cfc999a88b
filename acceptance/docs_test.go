package acceptance_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// block is a fenced block of a document.
type block struct {
	language, text string
	from, to       int // its text in the document
}

var fenced = regexp.MustCompile("(?ms)^```([a-z]+)\n(.*?)^```$")

func blocksOf(document string) []block {
	var blocks []block
	for _, at := range fenced.FindAllStringSubmatchIndex(document, -1) {
		blocks = append(blocks, block{document[at[2]:at[3]], document[at[4]:at[5]], at[4], at[5]})
	}
	return blocks
}

// digests differ with the built-in policy and the key.
var digests = regexp.MustCompile(`[0-9a-f]{32,64}\b`)

func withoutDigests(text string) string { return digests.ReplaceAllString(text, "<digest>") }

// standIn answers as a gateway would, to readers.
func standIn(t *testing.T) string {
	decisions, err := os.ReadFile("testdata/decisions.jsonl")
	require.NoError(t, err)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, password, _ := r.BasicAuth()
		switch {
		case password != "read-password":
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == "/v1/decisions" && r.URL.Query().Get("route") == "backend.apps.identity":
			_, _ = w.Write(decisions)
		case r.URL.Path == "/v1/policy/candidate":
			_, _ = w.Write([]byte("{}\n"))
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// Every command of the guide runs, in one shell and one folder, and prints what
// the guide says. -update writes what it prints.
func TestTheGuideForPolicyAuthors(t *testing.T) {
	t.Parallel()
	const name = "../docs/policy-authors.md"
	text, err := os.ReadFile(name)
	require.NoError(t, err)
	document, blocks := string(text), blocksOf(string(text))
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "bin"), 0o700))
	require.NoError(t, os.Symlink(binary, filepath.Join(dir, "bin", "mtls-authz")))

	// One script, whose output is cut at a mark after each block.
	const mark = "-- end of block --\n"
	script := "cd work\n"
	for _, b := range blocks {
		if b.language == "sh" {
			script += b.text + "printf -- '" + strings.TrimSuffix(mark, "\n") + "\\n'\n"
		}
	}
	require.NoError(t, os.Mkdir(filepath.Join(dir, "work"), 0o700))
	command := exec.CommandContext(t.Context(), "sh", "-c", script)
	command.Dir = dir
	command.Env = append(os.Environ(), "PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH"), "GATEWAY="+standIn(t), "READ=reader:read-password")
	printed, err := command.CombinedOutput()
	require.NoError(t, err, "%s", printed)
	outputs := strings.Split(string(printed), mark)

	ran, updated, last := 0, "", 0
	for i, b := range blocks {
		if b.language != "sh" {
			continue
		}
		output := outputs[ran]
		ran++
		if i+1 == len(blocks) || blocks[i+1].language != "text" {
			assert.Empty(t, output, b.text)
			continue
		}
		expected := blocks[i+1]
		updated += document[last:expected.from] + output
		last = expected.to
		if !*update {
			assert.Equal(t, withoutDigests(expected.text), withoutDigests(output), b.text)
		}
	}
	require.GreaterOrEqual(t, ran, 10)
	if *update {
		require.NoError(t, os.WriteFile(name, []byte(updated+document[last:]), 0o644))
	}
}

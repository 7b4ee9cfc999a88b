package callerassertion_test

import (
	"bufio"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/callerassertion"
)

const snippets = "../docs/verify-the-caller"

// send writes a request as it is, and returns the status and body of the answer;
// a server that does not even answer has refused it.
func (p presented) send(t testing.TB, address string) (status int, body string) {
	connection, err := net.Dial("tcp", address)
	require.NoError(t, err)
	defer connection.Close()
	require.NoError(t, connection.SetDeadline(time.Now().Add(30*time.Second)))
	fmt.Fprintf(connection, "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n", p.Method, p.Target, p.Host)
	for _, assertion := range p.Assertions {
		fmt.Fprintf(connection, "X-Mtls-Authz-Assertion: %s\r\n", assertion)
	}
	fmt.Fprint(connection, "\r\n")
	response, err := http.ReadResponse(bufio.NewReader(connection), &http.Request{Method: p.Method})
	if err != nil {
		return 0, err.Error()
	}
	text, _ := io.ReadAll(response.Body)
	return response.StatusCode, string(text)
}

// checkLanguage tries every forgery on an app over HTTP, and then many requests
// in good order.
func (w *world) checkLanguage(t *testing.T, address string) {
	for _, row := range w.forgeries() {
		if row.name == "audience twice" && strings.Contains(t.Name(), "Node") {
			continue // JSON.parse does not tell; only the gateway could sign it
		}
		status, body := row.send(t, address)
		if row.want == nil {
			assert.Equal(t, http.StatusOK, status, "%s: %s", row.name, body)
		} else {
			assert.NotEqual(t, http.StatusOK, status, "%s: %s", row.name, body)
		}
	}
	for range 20 {
		status, body := presented{http.MethodGet, host, target, []string{w.token()}}.send(t, address)
		assert.Equal(t, http.StatusOK, status, body)
		assert.Equal(t, app, body)
	}
	assert.LessOrEqual(t, w.fetched(), 3, "unknown keys cause few fetches")
}

// start runs an app, which prints its port, until the test ends.
func start(t *testing.T, command *exec.Cmd) (address string) {
	stdin, err := command.StdinPipe()
	require.NoError(t, err)
	stdout, err := command.StdoutPipe()
	require.NoError(t, err)
	var stderr strings.Builder
	command.Stderr = &stderr
	require.NoError(t, command.Start())
	port, err := bufio.NewReader(stdout).ReadString('\n')
	t.Cleanup(func() {
		stdin.Close()
		assert.NoError(t, command.Wait(), stderr.String())
	})
	require.NoError(t, err, "expected a port")
	return "127.0.0.1:" + strings.TrimSpace(port)
}

// rootFile is a PEM file of the certificate that the world's gateway shows.
func (w *world) rootFile() string {
	name := filepath.Join(w.t.TempDir(), "root.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.server.Certificate().Raw})
	require.NoError(w.t, os.WriteFile(name, text, 0o600))
	return name
}

func runtime(t *testing.T, name string) string {
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed: the snippet for it is not tested here", name)
	}
	return path
}

func TestGoOverHTTP(t *testing.T) {
	w := newWorldAt(t, time.Now())
	server := httptest.NewServer(w.verifier().Middleware(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		claims, _ := callerassertion.FromContext(r.Context())
		fmt.Fprint(rw, claims.CallerApp)
	})))
	defer server.Close()
	w.checkLanguage(t, server.Listener.Addr().String())
}

func TestNodeSnippet(t *testing.T) {
	node := runtime(t, "node")
	w := newWorldAt(t, time.Now())
	command := exec.Command(node, "testdata/server.mjs", snippets+"/caller-assertion.mjs", w.server.URL, host)
	command.Env = append(os.Environ(), "NODE_EXTRA_CA_CERTS="+w.rootFile())
	w.checkLanguage(t, start(t, command))
}

func TestJavaSnippet(t *testing.T) {
	java, javac := runtime(t, "java"), runtime(t, "javac")
	w := newWorldAt(t, time.Now())
	classes := t.TempDir()
	out, err := exec.Command(javac, "-Xlint:all", "-Werror", "-d", classes, snippets+"/CallerAssertion.java", "testdata/Server.java").CombinedOutput()
	require.NoError(t, err, string(out))
	w.checkLanguage(t, start(t, exec.Command(java, "-XX:TieredStopAtLevel=1", "-cp", classes, "Server", w.server.URL, host, w.rootFile())))
}

func TestGoInTheDocumentationBuilds(t *testing.T) {
	code, err := os.ReadFile("testdata/app/main.go")
	require.NoError(t, err)
	doc, err := os.ReadFile(snippets + ".md")
	require.NoError(t, err)
	assert.Contains(t, string(doc), "```go\n"+string(code)+"```\n", "the documentation shows testdata/app/main.go as it is")
	out, err := exec.Command("go", "build", "-o", os.DevNull, "./testdata/app").CombinedOutput()
	require.NoError(t, err, string(out))
}

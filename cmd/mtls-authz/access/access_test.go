package access_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/access"
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
		Access access.Command `cmd:""`
		Grant  grant.Command  `cmd:""`
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
		if errors.Is(err, access.ErrDenied) {
			return access.ExitDenied
		}
		return 1
	}
	return 0
}

const (
	password = "readers-own-password"
	app      = "d76446a1-f429-4444-8797-be2f78b75b08"
	scraper  = "1f7c3a52-9d1f-4a0e-8c55-6f2a1d0e7b02"
	space    = "0a1b8c6e-7d0e-4b8e-93fd-1f4a3d2b9c10"
	second   = "1a1b8c6e-7d0e-4b8e-93fd-1f4a3d2b9c11"
	org      = "6e424e4e-5e46-419a-9cb6-eac9de2794e8"
	authz    = "3b1c8a52-9d1f-4a0e-8c55-6f2a1d0e7b34"
	shared   = "4b1c8a52-9d1f-4a0e-8c55-6f2a1d0e7b35"
)

const (
	tooLarge = "too large" // an answer that is refused
	hasNext  = "(next)"    // at the end of a page that is not the last
)

// gateway answers as /v1 does, and keeps what it was asked.
type gateway struct {
	*httptest.Server
	answers map[string]string // by method and path, with the query

	mu    sync.Mutex
	heard []string
}

// asked are the requests until now.
func (g *gateway) asked() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.heard)
}

func serve(t *testing.T, answers map[string]string) *gateway {
	t.Helper()
	g := &gateway{answers: answers}
	g.Server = httptest.NewTLSServer(http.HandlerFunc(g.answer))
	t.Cleanup(g.Close)
	return g
}

// answer answers, or redirects to an answer that is a URL.
func (g *gateway) answer(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	user, pass, _ := r.BasicAuth()
	g.mu.Lock()
	g.heard = append(g.heard, strings.TrimSpace(r.Method+" "+r.URL.RequestURI()+" "+r.Header.Get("Accept")+" "+string(body)))
	g.mu.Unlock()
	answer, known := g.answers[r.Method+" "+r.URL.RequestURI()]
	switch {
	case (user != "auditor" || pass != password) && r.Header.Get("Authorization") != "bearer "+cftest.Token:
		w.WriteHeader(http.StatusUnauthorized)
	case !known:
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprintf(w, `{"status":404,"title":"Not Found","detail":"there is no bound route %s"}`, `\u001b[2J`)
	case strings.HasPrefix(answer, "http"):
		http.Redirect(w, r, answer, http.StatusFound)
	case answer == tooLarge:
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"status":400,"title":"Bad Request","detail":"the page is too large: 40 MiB, at most 32 are shown at once"}`)
	default:
		if rest, ok := strings.CutSuffix(answer, hasNext); ok {
			answer = rest
			w.Header().Set("Link", `<https://elsewhere.example/v1/routes?page=2>; rel="next"`)
		}
		w.Header().Set("Content-Type", r.Header.Get("Accept")+"; charset=utf-8")
		_, _ = io.WriteString(w, answer)
	}
}

func (g *gateway) environ() []string {
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: g.Certificate().Raw})
	return []string{"MTLS_AUTHZ_URL=" + g.URL, "READ_USERNAME=auditor", "READ_PASSWORD=" + password, "CA_FILES=" + string(ca), "GORACE=atexit_sleep_ms=0"}
}

// result is what became of a command.
type result struct {
	code           int
	stdout, stderr string
}

// mtlsAuthz runs a command line, split at spaces. Later variables win.
func mtlsAuthz(t *testing.T, stdin, line string, environ ...string) result {
	t.Helper()
	executable, err := os.Executable()
	require.NoError(t, err)
	process := exec.CommandContext(t.Context(), executable)
	process.Args = append([]string{"mtls-authz", "access"}, strings.Fields(line)...)
	process.Env, process.Dir, process.Stdin = environ, t.TempDir(), strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	process.Stdout, process.Stderr = &stdout, &stderr
	if err := process.Run(); err != nil {
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit)
	}
	assert.NotContains(t, stdout.String()+stderr.String(), password)
	assert.NotContains(t, stdout.String()+stderr.String(), cftest.Token)
	assert.NotContains(t, stdout.String()+stderr.String(), "\x1b")
	return result{process.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// foundation has two apps and three bound routes.
func foundation() cftest.Foundation {
	return cftest.Foundation{
		TargetSpace: space,
		Orgs:        []cftest.Org{{GUID: org, Name: "acme"}},
		Spaces:      []cftest.Space{{GUID: space, Name: "dev", Org: org}, {GUID: second, Name: "monitoring", Org: org}},
		Apps:        []cftest.App{{GUID: app, Name: "frontend", Space: space}, {GUID: scraper, Name: "scraper", Space: second}},
		Domains:     []cftest.Named{{GUID: "domain-1", Name: "apps.identity"}},
		Routes: []cftest.Route{
			{GUID: "8b1c8a52-9d1f-4a0e-8c55-6f2a1d0e7b01", Host: "backend", Domain: "domain-1", Space: space, Instance: authz},
			{GUID: "8b1c8a52-9d1f-4a0e-8c55-6f2a1d0e7b02", Host: "api", Domain: "domain-1", Path: "/metrics", Space: space, Instance: shared},
			{GUID: "8b1c8a52-9d1f-4a0e-8c55-6f2a1d0e7b03", Host: "web", Domain: "domain-1", Space: space, Instance: shared},
			{GUID: "8b1c8a52-9d1f-4a0e-8c55-6f2a1d0e7b04", Host: "open", Domain: "domain-1", Space: space},
		},
		Instances: []cftest.Instance{
			{GUID: authz, Name: "my-authz", Space: space, Offering: "mtls-authz", Plan: "org"},
			{GUID: shared, Name: "it's shared", Space: space, Offering: "mtls-authz", Plan: "org"},
		},
	}
}

func TestAnswersAreShownAsTheyAre(t *testing.T) {
	t.Parallel()
	g := serve(t, map[string]string{
		"GET /v1/routes?per_page=128&page=1":         "ROUTE\nbackend.apps.identity\n",
		"GET /v1/routes/backend.apps.identity":       "route  backend.apps.identity\n\x1b[2Jend\n",
		"GET /v1/routes/%2A.apps.identity/a%20b%3Fc": "{}\n",
		"GET /v1/decisions/..%2Froutes":              "outcome denied\n",
	})
	assert.Equal(t, result{0, "ROUTE\nbackend.apps.identity\n", ""}, mtlsAuthz(t, "", "", g.environ()...))
	assert.Equal(t, result{0, "route  backend.apps.identity\n[2Jend\n", ""}, mtlsAuthz(t, "", "backend.apps.identity", g.environ()...))
	assert.Equal(t, result{0, "outcome denied\n", ""}, mtlsAuthz(t, "", "--decision ../routes", g.environ()...))
	r := mtlsAuthz(t, "", "unknown.apps.identity --json", g.environ()...)
	assert.Equal(t, 1, r.code)
	assert.Contains(t, r.stderr, "there is no bound route")
	assert.Equal(t, []string{"GET /v1/routes?per_page=128&page=1 text/plain", "GET /v1/routes/backend.apps.identity text/plain", "GET /v1/decisions/..%2Froutes text/plain", "GET /v1/routes/unknown.apps.identity application/json"}, g.asked())
}

func TestExitStatusOfAQuestion(t *testing.T) {
	t.Parallel()
	who := " --app " + app + " --space " + space + " --org " + org
	for answer, want := range map[string]int{
		"outcome   allowed\n": 0, "outcome   not_enforced no_certificate\n": 0, "outcome   denied no_matching_grant\n": 3,
		"outcome   perhaps\n": 1, "": 1, "allowed\n": 1, "the outcome is allowed\n": 1, "default allowed\n": 1,
		`{"outcome":"allowed"}`: 0, `{"outcome":"denied","reason":"scope"}`: 3, `{"allowed":true}`: 1, `{"outcome":""}`: 1, `{"`: 1, `{"outcome":"Allowed"}`: 1,
	} {
		g := serve(t, map[string]string{"POST /v1/decide": answer})
		line := "backend.apps.identity" + who
		if strings.HasPrefix(answer, "{") {
			line += " --json"
		}
		r := mtlsAuthz(t, "", line, g.environ()...)
		assert.Equal(t, want, r.code, "%q %s", answer, r.stderr)
		assert.Equal(t, answer, r.stdout)
	}
}

func TestCallersByName(t *testing.T) {
	t.Parallel()
	question := func(app, space, org, method, url string) string {
		return `{"caller":{"app":"` + app + `","space":"` + space + `","org":"` + org + `"},"method":"` + method + `","url":"` + url + `"}`
	}
	const unseen = "99999999-9999-4999-8999-999999999999"
	for line, want := range map[string]string{
		"backend.apps.identity --app frontend":                                             question(app, space, org, "GET", "https://backend.apps.identity"),
		"backend.apps.identity --app frontend --method DELETE --url-path /a//b?x=1":        question(app, space, org, "DELETE", "https://backend.apps.identity/a//b?x=1"),
		"api.apps.identity/metrics --app scraper --space monitoring":                       question(scraper, second, org, "GET", "https://api.apps.identity/metrics"),
		"api.apps.identity/metrics --app scraper --space monitoring --org acme":            question(scraper, second, org, "GET", "https://api.apps.identity/metrics"),
		"backend.apps.identity --app scraper --space " + second:                            question(scraper, second, org, "GET", "https://backend.apps.identity"),
		"backend.apps.identity --app " + scraper:                                           question(scraper, second, org, "GET", "https://backend.apps.identity"),
		"backend.apps.identity --app " + unseen:                                            question(unseen, "", "", "GET", "https://backend.apps.identity"),
		"backend.apps.identity --app " + unseen + " --space " + space + " --org " + unseen: question(unseen, space, unseen, "GET", "https://backend.apps.identity"),
	} {
		g := serve(t, map[string]string{"POST /v1/decide": "outcome allowed\n"})
		r := mtlsAuthz(t, "", line, slices.Concat(cftest.New(t, foundation()).Environ(), g.environ())...)
		require.Zero(t, r.code, "%s: %s", line, r.stderr)
		assert.Equal(t, []string{"POST /v1/decide text/plain " + want}, g.asked())
	}
	for line, want := range map[string]string{
		"backend.apps.identity --app nobody":                             "App 'nobody' not found",
		"backend.apps.identity --app scraper --space monitoring --org x": `org "x": not found`,
		"backend.apps.identity --app frontend --org acme":                "needs --space",
		"backend.apps.identity --app frontend --url-path x":              "begins with /",
		"backend.apps.identity --method GET":                             "a route and --app",
		"--app frontend":                                                 "a route and --app",
		"backend.apps.identity --app frontend --decision x":              "give one of",
		"backend.apps.identity --export cf-commands":                     "give one of",
		"backend.apps.identity/../x":                                     "expected host or host/path",
	} {
		g := serve(t, nil)
		r := mtlsAuthz(t, "", line, slices.Concat(cftest.New(t, foundation()).Environ(), g.environ())...)
		assert.Equal(t, 1, r.code)
		assert.Contains(t, r.stderr, want)
		assert.Empty(t, g.asked())
	}
}

// Without the readers' password, a developer's own login is enough for what is
// bound to the own service.
func TestDevelopersAskWithTheirOwnLogin(t *testing.T) {
	t.Parallel()
	const below = "/v1/instances/" + authz
	asUser := func(t *testing.T, g *gateway, line string, f cftest.Foundation) result {
		t.Helper()
		return mtlsAuthz(t, "", line, slices.Concat(cftest.New(t, f).Environ(), g.environ(), []string{"READ_USERNAME=", "READ_PASSWORD="})...)
	}
	g := serve(t, map[string]string{
		"POST " + below + "/decide": "outcome denied no_grants\n", "GET " + below + "/decisions/x": "why\n",
		"GET " + below + "/routes?per_page=128&page=1": "routes\n",
	})
	r := asUser(t, g, "backend.apps.identity --app frontend", foundation())
	assert.Equal(t, result{access.ExitDenied, "outcome denied no_grants\n", "mtls-authz: denied: no_grants\n"}, r)
	assert.Equal(t, result{0, "why\n", ""}, asUser(t, g, "backend.apps.identity --decision x", foundation()))
	assert.Equal(t, result{0, "routes\n", ""}, asUser(t, g, "backend.apps.identity", foundation()))
	require.Len(t, g.asked(), 3)
	away := foundation()
	away.NoLogin = true
	for line, want := range map[string]string{
		"":                              "name a route of yours",
		"--decision x":                  "name a route of yours",
		"--export cf-commands":          "name a route of yours",
		"nobodys.apps.identity":         "not found",
		"backend.unknown.example":       "not found",
		"open.apps.identity":            "bound to no service",
		"backend.apps.identity --app x": "App 'x' not found",
	} {
		r := asUser(t, g, line, foundation())
		assert.Equal(t, 1, r.code, line)
		assert.Contains(t, r.stderr, want, line)
	}
	assert.Contains(t, asUser(t, g, "backend.apps.identity", away).stderr, "cf login")
	r = mtlsAuthz(t, "", "backend.apps.identity", append(g.environ(), "READ_USERNAME=", "READ_PASSWORD=", "PATH=/nowhere")...)
	assert.Contains(t, r.stderr, "READ_USERNAME")
	r = mtlsAuthz(t, "", "backend.apps.identity", append(g.environ(), "READ_PASSWORD=")...)
	assert.Contains(t, r.stderr, "who asks?", "half of a password is a mistake")
	require.Len(t, g.asked(), 3, "nothing is asked")
}

// A list is read to its end, in pages that are small enough.
func TestListsAreReadToTheEnd(t *testing.T) {
	g := serve(t, map[string]string{
		"GET /v1/routes?per_page=128&page=1": "first\n" + hasNext, "GET /v1/routes?per_page=128&page=2": tooLarge,
		"GET /v1/routes?per_page=64&page=3": "second\n" + hasNext, "GET /v1/routes?per_page=64&page=4": "third\n",
	})
	assert.Equal(t, result{0, "first\nsecond\nthird\n", ""}, mtlsAuthz(t, "", "", g.environ()...))
	page := func(next, routes string) string {
		return `{"pagination":{"total_results":3,"next":` + next + `},"warnings":["w"],"resources":[` + routes + `]}`
	}
	g = serve(t, map[string]string{
		"GET /v1/routes?per_page=128&page=1": page(`{"href":"https://elsewhere.example"}`, `{"route":"a"},{"route":"b"}`),
		"GET /v1/routes?per_page=128&page=2": page("null", `{"route":"c"}`),
	})
	got := mtlsAuthz(t, "", "--json", g.environ()...)
	require.Zero(t, got.code, got.stderr)
	assert.JSONEq(t, `{"pagination":{"total_results":3,"next":null},"warnings":["w","w"],"resources":[{"route":"a"},{"route":"b"},{"route":"c"}]}`, got.stdout)
	g = serve(t, map[string]string{"GET /v1/routes?per_page=128&page=1": tooLarge})
	assert.Equal(t, 1, mtlsAuthz(t, "", "", g.environ()...).code)
}

func TestCredentialsGoToTheGatewayAlone(t *testing.T) {
	t.Parallel()
	elsewhere := serve(t, nil)
	g := serve(t, map[string]string{"GET /v1/routes?per_page=128&page=1": elsewhere.URL})
	r := mtlsAuthz(t, "", "", g.environ()...)
	assert.Equal(t, 1, r.code)
	assert.Contains(t, r.stderr, "redirect")
	assert.Empty(t, elsewhere.asked())

	host := strings.TrimPrefix(g.URL, "https://")
	for _, base := range []string{
		"", "http://gateway.example", "http://localhost:1", "http://127.0.0.1.example", "ftp://127.0.0.1", host, "//" + host, "https://user:pass@" + host, g.URL + "/v1", g.URL + "?x", g.URL + "#x", "https://",
	} {
		r := mtlsAuthz(t, "", "--url="+base, g.environ()...)
		assert.Equal(t, 1, r.code)
		assert.Contains(t, r.stderr, "expected https://host of the gateway", base)
	}
	assert.Len(t, g.asked(), 1)

	r = mtlsAuthz(t, "", "", append(g.environ(), "CA_FILES=")...)
	assert.Contains(t, r.stderr, "certificate", "a gateway with an unknown certificate is asked nothing")
	r = mtlsAuthz(t, "", "", append(g.environ(), "CA_FILES=/nowhere.pem")...)
	assert.Contains(t, r.stderr, "CA_FILES")
	for _, missing := range []string{"READ_USERNAME=", "READ_PASSWORD="} {
		r = mtlsAuthz(t, "", "", append(g.environ(), missing)...)
		assert.Contains(t, r.stderr, "set READ_USERNAME and READ_PASSWORD")
	}
	assert.Len(t, g.asked(), 1)
	r = mtlsAuthz(t, "", "", append(g.environ(), "READ_PASSWORD=wrong")...)
	assert.Contains(t, r.stderr, "wrong credentials")
}

func TestWhatIsNoGateway(t *testing.T) {
	t.Parallel()
	g := &gateway{Server: httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<html>outcome allowed")
	}))}
	t.Cleanup(g.Close)
	r := mtlsAuthz(t, "", "backend.apps.identity", g.environ()...)
	assert.Equal(t, 1, r.code)
	assert.Empty(t, r.stdout)
	assert.Contains(t, r.stderr, "is that a gateway")
}

// Package cftest is a Cloud Foundry in a file, and a cf command for it: for tests
// of what uses the user's cf. The test's own executable is that command, under
// the name cf, so that arguments, exit codes and both outputs are those of a real
// process.
//
// It answers in the shapes of Cloud Controller's v3 API and of cf 8 and 9, and
// refuses what it does not know: a test must not pass because a filter was
// ignored. It is no part of the program.
package cftest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Foundation is what is there and who looks at it.
type Foundation struct {
	Orgs    []Org
	Spaces  []Space
	Apps    []App
	Domains []Named
	Routes  []Route
	// Instances of services.
	Instances []Instance
	// Policies are native route policies.
	Policies []Policy
	// TargetSpace is the guid of the targeted space; "": none. NoLogin: the user is
	// not logged in.
	TargetSpace string
	NoLogin     bool
	// Hidden are guids that the user may not see.
	Hidden []string
	// Refusal is why the broker refuses every update; "": it does not.
	Refusal string
	// PageSize is the largest that a page gets; 0: 5000.
	PageSize int
}

// The things of a foundation. Of names and guids only the latter are unique.
type (
	// Named has a guid and a name.
	Named struct{ GUID, Name string }
	// Org has spaces.
	Org Named
	// Space is in an org.
	Space struct{ GUID, Name, Org string }
	// App is in a space. Labels are key=value with commas between them.
	App struct{ GUID, Name, Space, Labels string }
	// Route is bound to Instance; "": to none.
	Route struct{ GUID, Host, Domain, Path, Space, Instance string }
	// Instance is of the offering; "": user-provided. Parameters are what the
	// broker shows.
	Instance struct {
		GUID, Name, Space, Offering string
		Plan                        string
		Parameters                  json.RawMessage
	}
	// Policy is a native one.
	Policy struct{ GUID, Route, Source string }
)

// A CF is the command in a folder of its own.
type CF struct {
	t *testing.T
	// Dir is for PATH; State is the file of the foundation.
	Dir, State string
}

// Token is the user's.
const Token = "eyJhbGciOiJSUzI1NiJ9.e30.the-users-own" //nolint:gosec // opens nothing

// stateVariable tells the command where its foundation is.
const stateVariable = "CFTEST_STATE"

// Main is to be called by TestMain: it is the cf command where the executable has
// that name, and does not return then.
func Main() {
	if filepath.Base(os.Args[0]) == "cf" {
		os.Exit(run(os.Args[1:]))
	}
}

// New makes the command for a foundation.
func New(t *testing.T, f Foundation) *CF {
	t.Helper()
	executable, err := os.Executable()
	require.NoError(t, err)
	dir := t.TempDir()
	c := &CF{t: t, Dir: filepath.Join(dir, "bin"), State: filepath.Join(dir, "foundation.json")}
	require.NoError(t, os.Mkdir(c.Dir, 0o700))
	require.NoError(t, os.Symlink(executable, filepath.Join(c.Dir, "cf")))
	require.NoError(t, save(c.State, f))
	return c
}

// Environ is the environment of a process that finds this cf, and no other. Under
// the race detector a process would sleep for a second at its end.
func (c *CF) Environ() []string {
	return []string{"PATH=" + c.Dir + ":/usr/bin:/bin", stateVariable + "=" + c.State, "CF_TRACE=true", "GORACE=atexit_sleep_ms=0"}
}

// Foundation is what is there now.
func (c *CF) Foundation() Foundation {
	c.t.Helper()
	f, err := load(c.State)
	require.NoError(c.t, err)
	return f
}

// Calls are the arguments of every call, each in one JSON list.
func (c *CF) Calls() [][]string {
	c.t.Helper()
	text, err := os.ReadFile(c.State + ".calls")
	if os.IsNotExist(err) {
		return nil
	}
	require.NoError(c.t, err)
	var calls [][]string
	for line := range strings.Lines(string(text)) {
		var args []string
		require.NoError(c.t, json.Unmarshal([]byte(line), &args))
		calls = append(calls, args)
	}
	return calls
}

// Changes are the calls that are not questions.
func (c *CF) Changes() (changes [][]string) {
	for _, args := range c.Calls() {
		if args[0] == "update-service" || args[0] == "add-route-policy" {
			changes = append(changes, args)
		}
	}
	return changes
}

func load(path string) (f Foundation, err error) {
	text, err := os.ReadFile(path) //nolint:gosec // the test named it
	if err == nil {
		err = json.Unmarshal(text, &f)
	}
	return f, err
}

func save(path string, f Foundation) error {
	text, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600) //nolint:gosec // the test named it
}

// record keeps the arguments.
func record(path string, args []string) error {
	line, err := json.Marshal(args)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(path+".calls", os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600) //nolint:gosec // the test named it
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(file, "%s\n", line)
	return err
}

package acceptance_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/mtls-authz/mtls-authz/playground/router"
)

var (
	// binary is what is tested.
	binary string
	// gorouterBin is the real router to test with; "": the stand-in.
	gorouterBin = os.Getenv("GOROUTER_BIN")
	heavy       = os.Getenv("MTLS_AUTHZ_HEAVY") == "1"
	update      = flag.Bool("update", false, "write the golden files anew")
)

// The worlds that many tests share, each test with routes of its own. They
// start when the first test asks.
var (
	common   = lazy(setup{})
	wild     = lazy(setup{env: []string{"ALLOW_WILDCARD_ROUTES=true"}})
	limited  = lazy(setup{env: limits, port: true})
	policed  = lazy(setup{bundle: bundle})
	forwards = lazy(setup{mode: router.Forward, untrusted: true})
)

func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.parallel").Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
		// Most tests wait, for other processes or for time to pass.
		_ = flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0))) // a flag that is there takes a number
	}
	os.Exit(run(m))
}

func run(m *testing.M) (code int) {
	dir, err := os.MkdirTemp("", "mtls-authz-acceptance-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if binary, err = build(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	// After the build, which needs more room.
	if err := os.Setenv("TMPDIR", inMemory()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code = m.Run()
	if problem := atEnd.close(); problem != nil {
		fmt.Fprintln(os.Stderr, "FAIL: what tests share:", problem)
		code = 1
	}
	return code
}

// atEnd closes what tests shared when all are over, the last made first.
var atEnd closers

type closers struct {
	mu   sync.Mutex
	list []func() error
}

func (c *closers) add(closer func() error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, closer)
}

func (c *closers) close() error {
	var problems []error
	for _, closer := range slices.Backward(c.list) {
		problems = append(problems, closer())
	}
	return errors.Join(problems...)
}

// build builds the binary once; for make race with the race detector: a race
// ends the gateway with an exit code that is not 0.
func build(dir string) (string, error) {
	if given := os.Getenv("MTLS_AUTHZ_BIN"); given != "" {
		return filepath.Abs(given)
	}
	path := filepath.Join(dir, "mtls-authz")
	args := []string{"build", "-o", path, "../cmd/mtls-authz"}
	if os.Getenv("MTLS_AUTHZ_RACE") != "" {
		args = slices.Insert(args, 1, "-race")
	}
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the binary: %w\n%s", err, out)
	}
	return path, nil
}

// lazyWorld is a shared world.
type lazyWorld struct {
	setup setup
	once  sync.Once
	world *world
	err   error
}

func lazy(s setup) func(t *testing.T) *world {
	l := &lazyWorld{setup: s}
	return func(t *testing.T) *world {
		t.Helper()
		l.once.Do(func() {
			l.world, l.err = l.start()
		})
		if l.err != nil {
			t.Fatal(l.err)
		}
		t.Cleanup(func() { l.world.checkSecrets(t) })
		return l.world
	}
}

// start makes a directory that outlives the test that asked first.
func (l *lazyWorld) start() (*world, error) {
	dir, err := os.MkdirTemp("", "mtls-authz-acceptance-")
	if err != nil {
		return nil, err
	}
	w, err := newWorld(dir, l.setup)
	if err == nil {
		atEnd.add(func() error { return errors.Join(w.close(), os.RemoveAll(dir)) })
	}
	return w, err
}

// needsStandIn skips a test where a real gorouter cannot do what it needs.
func needsStandIn(t *testing.T, why string) {
	t.Helper()
	if gorouterBin != "" {
		t.Skip("not with a real gorouter: " + why)
	}
}

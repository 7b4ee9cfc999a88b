package store_test

import (
	"database/sql"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	postgresPassword = "s3cret-of-the-state"
	// patience is for what should be done at once, on a machine that is busy.
	patience = 30 * time.Second
)

// postgres is a PostgreSQL server of its own, on loopback.
type postgres struct {
	binaries, dir string
	port          int
	process       *exec.Cmd
}

// shared serves all tests that do not harm it.
var shared struct {
	once   sync.Once
	server *postgres
	err    error
	names  atomic.Int64
}

func TestMain(m *testing.M) {
	if url := os.Getenv(openedElsewhere); url != "" {
		openElsewhere(url)
	}
	code := m.Run()
	if shared.server != nil {
		shared.server.stop(syscall.SIGQUIT)
		_ = os.RemoveAll(shared.server.dir)
	}
	os.Exit(code)
}

// newPostgres returns the URL of an empty database.
func newPostgres(t testing.TB) string {
	t.Helper()
	shared.once.Do(func() {
		if shared.server, shared.err = initPostgres(); shared.err == nil {
			shared.err = shared.server.start("-c", "fsync=off")
		}
	})
	require.NoError(t, shared.err)
	return shared.server.newDatabase(t)
}

func (p *postgres) newDatabase(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("state%d", shared.names.Add(1))
	sqlOn(t, p.url("postgres"), `CREATE DATABASE `+name)
	return p.url(name)
}

func (p *postgres) url(name string) string {
	return fmt.Sprintf("postgres://gateway:%s@127.0.0.1:%d/%s?sslmode=disable", postgresPassword, p.port, name)
}

// initPostgres makes a cluster, and does not start it.
func initPostgres() (*postgres, error) {
	p := &postgres{}
	initdb, err := exec.LookPath("initdb")
	if err != nil {
		found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
		if len(found) == 0 {
			return nil, fmt.Errorf("these tests need PostgreSQL 15: run make setup (%w)", err)
		}
		initdb = found[len(found)-1]
	}
	if initdb, err = filepath.EvalSymlinks(initdb); err != nil {
		return nil, err
	}
	p.binaries = filepath.Dir(initdb)
	if p.dir, err = os.MkdirTemp("", "mtls-authz-postgres-"); err != nil {
		return nil, err
	}
	password := filepath.Join(p.dir, "password")
	if err := os.WriteFile(password, []byte(postgresPassword), 0o644); err != nil {
		return nil, err
	}
	if owner := p.owner(); owner != nil {
		if err := os.Chown(p.dir, int(owner.Uid), int(owner.Gid)); err != nil {
			return nil, err
		}
	}
	out, err := p.command("initdb", "-D", p.data(), "-U", "gateway", "-A", "scram-sha-256", "--pwfile", password, "-E", "UTF8", "--locale", "C", "--no-sync").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p.port = listener.Addr().(*net.TCPAddr).Port
	return p, listener.Close()
}

func (p *postgres) data() string { return filepath.Join(p.dir, "data") }

// owner is whom the server runs as: it refuses to run as root.
func (p *postgres) owner() *syscall.Credential {
	if os.Geteuid() != 0 {
		return nil
	}
	name, err := user.Lookup("postgres")
	if err != nil {
		return nil
	}
	uid, _ := strconv.ParseUint(name.Uid, 10, 32)
	gid, _ := strconv.ParseUint(name.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

func (p *postgres) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(p.binaries, name), args...)
	cmd.Dir = p.dir
	cmd.Env = []string{"LC_ALL=C", "PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.owner()}
	return cmd
}

// start waits until the server answers. After a kill, the first tries may find
// that processes of the former server still run.
func (p *postgres) start(args ...string) error {
	var text string
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		log := &strings.Builder{}
		p.process = p.command("postgres", append([]string{"-D", p.data(), "-h", "127.0.0.1", "-p", strconv.Itoa(p.port), "-k", p.dir}, args...)...)
		p.process.Stdout, p.process.Stderr = log, log
		if err := p.process.Start(); err != nil {
			return err
		}
		ended := make(chan struct{})
		go func(process *exec.Cmd) { _ = process.Wait(); close(ended) }(p.process)
		for running := true; running && time.Now().Before(end); {
			select {
			case <-ended:
				text, running = log.String(), false
			case <-time.After(20 * time.Millisecond):
				if p.answers() {
					return nil
				}
			}
		}
	}
	return fmt.Errorf("PostgreSQL does not start: %s", text)
}

func (p *postgres) answers() bool {
	db, err := sql.Open("pgx", p.url("postgres"))
	if err != nil {
		return false
	}
	defer func() { _ = db.Close() }()
	return db.Ping() == nil
}

// stop ends the server by a signal to its first process, and waits for that.
func (p *postgres) stop(signal syscall.Signal) {
	_ = p.process.Process.Signal(signal)
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if p.process.Process.Signal(syscall.Signal(0)) != nil {
			return
		}
	}
}

// freeze stops or continues all processes of the server.
func (p *postgres) freeze(t testing.TB, signal syscall.Signal) {
	t.Helper()
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", p.process.Process.Pid))
	require.NoError(t, err)
	require.NoError(t, p.process.Process.Signal(signal))
	for _, child := range strings.Fields(string(children)) {
		pid, err := strconv.Atoi(child)
		require.NoError(t, err)
		_ = syscall.Kill(pid, signal) // it may have ended
	}
}

// ownPostgres is a server that a test may harm.
func ownPostgres(t testing.TB, args ...string) *postgres {
	t.Helper()
	p, err := initPostgres()
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(p.dir) })
	require.NoError(t, p.start(args...))
	t.Cleanup(func() { p.stop(syscall.SIGQUIT) })
	return p
}

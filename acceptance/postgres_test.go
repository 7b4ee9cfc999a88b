package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// databasePassword must be in no line and in no answer.
const databasePassword = "s3cret-of-the-database"

// postgres is a PostgreSQL server of its own, on loopback.
type postgres struct {
	dir     string
	port    int
	process *exec.Cmd
	ended   chan struct{}
	names   atomic.Int64
}

// emptyCluster is made once; every server starts on a copy of it.
var emptyCluster = sync.OnceValues(func() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "mtls-authz-postgres-"); err != nil {
		return "", err
	}
	atEnd.add(func() error { return os.RemoveAll(dir) })
	password := filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte(databasePassword), 0o644); err != nil {
		return dir, err
	}
	if owner := databaseOwner(); owner != nil {
		if err := os.Chown(dir, int(owner.Uid), int(owner.Gid)); err != nil {
			return dir, err
		}
	}
	_, err = databaseProgram(dir, "initdb", "-D", filepath.Join(dir, "data"), "-U", "postgres", "-A", "scram-sha-256", "--pwfile", password,
		"-E", "UTF8", "--locale", "C", "--no-sync")
	return dir, err
})

// sharedPostgres serves all tests that do not harm it.
var sharedPostgres = sync.OnceValues(func() (*postgres, error) {
	p, err := newPostgres()
	if p != nil {
		atEnd.add(p.close)
	}
	return p, err
})

// ownPostgres is a server that a test may harm.
func ownPostgres(t *testing.T) *postgres {
	t.Helper()
	p, err := newPostgres()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.close()) })
	return p
}

func newPostgres() (*postgres, error) {
	template, err := emptyCluster()
	if err != nil {
		return nil, fmt.Errorf("these tests need PostgreSQL 15: run make setup: %w", err)
	}
	p := &postgres{}
	if p.dir, err = os.MkdirTemp("", "mtls-authz-postgres-"); err != nil {
		return nil, err
	}
	if out, err := exec.Command("cp", "-a", template+"/.", p.dir).CombinedOutput(); err != nil {
		return p, fmt.Errorf("cp: %w: %s", err, out)
	}
	if p.port, err = freePort(); err != nil {
		return p, err
	}
	if err := p.start(); err != nil {
		return p, err
	}
	return p, p.exec("postgres", fmt.Sprintf("CREATE ROLE gateway LOGIN PASSWORD '%s'", databasePassword))
}

// databaseOwner is whom the server runs as: it refuses to run as root.
func databaseOwner() *syscall.Credential {
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

// databaseCommand finds a program of PostgreSQL's where Debian puts it.
func databaseCommand(dir, name string, args ...string) *exec.Cmd {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	path := name
	if len(found) > 0 {
		path = slices.Max(found)
	}
	command := exec.Command(path, args...)
	command.Dir, command.Env, command.SysProcAttr = dir, []string{"LC_ALL=C", "PATH=" + os.Getenv("PATH")}, endWithParent()
	if owner := databaseOwner(); owner != nil {
		if command.SysProcAttr == nil {
			command.SysProcAttr = &syscall.SysProcAttr{}
		}
		command.SysProcAttr.Credential = owner
	}
	return command
}

func databaseProgram(dir, name string, args ...string) (string, error) {
	out, err := databaseCommand(dir, name, args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return string(out), err
}

// start starts the server, and waits until it answers. After a crash it may
// need more than one try.
func (p *postgres) start() error {
	log := filepath.Join(p.dir, "log")
	return until("PostgreSQL", func() error {
		p.process = databaseCommand(p.dir, "postgres", "-D", filepath.Join(p.dir, "data"), "-h", "127.0.0.1", "-p", strconv.Itoa(p.port),
			"-k", p.dir, "-c", "fsync=off", "-c", "max_connections=200")
		file, err := os.Create(log)
		if err != nil {
			return err
		}
		defer file.Close()
		p.process.Stderr = file
		if err := p.process.Start(); err != nil {
			return err
		}
		p.ended = make(chan struct{})
		go func(process *exec.Cmd, ended chan struct{}) { _ = process.Wait(); close(ended) }(p.process, p.ended)
		for {
			if conn, err := p.connect("postgres"); err == nil {
				return conn.Close(context.Background())
			}
			select {
			case <-p.ended:
				said, _ := os.ReadFile(log)
				return errors.New(string(said))
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
}

// stop ends the server by a signal to its first process: SIGINT as a restart
// does, SIGQUIT as a crash.
func (p *postgres) stop(signal syscall.Signal) {
	_ = p.process.Process.Signal(signal)
	<-p.ended
}

// freeze stops all processes of the server, or continues them.
func (p *postgres) freeze(t *testing.T, signal syscall.Signal) {
	t.Helper()
	pid := p.process.Process.Pid
	require.NoError(t, syscall.Kill(pid, signal))
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
	require.NoError(t, err)
	for _, child := range strings.Fields(string(children)) {
		pid, err := strconv.Atoi(child)
		require.NoError(t, err)
		_ = syscall.Kill(pid, signal) // it may have ended
	}
}

func (p *postgres) close() error {
	if p.process != nil {
		p.stop(syscall.SIGINT) // which leaves no shared memory behind
	}
	return os.RemoveAll(p.dir)
}

// newDatabase makes an empty database for gateways.
func (p *postgres) newDatabase() (name string, err error) {
	name = fmt.Sprintf("state%d", p.names.Add(1))
	return name, p.exec("postgres", `CREATE DATABASE `+name+` OWNER gateway`)
}

// url is what a gateway connects by.
func (p *postgres) url(name string) string { return p.urlOf("gateway", name) }

func (p *postgres) urlOf(role, name string) string {
	return fmt.Sprintf("postgres://%s:%s@127.0.0.1:%d/%s?sslmode=disable", role, databasePassword, p.port, name)
}

// connect connects as the superuser.
func (p *postgres) connect(name string) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return pgx.Connect(ctx, p.urlOf("postgres", name))
}

// exec runs statements on a database as the superuser.
func (p *postgres) exec(name string, statements ...string) error {
	conn, err := p.connect(name)
	if err != nil {
		return err
	}
	ctx := context.Background()
	defer conn.Close(ctx)
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}

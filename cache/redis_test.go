package cache_test

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/cache/server"
)

// redisServer is a real redis-server of a test.
type redisServer struct {
	port   int
	dir    string
	args   []string       // beside the usual ones
	login  string         // "user:password@"
	roots  *x509.CertPool // of TLS; nil: without
	cmd    *exec.Cmd
	output bytes.Buffer
}

// startRedis starts a redis-server on a free port, which ends with the test.
func startRedis(t testing.TB, args ...string) *redisServer {
	t.Helper()
	return (&redisServer{args: args}).begin(t)
}

// begin starts it on a free port.
func (s *redisServer) begin(t testing.TB) *redisServer {
	t.Helper()
	s.dir = t.TempDir()
	t.Cleanup(func() { s.kill() })
	for range 5 { // somebody else may take the port meanwhile
		s.port = freePort(t)
		if s.start(t) {
			return s
		}
	}
	t.Fatalf("redis-server does not answer:\n%s", &s.output)
	return nil
}

func freePort(t testing.TB) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

func (s *redisServer) start(t testing.TB) bool {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatal("redis-server is not installed; run: make setup")
	}
	port := []string{"--port", strconv.Itoa(s.port)}
	if s.roots != nil {
		port = []string{"--port", "0", "--tls-port", strconv.Itoa(s.port)}
	}
	args := append(port, "--bind", "127.0.0.1", "--dir", s.dir, "--save", "", "--appendonly", "no")
	if slices.Contains(s.args, "--sentinel") {
		args = s.args
	} else {
		args = append(args, s.args...)
	}
	s.cmd = exec.Command(path, args...)
	s.cmd.Stdout, s.cmd.Stderr = &s.output, &s.output
	require.NoError(t, s.cmd.Start())
	client, err := server.Client(s.url(), s.roots)
	require.NoError(t, err)
	defer func() { _ = client.Close() }()
	for range 100 {
		if client.Ping(t.Context()).Err() == nil {
			return true
		}
		time.Sleep(50 * time.Millisecond)
	}
	s.kill()
	return false
}

func (s *redisServer) addr() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

func (s *redisServer) url() string {
	if s.roots != nil {
		return "rediss://" + s.login + s.addr()
	}
	return "redis://" + s.login + s.addr()
}

// kill ends the server at once and waits for its end.
func (s *redisServer) kill() {
	if s.cmd != nil && s.cmd.Process != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		s.cmd = nil
	}
}

// signal stops (SIGSTOP) or continues (SIGCONT) the server.
func (s *redisServer) signal(t testing.TB, signal syscall.Signal) {
	t.Helper()
	require.NoError(t, s.cmd.Process.Signal(signal))
}

func init() { server.Quiet() }

// client is as serve makes one.
func (s *redisServer) client(t testing.TB) redis.UniversalClient {
	t.Helper()
	return clientOf(t, s.url(), s.roots)
}

func clientOf(t testing.TB, address string, roots *x509.CertPool) redis.UniversalClient {
	t.Helper()
	client, err := server.Client(address, roots)
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

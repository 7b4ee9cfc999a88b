package acceptance_test

import (
	"bufio"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// server is one process of the gateway, without a foundation around it.
type server struct {
	*journal
	url       string
	transport *http.Transport
	command   *exec.Cmd
	ended     chan struct{}
	err       error // how it ended
	killed    bool
}

// serving is a launched server that is stopped, and found without fault, when
// the test ends.
func serving(t *testing.T, env []string) *server {
	t.Helper()
	s, err := launch(t.TempDir(), env)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.stop()) })
	return s
}

var errPortTaken = errors.New("somebody took the port that was free a moment ago")

var launches atomic.Int64

// launch starts serve in a directory, and waits until it answers.
func launch(dir string, env []string) (s *server, err error) {
	for range 3 {
		if s, err = tryLaunch(dir, env); !errors.Is(err, errPortTaken) {
			break
		}
	}
	return s, err
}

func tryLaunch(dir string, env []string) (*server, error) {
	s, err := begin(dir, env)
	if err != nil {
		return nil, err
	}
	return s, s.awaitHealth()
}

// begin starts serve and waits for nothing.
func begin(dir string, env []string) (*server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s := &server{
		journal: newJournal(filepath.Join(dir, fmt.Sprintf("stderr-%d", launches.Add(1)))), url: fmt.Sprintf("http://127.0.0.1:%d", port),
		transport: &http.Transport{MaxIdleConnsPerHost: 512}, command: exec.Command(binary, "serve"), ended: make(chan struct{}),
	}
	stderr, err := os.Create(s.stderr)
	if err != nil {
		return nil, err
	}
	defer stderr.Close()
	s.command.Env, s.command.Dir, s.command.Stderr = append([]string{fmt.Sprintf("PORT=%d", port)}, env...), dir, stderr
	s.command.SysProcAttr = endWithParent()
	stdout, err := s.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.command.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(s.ended)
		lines := bufio.NewScanner(stdout)
		lines.Buffer(make([]byte, 64<<10), 1<<20)
		for lines.Scan() {
			s.add(lines.Bytes())
		}
		s.err = s.command.Wait()
	}()
	return s, nil
}

func (s *server) awaitHealth() error {
	for end := time.Now().Add(patience); ; {
		if status, err := s.status("/healthz"); err == nil && status == http.StatusOK {
			return nil
		}
		select {
		case <-s.ended:
			if strings.Contains(s.said(), "address already in use") {
				return errPortTaken
			}
			return fmt.Errorf("serve ended: %w: %s", s.err, s.said())
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(end) {
			s.kill()
			return errors.New("serve does not answer: " + s.said())
		}
	}
}

func (s *server) status(path string) (int, error) {
	client := http.Client{Transport: s.transport, Timeout: patience}
	res, err := client.Get(s.url + path)
	if err != nil {
		return 0, err
	}
	return res.StatusCode, res.Body.Close()
}

// kill ends the process as a machine that fails does.
func (s *server) kill() {
	s.killed = true
	_ = s.command.Process.Kill()
	<-s.ended
	s.transport.CloseIdleConnections()
}

// stop ends the process as Cloud Foundry does, and returns what was wrong with
// it: its exit code, what it wrote on standard error, a secret in its log.
func (s *server) stop() error {
	_ = s.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.ended:
	case <-time.After(patience):
		s.kill()
		return errors.New("serve did not end")
	}
	s.transport.CloseIdleConnections()
	return errors.Join(s.err, s.faults())
}

// faults is what must be true of a process however it ended.
func (s *server) faults() error {
	if said := s.said(); said != "" {
		return errors.New("serve wrote on standard error: " + said)
	}
	return s.leaks(0)
}

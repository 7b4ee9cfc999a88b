package playground

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is the gateway as a child.
type process struct {
	command *exec.Cmd
	ended   chan struct{}
	err     error

	mu     sync.Mutex
	errors bytes.Buffer
}

const (
	startTimeout = 20 * time.Second
	stopTimeout  = 15 * time.Second
)

func startProcess(executable string, environ []string, line func([]byte)) (*process, error) {
	command := exec.Command(executable, "serve") //nolint:noctx // stop ends it, with SIGTERM first
	p := &process{command: command, ended: make(chan struct{})}
	p.command.Env = environ
	p.command.SysProcAttr = endWithParent()
	p.command.Stderr = p
	stdout, err := p.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.command.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.ended)
		lines := bufio.NewScanner(stdout)
		lines.Buffer(make([]byte, 64<<10), 1<<20)
		for lines.Scan() {
			if line != nil {
				line(lines.Bytes())
			}
		}
		p.err = p.command.Wait()
	}()
	return p, nil
}

// Write keeps what the child says on standard error.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.errors.Write(b)
}

func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.errors.String()
}

// waitFor waits until url answers 200 or the child has ended.
func (p *process) waitFor(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	client := http.Client{Timeout: time.Second}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		if res, err := client.Do(request); err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-p.ended:
			if strings.Contains(p.said(), "address already in use") {
				return errPortTaken
			}
			return fmt.Errorf("the gateway ended: %w: %s", errOr(p.err), p.said())
		case <-ctx.Done():
			return fmt.Errorf("the gateway does not answer: %w: %s", ctx.Err(), p.said())
		case <-tick.C:
		}
	}
}

var errPortTaken = errors.New("somebody took the gateway's port")

func errOr(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// stop asks the child to end, and makes it end if it does not.
func (p *process) stop() error {
	if err := p.command.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.ended:
		return p.err
	case <-time.After(stopTimeout):
	}
	if err := p.command.Process.Kill(); err != nil {
		return err
	}
	<-p.ended
	return fmt.Errorf("the gateway did not stop within %s", stopTimeout)
}

func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}

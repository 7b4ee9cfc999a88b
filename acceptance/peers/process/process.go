// Package process runs the programs that are compared, and tells how much
// processor time they have used. It trusts the programs it is given. It fails by
// an error with what the program said, and leaves no process behind.
package process

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

const (
	startTimeout = 30 * time.Second
	stopTimeout  = 15 * time.Second
)

// Process is a program that runs until it is stopped.
type Process struct {
	command *exec.Cmd
	ended   chan struct{}
	err     error

	mu     sync.Mutex
	stderr bytes.Buffer
}

// Start starts a program.
func Start(program string, args ...string) (*Process, error) {
	p := &Process{command: exec.Command(program, args...), ended: make(chan struct{})} //nolint:gosec,noctx // the programs to compare; Stop ends them
	p.command.Stderr, p.command.SysProcAttr = p, endWithParent()
	if err := p.command.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.ended)
		p.err = p.command.Wait()
	}()
	return p, nil
}

// PID is the process id.
func (p *Process) PID() int { return p.command.Process.Pid }

// Write keeps what the program says on standard error.
func (p *Process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.Write(b)
}

func (p *Process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.String()
}

// Listens waits until the program accepts connections.
func (p *Process) Listens(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	var dialer net.Dialer
	for {
		connection, err := dialer.DialContext(ctx, "tcp", address)
		if err == nil {
			return connection.Close()
		}
		select {
		case <-p.ended:
			return fmt.Errorf("%s ended: %w: %s", p.command.Path, p.err, p.said())
		case <-ctx.Done():
			return fmt.Errorf("%s does not listen: %w: %s", p.command.Path, ctx.Err(), p.said())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Stop asks the program to end, and makes it end if it does not.
func (p *Process) Stop() error {
	_ = p.command.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-p.ended:
		return nil
	case <-time.After(stopTimeout):
	}
	if err := p.command.Process.Kill(); err != nil {
		return err
	}
	<-p.ended
	return fmt.Errorf("%s did not end within %s", p.command.Path, stopTimeout)
}

// FreeAddress is an address on loopback on which nobody listened a moment ago.
func FreeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

// Build builds a command of this module into a file.
func Build(ctx context.Context, path, pkg string) error {
	build := exec.CommandContext(ctx, "go", "build", "-o", path, pkg) //nolint:gosec // packages of this module
	build.Stderr = os.Stderr
	return build.Run()
}

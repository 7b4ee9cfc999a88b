package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/mtls-authz/mtls-authz/acceptance/peers/process"
	"github.com/mtls-authz/mtls-authz/acceptance/peers/rival"
	"github.com/mtls-authz/mtls-authz/playground"
)

// worldConfig configures newWorld; all of it is required but line.
type worldConfig struct {
	// dir is empty, and removed by the caller.
	dir        string
	nginx, opa string
	// callers is how many connections each subject is called on.
	callers int
	// line gets each line that the gateway of a subject writes; nil: nobody.
	line func(subject string, line []byte)
}

// world is all that takes part. Each gateway has a foundation of its own, as
// package playground makes them; what is no gateway is in the first.
type world struct {
	worldConfig
	subjects    []subject
	app         *http.Server
	appURL      string
	foundations []*playground.Foundation
	bare        *process.Process
	rival       *rival.Rival
}

// gateways are the gateway's subjects by name and settings.
var gateways = []struct {
	name     string
	settings []string
}{
	{"gateway, cache warm", nil},
	{"gateway, cache cold", []string{"CACHE_TTL=1ns", "CACHE_DENY_TTL=1ns"}}, // what is remembered has always ended
	{"gateway, cache off", []string{"CACHE_ENTRIES=0"}},
}

// newWorld starts everything. Stop it with stop, also after an error.
func newWorld(ctx context.Context, cfg worldConfig) (w *world, err error) {
	w = &world{worldConfig: cfg}
	if err := w.startApp(); err != nil {
		return w, err
	}
	binary := filepath.Join(w.dir, "mtls-authz")
	if err := process.Build(ctx, binary, "github.com/mtls-authz/mtls-authz/cmd/mtls-authz"); err != nil {
		return w, fmt.Errorf("build the gateway: %w", err)
	}
	for i := range gateways {
		if err := w.startFoundation(ctx, binary, i); err != nil {
			return w, fmt.Errorf("%s: %w", gateways[i].name, err)
		}
	}
	if err := w.addPeers(ctx); err != nil {
		return w, err
	}
	for i := range gateways {
		if err := w.addGateway(ctx, i); err != nil {
			return w, fmt.Errorf("%s: %w", gateways[i].name, err)
		}
	}
	return w, nil
}

// stop stops everything.
func (w *world) stop() error {
	var problems []error
	for _, s := range w.subjects {
		s.close()
	}
	if w.rival != nil {
		problems = append(problems, w.rival.Stop())
	}
	if w.bare != nil {
		problems = append(problems, w.bare.Stop())
	}
	for _, f := range w.foundations {
		problems = append(problems, f.Stop())
	}
	if w.app != nil {
		problems = append(problems, w.app.Close())
	}
	return errors.Join(problems...)
}

// startApp starts the app behind all routes: it answers 1 KiB.
func (w *world) startApp() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	answer := strings.Repeat("from the app\n", 79)[:1024]
	w.appURL = "http://" + listener.Addr().String()
	w.app = &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, answer)
	})}
	go func() { _ = w.app.Serve(listener) }()
	return nil
}

// startFoundation starts a gateway in a foundation of its own, through a script
// that leaves the process id behind.
func (w *world) startFoundation(ctx context.Context, binary string, i int) error {
	dir := filepath.Join(w.dir, "foundation-"+strconv.Itoa(i))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	script := filepath.Join(dir, "mtls-authz.sh")
	text := fmt.Sprintf("#!/bin/sh\necho $$ >'%s'\nexec '%s' \"$@\"\n", pidFile(dir), binary)
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil { //nolint:gosec // it is to be executed
		return err
	}
	var line func([]byte)
	if w.line != nil {
		line = func(text []byte) { w.line(gateways[i].name, text) }
	}
	// A policy must not fail because two processors are busy with callers.
	environment := append([]string{"POLICY_TIMEOUT=10s"}, gateways[i].settings...)
	f, err := playground.Start(ctx, playground.Config{Executable: script, Dir: dir, Environment: environment, Line: line})
	if err != nil {
		return err
	}
	w.foundations = append(w.foundations, f)
	return awaitReady(ctx, f.Controller.URL)
}

func pidFile(dir string) string { return filepath.Join(dir, "pid") }

// awaitReady waits until the self-test has proven the router.
func awaitReady(ctx context.Context, gateway string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	client := http.Client{Timeout: 10 * time.Second}
	for {
		reply, err := playground.Call(ctx, &client, http.MethodGet, gateway+"/readyz", nil)
		if err == nil && reply.Status == http.StatusOK {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("/readyz answers %d: %w", reply.Status, errors.Join(ctx.Err(), err))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

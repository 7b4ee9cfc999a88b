package acceptance_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground"
	"github.com/mtls-authz/mtls-authz/playground/ca"
	"github.com/mtls-authz/mtls-authz/playground/router"
)

// secret is gorouter's route_services_secret: tests sign with it themselves.
const secret = "acceptance tests only"

// patience is how long an awaited condition may take before the test fails.
const patience = time.Minute

// gateway is the app that the gateway itself is.
var gateway = playground.App{Name: "mtls-authz", Space: "platform", Org: "system"}

// setup is what a world has of its own.
type setup struct {
	// env is the gateway's environment; $router stands for the router's address
	// if port is set.
	env  []string
	port bool
	// mode of the router; "": sanitize_set.
	mode router.ForwardedClientCert
	// firewall is what stands in front of the router; see [router.Config].
	firewall func(*http.Request) bool
	// untrusted: the self-test is expected not to pass.
	untrusted bool
	// bundle is POLICY_BUNDLE, by file name.
	bundle map[string]string
}

// world is a foundation with callers and all that the gateway has said.
type world struct {
	*playground.Foundation
	*journal
	credentials map[string]*ca.Credential
	// another is a CA whose clients the router lets in, as production routers
	// do, and that issues no instance certificates.
	another *ca.Authority
	routes  atomic.Int64

	mu      sync.Mutex
	clients map[string]*http.Client
}

// start starts a world for one test.
func start(t *testing.T, s setup) *world {
	t.Helper()
	w, err := newWorld(t.TempDir(), s)
	require.NoError(t, err)
	t.Cleanup(func() {
		w.checkSecrets(t)
		require.NoError(t, w.close())
	})
	return w
}

func newWorld(dir string, s setup) (w *world, err error) {
	w = &world{journal: newJournal(filepath.Join(dir, "stderr")), clients: map[string]*http.Client{}}
	if w.another, err = ca.NewRoot("another CA"); err != nil {
		return nil, err
	}
	executable, err := wrapper(dir)
	if err != nil {
		return nil, err
	}
	env, port, err := s.environment(dir)
	if err != nil {
		return nil, err
	}
	w.Foundation, err = playground.Start(context.Background(), playground.Config{
		Executable: executable, Dir: dir, Line: w.add, Environment: env,
		Router: func(trust playground.Trust) (playground.Router, error) { return w.startRouter(trust, s, port) },
	})
	if err != nil {
		return nil, err
	}
	w.addSecrets(w.Controller.Password)
	if err := w.mint(); err != nil {
		return nil, errors.Join(err, w.close())
	}
	if !s.untrusted {
		err = w.awaitReady()
	}
	return w, err
}

func (s setup) environment(dir string) (env []string, port int, err error) {
	if s.port {
		if port, err = freePort(); err != nil {
			return nil, 0, err
		}
	}
	// A policy must not fail because two processors are busy with other tests.
	env = append(env, "POLICY_TIMEOUT=10s")
	for _, line := range s.env {
		env = append(env, strings.ReplaceAll(line, "$router", "127.0.0.1:"+strconv.Itoa(port)))
	}
	if s.bundle != nil {
		path := filepath.Join(dir, "bundle")
		env = append(env, "POLICY_BUNDLE="+path)
		err = writeFiles(path, s.bundle)
	}
	return env, port, err
}

// wrapper makes the executable of the foundation: the binary, with its standard
// error and its process id where the tests find them.
func wrapper(dir string) (string, error) {
	path := filepath.Join(dir, "mtls-authz.sh")
	script := fmt.Sprintf("#!/bin/sh\necho $$ >'%s/pid'\nexec '%s' \"$@\" 2>>'%s/stderr'\n", dir, binary, dir)
	return path, os.WriteFile(path, []byte(script), 0o700)
}

func (w *world) startRouter(trust playground.Trust, s setup, port int) (playground.Router, error) {
	if gorouterBin != "" {
		return startGorouter(filepath.Dir(w.stderr), gorouterConfig{trust: trust, another: w.another, mode: s.mode, port: port})
	}
	pool := x509.NewCertPool()
	pool.AddCert(trust.ClientCAs.Certificate())
	pool.AddCert(w.another.Certificate())
	return router.New(router.Config{
		Port: port, Certificate: trust.Certificate.TLS(), ClientCAs: pool, ForwardedClientCert: s.mode, Secret: secret, Firewall: s.firewall,
	})
}

// awaitReady waits until the self-test has proven the router.
func (w *world) awaitReady() error {
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		res, err := http.Get(w.Controller.URL + "/readyz")
		if err != nil {
			return err
		}
		res.Body.Close()
		if res.StatusCode == http.StatusOK {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("/readyz still answers %d", res.StatusCode)
		}
	}
}

// close stops everything; what the gateway wrote at its end is checked, too.
func (w *world) close() error {
	w.mu.Lock()
	for _, client := range w.clients {
		client.CloseIdleConnections()
	}
	w.mu.Unlock()
	err := w.Stop()
	if said := w.said(); said != "" {
		err = errors.Join(err, fmt.Errorf("standard error of the gateway:\n%s", said))
	}
	return errors.Join(err, w.leaks(0))
}

// restart is cf restart: another process over the same state.
func (w *world) restart(t *testing.T, env ...string) {
	t.Helper()
	require.NoError(t, w.StopGateway(), "SIGTERM ends with exit 0")
	w.Environment = append(w.Environment, env...)
	require.NoError(t, w.StartGateway(t.Context()))
	require.NoError(t, w.awaitReady())
}

// mint makes the callers that tests name.
func (w *world) mint() error {
	frontend := playground.Frontend.Identity()
	past := func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-time.Hour)
	}
	authority := func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }
	w.credentials = map[string]*ca.Credential{}
	var problems []error
	add := func(name string, authority *ca.Authority, id ca.Identity, options ...ca.Option) {
		credential, err := authority.Instance(id, options...)
		w.credentials[name] = credential
		problems = append(problems, err)
		if err == nil {
			w.addSecrets(credential.XFCC())
		}
	}
	for _, app := range []playground.App{playground.Backend, playground.Frontend, playground.Monitoring, playground.Intruder} {
		add(app.Name, w.IdentityCA, app.Identity())
	}
	add("gateway", w.IdentityCA, gateway.Identity())
	add("foreign CA", w.another, frontend)
	add("expired", w.IdentityCA, frontend, ca.With(past))
	add("CA as leaf", w.IdentityCA, frontend, ca.With(authority))
	ous := func(values ...string) ca.Option { return ca.OUs(values...) }
	app, space, org := "app:"+frontend.App, "space:"+frontend.Space, "organization:"+frontend.Org
	add("two apps", w.IdentityCA, frontend, ous(app, "app:"+playground.Backend.Identity().App, space, org))
	add("no space", w.IdentityCA, frontend, ous(app, org))
	add("upper case guid", w.IdentityCA, frontend, ous(strings.ToUpper(app), space, org))
	return errors.Join(problems...)
}

// client is an app's HTTP client; a caller without a name has no certificate.
func (w *world) client(caller string) *http.Client {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.clients[caller] == nil {
		w.clients[caller] = w.Client(w.credentials[caller])
	}
	return w.clients[caller]
}

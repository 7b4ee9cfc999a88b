// Package demo is what "mtls-authz playground" shows: a protected app, callers
// that may and may not call it, and forgers. It plays its scenarios against a
// foundation of package playground and prints what happened; it fails if one
// goes otherwise than expected.
package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"text/tabwriter"

	"github.com/mtls-authz/mtls-authz/playground"
	"github.com/mtls-authz/mtls-authz/playground/router"
)

// Options configure [Run].
type Options struct {
	// Executable is the mtls-authz binary. Required.
	Executable string
	// Port of the router; 0: one that is free.
	Port int
	// ForwardedClientCert is the router's mode; "": sanitize_set.
	ForwardedClientCert router.ForwardedClientCert
	// Check plays the scenarios and ends.
	Check bool
	// Out gets what people read. Required.
	Out io.Writer
}

// ErrUnexpected: a scenario of the check did not go as expected.
var ErrUnexpected = errors.New("not every scenario went as expected")

// Run runs the demo until ctx ends, or plays its scenarios. It leaves nothing
// behind.
func Run(ctx context.Context, o Options) (err error) {
	dir, err := os.MkdirTemp("", "mtls-authz-playground-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s := &screen{out: o.Out, quiet: true}
	fmt.Fprintln(o.Out, "Starting a certificate authority, a router, Cloud Controller, an app and the gateway ...")
	d, err := startDemo(ctx, playground.Config{Executable: o.Executable, Dir: dir, Line: s.decision},
		router.Config{Port: o.Port, ForwardedClientCert: o.ForwardedClientCert})
	defer func() { err = errors.Join(err, d.stop()) }()
	if err != nil {
		return err
	}
	rows := d.check(ctx)
	if ctx.Err() != nil && o.Check {
		return fmt.Errorf("%w: interrupted", ErrUnexpected)
	}
	if ctx.Err() != nil {
		return nil
	}
	if err := printTable(o.Out, rows); err != nil {
		return err
	}
	if o.Check {
		return unexpected(rows)
	}
	if err := d.writeCallers(); err != nil {
		return err
	}
	d.explain(o.Out)
	s.show()
	<-ctx.Done()
	fmt.Fprintln(o.Out, "\nStopping; nothing is left behind.")
	return nil
}

func unexpected(rows []Result) error {
	for _, row := range rows {
		if !row.OK {
			return ErrUnexpected
		}
	}
	return nil
}

// printTable writes the table of scenarios.
func printTable(out io.Writer, rows []Result) error {
	table := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "\n\tCALLER\tREQUEST\tEXPECTED\tGOT\tREASON")
	passed := 0
	for _, row := range rows {
		mark := "FAIL"
		if row.OK {
			mark = "ok"
			passed++
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", mark, row.Caller, row.Request, row.Expected, row.Got, row.Reason)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\n%d passed, %d failed\n", passed, len(rows)-passed)
	return err
}

// writeCallers puts the callers' certificates where curl finds them.
func (d *demo) writeCallers() error {
	for name, credential := range d.callers {
		if _, _, err := credential.WriteFiles(filepath.Join(d.Dir, name)); err != nil {
			return fmt.Errorf("certificate of %s: %w", name, err)
		}
	}
	return nil
}

// explain prints what is there and what to type next.
func (d *demo) explain(out io.Writer) {
	fmt.Fprintf(out, `
The router listens on %s. Routes:
  https://%-26s protected; instance my-authz, plan org
  https://%-26s protected; instance live-authz, plan org
  https://%-26s protected; instance named-authz, which allows app:frontend
  https://%-26s not protected
  https://%-26s the gateway; its broker is at %s

Callers: frontend and monitoring (org acme), frontend-green, which has taken over the name frontend, intruder (org
globex), forger (frontend's names, but of another CA). In another terminal:

  cd %s
`, d.Router.Addr(), backendRoute, liveRoute, namedRoute, foreignRoute, playground.GatewayHost, d.Controller.URL, d.Dir)
	d.curl(out, "frontend", backendRoute, "/hello")
	d.curl(out, "monitoring", backendRoute, "/orders")
	d.curl(out, "intruder", backendRoute, "/hello")
	fmt.Fprintf(out, `
Who can reach what, and why not:

  export MTLS_AUTHZ_URL=%s READ_USERNAME=%s READ_PASSWORD=%s
  %[4]s access
  %[4]s access %[5]s

The same as a developer, with your own cf (8 or newer):

  export CF_HOME=$PWD
  cf api %[6]s --skip-ssl-validation && cf auth %[7]s %[8]s && cf target -o acme -s shop
  cf service my-authz --params
  %[4]s grant add %[9]s --hostname backend --source-app monitoring --source-space observability -y
`, d.Controller.URL, readUsername, d.readPassword, d.Executable, backendRoute, d.url, userName, userPassword, playground.Domain)
	fmt.Fprint(out, "\nDecisions as they happen (Ctrl-C ends everything):\n\n")
}

func (d *demo) curl(out io.Writer, caller, host, path string) {
	fmt.Fprintf(out, "  curl -s --connect-to ::%s --cacert router-ca.pem --cert %s/instance.crt --key %s/instance.key https://%s%s\n",
		d.Router.Addr(), caller, caller, host, path)
}

// screen shows decision lines as people read them.
type screen struct {
	mu    sync.Mutex
	out   io.Writer
	quiet bool
}

func (s *screen) show() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quiet = false
}

func (s *screen) decision(raw []byte) {
	var line struct {
		Message string `json:"msg"`
		Auth    string `json:"mtls_auth"`
		Policy  string `json:"mtls_policy"`
		Reason  string `json:"mtls_denied_reason"`
		App     string `json:"caller_app"`
		Method  string `json:"method"`
		Host    string `json:"host"`
		Path    string `json:"path"`
		Status  int    `json:"status"`
		Cache   string `json:"cache"`
		Took    int64  `json:"duration_us"`
	}
	if json.Unmarshal(raw, &line) != nil || line.Message != "decision" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.quiet {
		return
	}
	why := line.Policy
	if line.Reason != "" {
		why = line.Reason + ", " + line.Policy
	}
	fmt.Fprintf(s.out, "%-12s %d  %-10s %s %s%s  (%s; cache %s; %d us)\n",
		line.Auth, line.Status, appName(line.App), line.Method, line.Host, line.Path, why, line.Cache, line.Took)
}

// appName is the name of a demo app by its guid.
func appName(guid string) string {
	for _, app := range []playground.App{playground.Backend, playground.Frontend, playground.Monitoring, playground.Intruder, playground.Authz, green} {
		if app.Identity().App == guid {
			return app.Name
		}
	}
	if guid == "" {
		return "nobody"
	}
	return guid
}

// Command peers measures the gateway against what stands in its place elsewhere:
// no route service at all, one that does nothing, and nginx with an OPA server.
// All are in front of the same app, behind the same router of the playground, over
// TLS on loopback. They take turns, in another order each round, so that what else
// the machine does harms all alike; what counts are medians.
//
// It trusts everything, since it made everything. It ends with the first answer
// that is not 200, and leaves no process and no file behind. docs/benchmarks.md
// says how to read what it prints.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/mtls-authz/mtls-authz/acceptance/peers/report"
)

// options are the flags.
type options struct {
	nginx, opa string
	json       bool
	docs       string
	plan
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var o options
	flag.StringVar(&o.nginx, "nginx", ".bin/nginx", "the nginx to compare with; make setup-peers puts it there")
	flag.StringVar(&o.opa, "opa", ".bin/opa", "the OPA to compare with; make setup-peers puts it there")
	flag.BoolVar(&o.json, "json", false, "print JSON instead of a table")
	flag.StringVar(&o.docs, "docs", "", "folder whose benchmarks.md and benchmarks.svg are written, too")
	flag.IntVar(&o.rounds, "rounds", 11, "how often each takes its turn")
	flag.IntVar(&o.callers, "callers", 16, "connections on which requests are sent at full speed")
	flag.IntVar(&o.rate, "rate", 200, "requests a second at which latencies are taken")
	flag.DurationVar(&o.flood, "flood", 1500*time.Millisecond, "time at full speed, each turn")
	flag.DurationVar(&o.pace, "pace", time.Second, "time at the rate, each turn")
	flag.Parse()
	if err := run(ctx, o, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

// run is main without the process; progress goes to stderr.
func run(ctx context.Context, o options, stdout, stderr io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "mtls-authz-peers-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	fmt.Fprintln(stderr, "Building and starting what is compared ...")
	w, err := newWorld(ctx, worldConfig{dir: dir, nginx: o.nginx, opa: o.opa, callers: o.callers})
	defer func() { err = errors.Join(err, w.stop()) }()
	if err != nil {
		return err
	}
	before := circumstances(ctx, o)
	rows, err := o.measure(ctx, w.subjects, stderr)
	if err != nil {
		return err
	}
	before.Rows = rows
	if o.docs != "" {
		if err := write(before, o.docs); err != nil {
			return err
		}
	}
	if o.json {
		return before.JSON(stdout)
	}
	return before.Text(stdout)
}

// write puts the figures into the documentation.
func write(r report.Report, docs string) error {
	path := filepath.Join(docs, "benchmarks.md")
	document, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	text, err := r.Replace(string(document))
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil { //nolint:gosec // documentation
		return err
	}
	return os.WriteFile(filepath.Join(docs, "benchmarks.svg"), r.SVG(), 0o644) //nolint:gosec // documentation
}

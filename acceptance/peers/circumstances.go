package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/mtls-authz/mtls-authz/acceptance/peers/report"
)

// circumstances are the report's when, where and what.
func circumstances(ctx context.Context, o options) report.Report {
	return report.Report{
		Date:     time.Now().UTC().Format(time.DateOnly),
		Machine:  fmt.Sprintf("%s/%s with %d processors (%s)", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), first("/proc/cpuinfo", `model name\s*: (.*)`)),
		Versions: fmt.Sprintf("%s, %s, OPA %s", runtime.Version(), output(ctx, `nginx/[\d.]+`, o.nginx, "-v"), output(ctx, `[\d.]+\S*`, o.opa, "version")),
		Load:     first("/proc/loadavg", `^(\S+)`),
		Rounds:   o.rounds, Callers: o.callers, Rate: o.rate,
	}
}

// first is what the pattern's group finds in a file.
func first(path, pattern string) string {
	text, err := os.ReadFile(path)
	found := regexp.MustCompile(pattern).FindSubmatch(text)
	if err != nil || found == nil {
		return "unknown"
	}
	return strings.TrimSpace(string(found[1]))
}

// output is what the pattern finds in what a program says of itself.
func output(ctx context.Context, pattern, program string, args ...string) string {
	text, err := exec.CommandContext(ctx, program, args...).CombinedOutput() //nolint:gosec // the programs to compare
	found := regexp.MustCompile(pattern).Find(text)
	if err != nil || found == nil {
		return "unknown"
	}
	return string(bytes.TrimSpace(found))
}

// Command mtls-authz is the authorization gateway: route service, service
// broker and playground in one binary. It wires the packages together and
// decides nothing itself.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/access"
	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/doctor"
	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/grant"
	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/policy"
)

// program is what the process gives to a command.
type program struct {
	environ        []string
	stdout, stderr io.Writer
}

type commands struct {
	Serve      serveCommand      `cmd:"" help:"Run the gateway and its service broker. Configured by environment and bound services alone."`
	Playground playgroundCommand `cmd:"" help:"Run a Cloud Foundry in miniature on this machine, with the gateway in the middle."`
	Policy     policy.Command    `cmd:"" help:"Tools for policy authors: check, test, eval, build, diff."`
	Access     access.Command    `cmd:"" help:"Who can reach a route, why a request is denied, and route policies of Cloud Foundry, to and from."`
	Grant      grant.Command     `cmd:"" help:"Allow callers on a route by name: add, remove, list."`
	Doctor     doctor.Command    `cmd:"" help:"Is this foundation and configuration safe? Item by item, with the fix."`
	Version    versionCommand    `cmd:"" help:"Print version, commit, Go and OPA versions."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], program{os.Environ(), os.Stdout, os.Stderr}))
}

// run is main without the process: it returns the exit code.
func run(ctx context.Context, args []string, p program) (code int) {
	exit := -1
	parser, err := kong.New(&commands{},
		kong.Name("mtls-authz"),
		kong.Description("Decides which apps may call a Cloud Foundry route, by the identity in their instance certificate."),
		kong.UsageOnError(), kong.Writers(p.stdout, p.stderr),
		kong.Exit(func(code int) { exit = code }),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(p, doctor.Environ(p.environ)),
	)
	if err != nil {
		fmt.Fprintln(p.stderr, "mtls-authz:", err)
		return 2
	}
	command, err := parser.Parse(args)
	if exit >= 0 { // --help has been printed
		return exit
	}
	if err != nil {
		fmt.Fprintf(p.stderr, "mtls-authz: %v\nRun \"mtls-authz --help\" for what there is.\n", err)
		return 2
	}
	if err := command.Run(); err != nil {
		fmt.Fprintln(p.stderr, "mtls-authz:", err)
		if errors.Is(err, access.ErrDenied) {
			return access.ExitDenied
		}
		return 1
	}
	return 0
}

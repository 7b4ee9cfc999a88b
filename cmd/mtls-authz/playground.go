package main

import (
	"context"
	"os"

	"github.com/mtls-authz/mtls-authz/playground/demo"
	"github.com/mtls-authz/mtls-authz/playground/router"
)

type playgroundCommand struct {
	Check               bool   `help:"Play the scenarios, print the table, and exit with 0 if all went as expected."`
	Port                int    `help:"Port of the router on 127.0.0.1; 0 takes one that is free." default:"0"`
	ForwardedClientCert string `help:"How the router treats the certificate header: sanitize_set, forward or always_forward. Only the first is safe, and the gateway notices." enum:"sanitize_set,forward,always_forward" default:"sanitize_set"`
}

// Run runs the playground until ctx ends.
func (c playgroundCommand) Run(ctx context.Context, p program) error {
	executable, err := os.Executable()
	if err != nil {
		return err
	}
	return demo.Run(ctx, demo.Options{
		Executable: executable, Port: c.Port, ForwardedClientCert: router.ForwardedClientCert(c.ForwardedClientCert),
		Check: c.Check, Out: p.stdout,
	})
}

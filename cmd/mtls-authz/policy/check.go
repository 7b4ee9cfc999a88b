package policy

import (
	"context"
	"os"

	"github.com/alecthomas/kong"

	"github.com/mtls-authz/mtls-authz/rego/author"
)

type checkCommand struct {
	Bundle   string `arg:"" help:"Directory, .tar.gz file, or - for an archive on the standard input."`
	Key      string `help:"File with the public key that must have signed the bundle, as POLICY_VERIFICATION_KEY_FILE." placeholder:"FILE"`
	settings `embed:""`
	JSON     bool `help:"Write JSON."`
}

// Help is shown by policy check --help.
func (checkCommand) Help() string {
	return "The whole gate, as the gateway has it. Exit status 1 on any finding.\n\n    mtls-authz policy check ./bundle"
}

// Run checks a bundle.
func (c checkCommand) Run(ctx context.Context, k *kong.Context) error {
	settings, err := c.author()
	if err != nil {
		return err
	}
	place, err := place(c.Bundle, c.Key)
	if err != nil {
		return err
	}
	return author.Check(ctx, k.Stdout, author.CheckConfig{Place: place, Settings: settings, JSON: c.JSON})
}

type testCommand struct {
	Bundle      string  `arg:"" help:"Directory, .tar.gz file, or - for an archive on the standard input."`
	Key         string  `help:"File with the public key that must have signed the bundle." placeholder:"FILE"`
	Run_        string  `name:"run" help:"Run the tests whose name matches only." placeholder:"REGEX"`
	Coverage    bool    `help:"Show which lines no test reaches."`
	MinCoverage float64 `help:"Fail if the tests reach a smaller share of the lines." placeholder:"PERCENT"`
	Verbose     bool    `help:"Name every test, and how long it took." short:"v"`
	JSON        bool    `help:"Write JSON."`
}

// Help is shown by policy test --help.
func (testCommand) Help() string {
	return "Exit status 1 if a test fails, or if none ran although the bundle has rules.\n\n    mtls-authz policy test ./bundle --coverage --min-coverage 90"
}

// Run runs the tests of a bundle.
func (c testCommand) Run(ctx context.Context, k *kong.Context) error {
	place, err := place(c.Bundle, c.Key)
	if err != nil {
		return err
	}
	return author.Test(ctx, k.Stdout, author.TestConfig{
		Place: place, Run: c.Run_, Coverage: c.Coverage, MinCoverage: c.MinCoverage, Verbose: c.Verbose, JSON: c.JSON,
	})
}

type buildCommand struct {
	Bundle   string `arg:"" help:"Directory, .tar.gz file, or - for an archive on the standard input."`
	Output   string `short:"o" help:"File to write." required:"" placeholder:"FILE"`
	Revision string `help:"Revision for .manifest: an integer, or a time of RFC 3339, higher with each bundle." placeholder:"R"`
	Sign     string `help:"File with the private key to sign with: PEM; RSA, ECDSA or Ed25519." placeholder:"FILE"`
	settings `embed:""`
	JSON     bool `help:"Write JSON."`
}

// Help is shown by policy build --help.
func (buildCommand) Help() string {
	return "Only what passes the whole gate is written. Equal sources give equal archives (but for signatures by ECDSA, which are never the same twice).\n\n" +
		"    mtls-authz policy build ./bundle -o bundle.tar.gz --revision 42 --sign key.pem"
}

// Run builds an archive.
func (c buildCommand) Run(ctx context.Context, k *kong.Context) error {
	settings, err := c.author()
	if err != nil {
		return err
	}
	place, err := place(c.Bundle, "")
	if err != nil {
		return err
	}
	key, err := signingKey(c.Sign)
	if err != nil {
		return err
	}
	return author.Build(ctx, k.Stdout, author.BuildConfig{
		Place: place, Settings: settings, Output: c.Output, Revision: c.Revision, Sign: key, JSON: c.JSON,
	})
}

type diffCommand struct {
	Old             string `arg:"" help:"Bundle in force: directory or .tar.gz file."`
	New             string `arg:"" help:"Bundle to come: directory or .tar.gz file."`
	Inputs          string `help:"Recorded requests, as GET /v1/decisions gives them; - for the standard input." required:"" placeholder:"FILE"`
	Key             string `help:"File with the public key that must have signed the bundles that are archives." placeholder:"FILE"`
	Examples        int    `help:"How many requests of each kind to show." default:"5"`
	AcceptNewAllows bool   `help:"Do not fail on requests that would be allowed and were denied."`
	AcceptUnknown   bool   `help:"Do not fail on requests of which something that a policy reads was not recorded."`
	settings        `embed:""`
	JSON            bool `help:"Write JSON."`
}

// Help is shown by policy diff --help.
func (diffCommand) Help() string {
	return "Both bundles decide every request anew, each with its own operator's grants. Exit status 1 on any new allow, and on what could be one.\n\n" +
		"    curl -su \"$READ\" https://gateway.example.com/v1/decisions > inputs.jsonl\n    mtls-authz policy diff ./in-force ./to-come --inputs inputs.jsonl"
}

// Run compares two bundles.
func (c diffCommand) Run(ctx context.Context, k *kong.Context) error {
	settings, err := c.author()
	if err != nil {
		return err
	}
	if err := onceStdin(c.Old, c.New, c.Inputs); err != nil {
		return err
	}
	before, err := placeToCompare(c.Old, c.Key)
	if err != nil {
		return err
	}
	after, err := placeToCompare(c.New, c.Key)
	if err != nil {
		return err
	}
	inputs, err := open(c.Inputs)
	if err != nil {
		return err
	}
	defer func() { _ = inputs.Close() }() // only read
	return author.Diff(ctx, k.Stdout, author.DiffConfig{
		Old: before, New: after, Settings: settings, Inputs: inputs, Examples: c.Examples,
		AcceptNewAllows: c.AcceptNewAllows, AcceptUnknown: c.AcceptUnknown, JSON: c.JSON, Progress: k.Stderr,
	})
}

// placeToCompare is a place whose signature is verified only if it is an archive:
// a directory is the author's work, which is signed when it is built.
func placeToCompare(location, keyFile string) (author.Place, error) {
	if info, err := os.Stat(location); err == nil && info.IsDir() {
		keyFile = ""
	}
	return place(location, keyFile)
}

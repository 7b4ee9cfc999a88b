// Package policy is the command line of "mtls-authz policy": flags and files
// become the configuration of package author, which does the work. It decides
// nothing. Its errors name the flag or the file, and never what is in a key.
package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/mtls-authz/mtls-authz/rego/author"
	"github.com/mtls-authz/mtls-authz/rego/author/release"
	"github.com/mtls-authz/mtls-authz/rego/bundle"
)

// Command is the policy author's tools.
type Command struct {
	Check checkCommand `cmd:"" help:"Would the gateway activate this bundle? All findings with file, line and fix, or what the policy is made of."`
	Test  testCommand  `cmd:"" help:"Run the bundle's tests."`
	Eval  evalCommand  `cmd:"" help:"Decide one request, and say why."`
	Build buildCommand `cmd:"" help:"Write the archive that gateways read, signed if there is a key."`
	Diff  diffCommand  `cmd:"" help:"Which recorded requests would another bundle decide in another way?"`
}

// Help is shown by policy --help.
func (Command) Help() string {
	return "Guide: docs/policy-authors.md. A bundle is a directory with .rego files and data.json, or a .tar.gz of one; - reads an archive from the standard input."
}

// settings are those of the gateway that the policy is for.
type settings struct {
	Timeout  time.Duration `help:"POLICY_TIMEOUT of the gateway." default:"50ms"`
	TimeZone string        `help:"POLICY_TIME_ZONE of the gateway." default:"UTC"`
}

func (s settings) author() (author.Settings, error) {
	if s.Timeout <= 0 {
		return author.Settings{}, fmt.Errorf("--timeout %s: expected more than 0", s.Timeout)
	}
	zone, err := time.LoadLocation(s.TimeZone)
	if err != nil || s.TimeZone == "Local" || s.TimeZone == "" {
		return author.Settings{}, fmt.Errorf("--time-zone %q: expected a name such as UTC or Europe/Berlin", s.TimeZone)
	}
	return author.Settings{Timeout: s.Timeout, Zone: zone}, nil
}

// place is a bundle on the command line.
func place(location, keyFile string) (author.Place, error) {
	p := author.Place{Location: location, Input: os.Stdin}
	if keyFile == "" {
		return p, nil
	}
	text, err := os.ReadFile(keyFile)
	if err != nil {
		return p, fmt.Errorf("--key: %w", err)
	}
	if p.Key, err = bundle.ParseKey(string(text)); err != nil {
		return p, fmt.Errorf("--key %q: %w", keyFile, err)
	}
	return p, nil
}

// signingKey reads a private key; "": none.
func signingKey(name string) (*release.Key, error) {
	if name == "" {
		return nil, nil //nolint:nilnil // none is no error
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("--sign: %w", err)
	}
	key, err := release.ParseKey(text)
	if err != nil {
		return nil, fmt.Errorf("--sign %q: %w", name, err)
	}
	return key, nil
}

// maxDocument bounds a document on the command line, in bytes.
const maxDocument = 8 << 20

// readDocument reads a file, or the standard input for "-".
func readDocument(flag, name string) ([]byte, error) {
	from, err := open(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	defer func() { _ = from.Close() }() // only read
	text, err := io.ReadAll(io.LimitReader(from, maxDocument+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	if len(text) > maxDocument {
		return nil, fmt.Errorf("%s %q: larger than %d MiB", flag, name, maxDocument>>20)
	}
	return text, nil
}

func open(name string) (io.ReadCloser, error) {
	if name == author.Stdin {
		return io.NopCloser(os.Stdin), nil
	}
	return os.Open(name)
}

var errStdinTwice = errors.New("the standard input can be read once; only one argument may be -")

func onceStdin(names ...string) error {
	found := false
	for _, name := range names {
		if name == author.Stdin && found {
			return errStdinTwice
		}
		found = found || name == author.Stdin
	}
	return nil
}

// jsonOf is the flag's JSON itself, or what is in the file that it names.
func jsonOf(flag, value string) ([]byte, error) {
	switch {
	case value == "":
		return nil, nil
	case bytes.HasPrefix(bytes.TrimSpace([]byte(value)), []byte("{")):
		return []byte(value), nil
	}
	return readDocument(flag, value)
}

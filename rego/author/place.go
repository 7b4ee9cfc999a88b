package author

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/mtls-authz/mtls-authz/rego"
	"github.com/mtls-authz/mtls-authz/rego/author/page"
	"github.com/mtls-authz/mtls-authz/rego/bundle"
)

// Stdin is the location of what is read from the standard input.
const Stdin = "-"

// A Place is where a bundle is.
type Place struct {
	// Location is a directory, a .tar.gz file, or [Stdin] for an archive that
	// Input has. Required.
	Location string
	Input    io.Reader
	// Key verifies the bundle's signature; nil: it must have none.
	Key *bundle.Key
}

// Settings are those of the gateway that the policy is for.
type Settings struct {
	// Timeout is POLICY_TIMEOUT; 0 means rego.DefaultTimeout.
	Timeout time.Duration
	// Zone is POLICY_TIME_ZONE; nil means UTC.
	Zone *time.Location
}

func (s Settings) config() rego.Config { return rego.Config{Timeout: s.Timeout, Zone: s.Zone} }

func (p Place) read() (*bundle.Bundle, error) {
	archive, err := p.archive()
	if err != nil {
		return nil, err
	}
	return bundle.Read(archive, p.Key)
}

func (p Place) archive() ([]byte, error) {
	if p.Location == Stdin {
		return bundle.ReadLimited(p.Input)
	}
	return bundle.ReadArchive(p.Location)
}

// ErrFindings: the bundle has findings, which were written.
var ErrFindings = errors.New("the gateway would not activate this bundle")

// refused is what JSON says of a bundle with findings.
type refused struct {
	OK       bool             `json:"ok"`
	Findings []bundle.Finding `json:"findings"`
}

// findings writes why a bundle is refused, each with its place and what to do
// about it, and returns an [ErrFindings]. Another error it returns as it is.
func (p Place) findings(w io.Writer, asJSON bool, err error) error {
	refusal, ok := errors.AsType[*bundle.Refusal](err)
	if !ok {
		return err
	}
	if asJSON {
		if err := page.JSON(w, refused{Findings: refusal.Findings}); err != nil {
			return err
		}
	} else {
		text := page.New(w)
		for _, finding := range refusal.Findings {
			text.Printf("%s%s\n", p.at(finding), finding.Message)
			if finding.Fix != "" {
				text.Printf("    fix: %s\n", finding.Fix)
			}
		}
		if text.Err() != nil {
			return text.Err()
		}
	}
	return fmt.Errorf("%s: %w: %s", p.Location, ErrFindings, page.Count(len(refusal.Findings), "finding"))
}

// at is file:line:col, with the file as an editor finds it.
func (p Place) at(finding bundle.Finding) string {
	if finding.File == "" {
		return p.Location + ": "
	}
	at := p.file(finding.File) + ":"
	if finding.Line > 0 {
		at += fmt.Sprintf("%d:", finding.Line)
	}
	if finding.Column > 0 {
		at += fmt.Sprintf("%d:", finding.Column)
	}
	return at + " "
}

func (p Place) file(name string) string {
	if info, err := os.Stat(p.Location); p.Location != Stdin && err == nil && info.IsDir() {
		return filepath.Join(p.Location, filepath.FromSlash(name))
	}
	return name
}

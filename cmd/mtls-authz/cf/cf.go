// Package cf asks and orders Cloud Controller through the user's own cf command:
// what is named, where a route is bound, who is in which space.
//
// It trusts cf on the PATH as the user does, and knows nothing of its configuration
// but a token that the user wants to be shown elsewhere. What cf answers is data: checked for what was asked, guids parsed
// before they are used, nothing of it given to a shell. It fails with cf's own
// words, and never takes a near match for a match.
package cf

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"unicode"

	"github.com/mtls-authz/mtls-authz/identity"
)

// ErrNotFound: what was asked for is not there, or the user may not see it, which
// Cloud Controller does not tell apart.
var ErrNotFound = errors.New("not found, or not visible to you")

// CLI is the user's cf.
type CLI struct{ path string }

// Find looks for cf on the PATH.
func Find() (*CLI, error) {
	path, err := exec.LookPath("cf")
	if err != nil {
		return nil, fmt.Errorf("the cf command is needed, version 8 or newer, and its folder in PATH: %w", err)
	}
	return &CLI{path}, nil
}

// Run runs cf and shows what it prints, as if the user had typed it.
func (c *CLI) Run(ctx context.Context, stdout, stderr io.Writer, args ...string) error {
	command := exec.CommandContext(ctx, c.path, args...) //nolint:gosec // that is the job; no shell reads it
	command.Stdout, command.Stderr = stdout, stderr
	if err := command.Run(); err != nil {
		return fmt.Errorf("cf %s failed: %w", args[0], err)
	}
	return nil
}

// ask runs cf and returns what it prints. Traces are switched off: they would
// stand where the answer is expected, and show tokens.
func (c *CLI) ask(ctx context.Context, args ...string) ([]byte, error) {
	command := exec.CommandContext(ctx, c.path, args...) //nolint:gosec // that is the job; no shell reads it
	command.Env = append(os.Environ(), "CF_TRACE=false", "CF_COLOR=false")
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	err := command.Run()
	if err == nil {
		return stdout.Bytes(), nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	words := strings.TrimSuffix(cmp.Or(Line(stderr.String()), err.Error()), ".")
	return nil, fmt.Errorf("cf %s: %s", args[0], words)
}

// Target returns the guid of what has exactly this name in the targeted org and
// space. Kind is app, space or org. Cloud Controller decodes the name that cf sends
// once more, so it is sent encoded, and what is found is looked at again.
func (c *CLI) Target(ctx context.Context, kind, name string) (identity.GUID, error) {
	guid, err := c.guid(ctx, kind, strings.ReplaceAll(name, "%", "%25"))
	if err != nil {
		return identity.GUID{}, err
	}
	lists := map[string]string{"app": "apps", "space": "spaces", "org": "organizations"}
	var found resource
	if err := c.get(ctx, "/v3/"+lists[kind]+"/"+guid.String(), &found); err != nil {
		return identity.GUID{}, fmt.Errorf("%s %q: %w", kind, name, err)
	}
	if found.Name != name {
		return identity.GUID{}, fmt.Errorf("%s %q: %w; cf takes %q for it", kind, name, ErrNotFound, found.Name)
	}
	return guid, nil
}

// guid is what "cf KIND NAME --guid" prints.
func (c *CLI) guid(ctx context.Context, kind, name string) (identity.GUID, error) {
	if err := CheckArgument(kind, name); err != nil {
		return identity.GUID{}, err
	}
	answer, err := c.ask(ctx, kind, name, "--guid")
	if err != nil {
		return identity.GUID{}, err
	}
	guid, err := identity.ParseGUID(strings.TrimSpace(string(answer)))
	if err != nil {
		return identity.GUID{}, fmt.Errorf("cf %s %s --guid: %w", kind, Quote(name), err)
	}
	return guid, nil
}

// Token returns the user's own, as "cf oauth-token" prints it: a secret.
func (c *CLI) Token(ctx context.Context) (string, error) {
	answer, err := c.ask(ctx, "oauth-token")
	if err != nil {
		return "", err
	}
	words := strings.Fields(string(answer))
	if len(words) != 2 || !strings.EqualFold(words[0], "bearer") {
		return "", errors.New("cf oauth-token: expected a bearer token")
	}
	return words[1], nil
}

// CheckArgument refuses a name that cf would take for a flag; it has no way to
// say that it is none.
func CheckArgument(kind, name string) error {
	if name == "" {
		return fmt.Errorf("the name of the %s is empty", kind)
	}
	if strings.HasPrefix(name, "-") {
		return fmt.Errorf("%s %q: cf takes a name that begins with - for a flag; use its guid, or rename it", kind, name)
	}
	return nil
}

// failure is what Cloud Controller answers in place of a resource.
type failure struct {
	Errors []struct {
		Title  string `json:"title"`
		Detail string `json:"detail"`
	} `json:"errors"`
}

// get asks Cloud Controller for one document. What it answers is not in any error:
// a route binding shows a secret URL.
func (c *CLI) get(ctx context.Context, path string, into any) error {
	answer, err := c.ask(ctx, "curl", path)
	if err != nil {
		return err
	}
	plain, _, _ := strings.Cut(path, "?")
	var failed failure
	if err := json.Unmarshal(answer, &failed); err != nil {
		return fmt.Errorf("cf curl %s: expected JSON; is cf logged in to a Cloud Foundry with the v3 API?", plain)
	}
	if len(failed.Errors) > 0 {
		first := failed.Errors[0]
		switch first.Title {
		case "CF-ResourceNotFound":
			return fmt.Errorf("cf curl %s: %w", plain, ErrNotFound)
		case "CF-NotAuthenticated", "CF-InvalidAuthToken":
			return fmt.Errorf("cf curl %s: %s; use cf login", plain, Line(first.Detail))
		}
		return fmt.Errorf("cf curl %s: %s (%s)", plain, Line(first.Detail), Line(first.Title))
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("cf curl %s: an answer of another shape than Cloud Controller's v3 API has", plain)
	}
	return nil
}

// Line makes what somebody else wrote fit for one line for people.
func Line(s string) string {
	const most = 1000
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	return strings.ToValidUTF8(s[:min(len(s), most)], "")
}

// Printable is s if all of it can be printed; else "". Nothing in it is changed, so
// that it still is the name that it was.
func Printable(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return ""
	}
	return s
}

// Quote writes arguments as a POSIX shell reads them.
func Quote(args ...string) string {
	quoted := make([]string, len(args))
	for i, arg := range args {
		quoted[i] = arg
		if arg == "" || strings.ContainsFunc(arg, needsQuotes) {
			quoted[i] = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
		}
	}
	return strings.Join(quoted, " ")
}

func needsQuotes(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_./:@%+,", r)
}

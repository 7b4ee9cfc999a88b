package access

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/access/client"
	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/cf"
	"github.com/mtls-authz/mtls-authz/identity"
)

// question is the body for /v1/decide.
type question struct {
	Caller caller `json:"caller"`
	Method string `json:"method"`
	URL    string `json:"url"`
}

// caller names where an app is, or leaves that to the gateway, which has seen it.
type caller struct {
	App   string `json:"app"`
	Space string `json:"space"`
	Org   string `json:"org"`
}

// ask asks what a request would get, and fails with [ErrDenied] if it would be
// denied.
func (c Command) ask(ctx context.Context, w io.Writer, g *client.Client) error {
	host, bound, _ := strings.Cut(c.Route, "/")
	path := c.URLPath
	if path == "" && bound != "" {
		path = "/" + bound
	}
	if path != "" && !strings.HasPrefix(path, "/") {
		return fmt.Errorf("--url-path %q: expected a path that begins with /", path)
	}
	who, err := c.caller(ctx)
	if err != nil {
		return err
	}
	body, err := json.Marshal(question{Caller: who, Method: cmp.Or(c.Method, http.MethodGet), URL: "https://" + host + path})
	if err != nil {
		return err
	}
	answer, err := g.Call(ctx, http.MethodPost, g.Below+"/decide", body)
	if err != nil {
		return err
	}
	if err := client.Show(w, answer); err != nil {
		return err
	}
	outcome, reason, err := outcomeOf(answer, c.JSON)
	switch {
	case err != nil:
		return err
	case outcome == "denied":
		return fmt.Errorf("%w: %s", ErrDenied, reason)
	case outcome == "allowed" || outcome == "not_enforced":
		return nil
	}
	return fmt.Errorf("the gateway answered the outcome %q, which this command does not know", outcome)
}

// outcomeOf reads the outcome of an answer: a member, or the first line of a text.
func outcomeOf(answer []byte, isJSON bool) (outcome, reason string, err error) {
	if isJSON {
		var is struct {
			Outcome string `json:"outcome"`
			Reason  string `json:"reason"`
		}
		err := json.Unmarshal(answer, &is)
		return is.Outcome, is.Reason, err
	}
	first, _, _ := bytes.Cut(answer, []byte("\n"))
	words := strings.Fields(string(first))
	if len(words) < 2 || words[0] != "outcome" {
		return "", "", fmt.Errorf("expected an outcome in the first line, found %q", first)
	}
	return words[1], strings.Map(client.Printable, strings.Join(words[2:], " ")), nil
}

// caller finds out who --app, --space and --org are. Names are looked up with cf;
// of an app that is given by its guid, cf or the gateway may know where it is.
func (c Command) caller(ctx context.Context) (caller, error) {
	given := caller{c.App, c.Space, c.Org}
	app, appErr := identity.ParseGUID(c.App)
	_, spaceErr := identity.ParseGUID(c.Space)
	_, orgErr := identity.ParseGUID(c.Org)
	if appErr == nil && spaceErr == nil && orgErr == nil {
		return given, nil
	}
	cli, err := cf.Find()
	if appErr == nil && c.Space == "" && c.Org == "" {
		if err != nil {
			return given, nil //nolint:nilerr // then the gateway may know
		}
		found, err := cli.Caller(ctx, app)
		if err != nil {
			return given, nil //nolint:nilerr // then the gateway may know
		}
		return callerOf(found), nil
	}
	if err != nil {
		return caller{}, err
	}
	return c.named(ctx, cli)
}

func callerOf(found identity.Caller) caller {
	return caller{found.App.String(), found.Space.String(), found.Org.String()}
}

// named looks up names, each in what is around it.
func (c Command) named(ctx context.Context, cli *cf.CLI) (caller, error) {
	if c.Org != "" && c.Space == "" {
		return caller{}, fmt.Errorf("--org %q needs --space, too", c.Org)
	}
	org, err := guidOr(c.Org, func(name string) (identity.GUID, error) { return cli.Org(ctx, name) })
	if err != nil {
		return caller{}, err
	}
	space, err := guidOr(c.Space, func(name string) (identity.GUID, error) {
		if c.Org == "" {
			return cli.Target(ctx, "space", name)
		}
		return cli.Space(ctx, name, org)
	})
	if err != nil {
		return caller{}, err
	}
	app, err := guidOr(c.App, func(name string) (identity.GUID, error) {
		if c.Space == "" {
			return cli.Target(ctx, "app", name)
		}
		return cli.App(ctx, name, space)
	})
	if err != nil {
		return caller{}, err
	}
	found, err := cli.Caller(ctx, app)
	if err != nil {
		return caller{}, err
	}
	return callerOf(found), nil
}

// guidOr is a guid, or what a name stands for; "" is zero.
func guidOr(text string, named func(string) (identity.GUID, error)) (identity.GUID, error) {
	if guid, err := identity.ParseGUID(text); err == nil || text == "" {
		return guid, nil
	}
	return named(text)
}

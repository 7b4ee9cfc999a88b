package policy

import (
	"context"
	"errors"
	"fmt"

	"github.com/alecthomas/kong"

	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/policy/question"
	"github.com/mtls-authz/mtls-authz/rego"
	"github.com/mtls-authz/mtls-authz/rego/author"
	"github.com/mtls-authz/mtls-authz/rego/replay"
)

type evalCommand struct {
	Bundle     string            `arg:"" help:"Directory, .tar.gz file, or - for an archive on the standard input."`
	Key        string            `help:"File with the public key that must have signed the bundle." placeholder:"FILE"`
	Input      string            `help:"A recorded request, or an input document; - for the standard input." placeholder:"FILE" group:"A request from a file"`
	App        string            `help:"Caller's app." placeholder:"GUID" group:"A request made up"`
	Space      string            `help:"Caller's space." placeholder:"GUID" group:"A request made up"`
	Org        string            `help:"Caller's organization." placeholder:"GUID" group:"A request made up"`
	Method     string            `help:"Method; GET if none is given." placeholder:"M" group:"A request made up"`
	URL        string            `name:"url" help:"https://host/path" group:"A request made up" placeholder:"URL"`
	Route      string            `help:"Bound route, host[/path]; the URL's host if none is given." placeholder:"ROUTE" group:"A request made up"`
	Grants     string            `help:"Parameters of the service instance: JSON, or a file with it." placeholder:"JSON|FILE" group:"A request made up"`
	Allow      []string          `help:"A source that the route allows, such as cf:any. May be repeated." placeholder:"SOURCE" group:"A request made up"`
	OwnerSpace string            `help:"Space of the route; the caller's if none is given." placeholder:"GUID" group:"A request made up"`
	OwnerOrg   string            `help:"Organization of the route; the caller's if none is given." placeholder:"GUID" group:"A request made up"`
	Scope      string            `help:"Service plan: space, org or any, which it is if none is given." placeholder:"PLAN" group:"A request made up"`
	Labels     map[string]string `help:"Labels of the route." placeholder:"NAME=VALUE" group:"A request made up"`
	At         string            `help:"Time of the request, in RFC 3339; now if none is given." placeholder:"TIME" group:"A request made up"`
	Explain    bool              `help:"Say which grants match and why others do not, and at which condition each rule of a check ended."`
	FailOnDeny bool              `help:"Exit status 1 if the request is denied."`
	settings   `embed:""`
	JSON       bool `help:"Write JSON."`
}

// Help is shown by policy eval --help.
func (evalCommand) Help() string {
	return "The bundle must compile; its tests may fail. Exit status 0 whenever there is a decision, unless --fail-on-deny is given.\n\n" +
		"    mtls-authz policy eval ./bundle --app $(cf app web --guid) --space $(cf space dev --guid) --org $(cf org acme --guid) \\\n" +
		"      --method DELETE --url https://backend.apps.identity/items/1 --allow cf:any --explain"
}

// Run decides one request.
func (c evalCommand) Run(ctx context.Context, k *kong.Context) error {
	settings, err := c.author()
	if err != nil {
		return err
	}
	if err := onceStdin(c.Bundle, c.Input, c.Grants); err != nil {
		return err
	}
	place, err := place(c.Bundle, c.Key)
	if err != nil {
		return err
	}
	ask, err := c.ask()
	if err != nil {
		return err
	}
	return author.Eval(ctx, k.Stdout, author.EvalConfig{
		Place: place, Settings: settings, Ask: ask, Explain: c.Explain, FailOnDeny: c.FailOnDeny, JSON: c.JSON,
	})
}

type asker = func(context.Context, *rego.Policy) (author.Case, error)

var errBoth = errors.New("--input has the whole request; give it alone, or --app, --space, --org and --url")

func (c evalCommand) ask() (asker, error) {
	given := []string{
		c.App, c.Space, c.Org, c.Method, c.URL, c.Route, c.Grants, c.OwnerSpace, c.OwnerOrg, c.Scope, c.At,
	}
	madeUp := len(c.Allow)+len(c.Labels) > 0
	for _, flag := range given {
		madeUp = madeUp || flag != ""
	}
	if c.Input != "" && madeUp {
		return nil, errBoth
	}
	if c.Input != "" {
		return c.recorded()
	}
	document, err := jsonOf("--grants", c.Grants)
	if err != nil {
		return nil, err
	}
	if c.Method == "" {
		c.Method = "GET"
	}
	q, err := question.New(question.Config{
		App: c.App, Space: c.Space, Org: c.Org, Method: c.Method, URL: c.URL, Route: c.Route, Parameters: document, Allow: c.Allow,
		OwnerSpace: c.OwnerSpace, OwnerOrg: c.OwnerOrg, Scope: c.Scope, Labels: c.Labels, At: c.At,
	})
	if err != nil {
		return nil, err
	}
	return q.Ask, nil
}

// recorded reads one recorded line or one bare input document.
func (c evalCommand) recorded() (asker, error) {
	text, err := readDocument("--input", c.Input)
	if err != nil {
		return nil, err
	}
	recorded, err := replay.ParseOne(text)
	if err != nil {
		return nil, fmt.Errorf("--input %q: %w", c.Input, err)
	}
	return author.Recorded(recorded), nil
}

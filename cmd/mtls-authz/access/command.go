// Package access is the command line of "mtls-authz access": it asks a gateway who
// can reach a route and why, and shows what it answers. Beside that, it takes
// grants to Cloud Foundry's own route policies and back.
//
// It decides nothing. Credentials go to the gateway that was named, over https,
// and never after a redirect. What is answered is outside text: nothing in it moves
// a terminal's cursor, and an outcome that is not understood is an error, never an
// allow.
package access

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/access/client"
)

// ErrDenied: the request that was asked about would be denied. The exit status is
// [ExitDenied].
var ErrDenied = errors.New("denied")

// ExitDenied tells a denial from an error.
const ExitDenied = 3

// Command is access.
type Command struct {
	Route    string `arg:"" optional:"" help:"Bound route, host[/path]; none: all of them."`
	URL      string `name:"url" env:"MTLS_AUTHZ_URL" help:"URL of the gateway: https://host." placeholder:"URL" group:"Gateway"`
	JSON     bool   `help:"Write JSON."`
	App      string `help:"Would this app be allowed? Name or guid." placeholder:"APP" group:"A request"`
	Space    string `help:"Space of the app, name or guid; the targeted one if none is given." placeholder:"SPACE" group:"A request"`
	Org      string `help:"Org of the space, name or guid; the targeted one if none is given." placeholder:"ORG" group:"A request"`
	Method   string `help:"Method of the request; GET if none is given." placeholder:"METHOD" group:"A request"`
	URLPath  string `help:"Path of the request, as in the URL; that of the route if none is given." placeholder:"PATH" group:"A request"`
	Decision string `help:"Why was this request decided as it was? The id is in the refusal, and in the header X-Mtls-Authz-Decision of every answer." placeholder:"ID"`

	Export   string   `enum:",cf-commands" default:"" help:"cf-commands: write cf add-route-policy commands for all routes." placeholder:"FORM" group:"Route policies of Cloud Foundry"`
	Domain   []string `help:"Domains of the routes, to tell hostnames from them; the first label is the hostname if none is given." placeholder:"DOMAIN" group:"Route policies of Cloud Foundry"`
	Import   string   `help:"Read what cf route-policies prints, or cf curl '/v3/route_policies?include=route'; - for the standard input. Write cf update-service commands." placeholder:"FILE" group:"Route policies of Cloud Foundry"`
	Instance string   `help:"Service instance that gets what is imported; the one of each route if none is given." placeholder:"NAME" group:"Route policies of Cloud Foundry"`
}

// Help is shown by access --help.
func (Command) Help() string {
	return "Credentials are READ_USERNAME and READ_PASSWORD of the environment; without them, your own login of cf, for a route of yours and all of its service. CA_FILES adds to the system's CAs. Guide: docs/developers.md.\n\n" +
		"Exit status of a question: 0 if the request would go on, 3 if it would be denied, 1 for errors.\n\n" +
		"    mtls-authz access backend.apps.identity\n" +
		"    mtls-authz access backend.apps.identity --app frontend --method DELETE --url-path /items/1\n" +
		"    mtls-authz access backend.apps.identity --decision 5f1c2a9e-0d4b-4c8e-9b1a-7e6d5c4b3a21\n" +
		"    mtls-authz access --export cf-commands > policies.sh"
}

var errModes = errors.New("give one of a route or --decision, --export and --import")

// Run asks.
func (c Command) Run(ctx context.Context, k *kong.Context) error {
	modes := 0
	for _, given := range []bool{c.Route != "" || c.Decision != "", c.Export != "", c.Import != ""} {
		if given {
			modes++
		}
	}
	asks := c.App != "" || c.Space != "" || c.Org != "" || c.Method != "" || c.URLPath != ""
	switch {
	case modes > 1:
		return errModes
	case asks && c.Decision != "":
		return errModes
	case asks && (c.Route == "" || c.App == ""):
		return errors.New("a request needs a route and --app")
	case c.Import != "":
		return c.importPolicies(ctx, k.Stdout)
	}
	gateway, err := client.New(ctx, c.URL, c.Route, c.JSON)
	if err != nil {
		return err
	}
	switch {
	case c.Export != "":
		return c.export(ctx, k.Stdout, gateway)
	case asks:
		return c.ask(ctx, k.Stdout, gateway)
	case c.Decision != "":
		return gateway.ShowOne(ctx, k.Stdout, gateway.Below+"/decisions/"+url.PathEscape(c.Decision))
	case c.Route == "", gateway.ByToken:
		return gateway.ShowList(ctx, k.Stdout, gateway.Below+"/routes")
	}
	path, err := escaped(c.Route)
	if err != nil {
		return err
	}
	return gateway.ShowOne(ctx, k.Stdout, "/v1/routes/"+path)
}

// escaped is a route as a part of a path.
func escaped(route string) (string, error) {
	parts := strings.Split(route, "/")
	for i, part := range parts {
		if part == "." || part == ".." || part == "" {
			return "", fmt.Errorf("route %q: expected host or host/path", route)
		}
		parts[i] = url.PathEscape(part)
	}
	return strings.Join(parts, "/"), nil
}

// Package grant is the command line of "mtls-authz grant": who may call a route,
// named as in "cf add-route-policy", becomes an update of the service instance that
// the route is bound to.
//
// It changes nothing by itself: the user's own cf does, with the command that was
// shown, after a yes. What the broker would refuse is refused before, by the same
// parser. In doubt it does less: a grant is narrowed to the route that was named,
// and what another route has stays.
package grant

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/cf"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/route"
)

// Command adds, removes and lists grants of a route.
type Command struct {
	Add    addCommand    `cmd:"" help:"Allow a caller on a route."`
	Remove removeCommand `cmd:"" help:"Allow a caller on a route no longer."`
	List   listCommand   `cmd:"" help:"Who is allowed on a route."`
}

// Help is shown by grant --help.
func (Command) Help() string {
	return "Uses your own cf, logged in and with the space of the route targeted. The flags are those of cf add-route-policy. Guide: docs/developers.md."
}

// place is the route on the command line.
type place struct {
	Domain   string `arg:"" help:"Domain of the route."`
	Hostname string `short:"n" required:"" help:"Hostname of the route; \"\" for the domain itself." placeholder:"HOST"`
	Path     string `short:"p" help:"Path of the route." placeholder:"PATH"`
}

func (p place) find(ctx context.Context, cli *cf.CLI) (cf.Bound, error) {
	path := strings.TrimSuffix(p.Path, "/")
	if path != "" && !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	return cli.Route(ctx, cf.Spot{Domain: p.Domain, Host: p.Hostname, Path: path})
}

// confirmation is how a change is agreed to.
type confirmation struct {
	Yes bool `short:"y" help:"Run the command without asking."`
}

// change is one update of a service instance.
type change struct {
	// remove and add are entries of allow_remove and allow_add.
	remove, add []grants.Grant
}

func (c change) json() (string, error) {
	document := struct {
		Remove []grants.Grant `json:"allow_remove,omitempty"`
		Add    []grants.Grant `json:"allow_add,omitempty"`
	}{c.remove, c.add}
	text, err := json.Marshal(document)
	return string(text), err
}

var errNotConfirmed = errors.New("nothing was changed, as nobody said yes; -y runs the command without asking")

// apply shows the command and runs it after a yes.
func (y confirmation) apply(ctx context.Context, k *kong.Context, cli *cf.CLI, in cf.Instance, parameters string) error {
	if _, err := os.Lstat(parameters); err == nil {
		return fmt.Errorf("there is a file named %s here, which cf would read in place of the parameters", parameters)
	}
	args := []string{"update-service", in.Name, "-c", parameters}
	fmt.Fprintf(k.Stdout, "\n  %s\n\n", cf.Quote(append([]string{"cf"}, args...)...))
	if !y.Yes {
		fmt.Fprint(k.Stdout, "Run it? [yN] ")
		answer, err := bufio.NewReader(os.Stdin).ReadString('\n')
		if err != nil && answer == "" {
			fmt.Fprintln(k.Stdout)
			return errNotConfirmed
		}
		if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
			fmt.Fprintln(k.Stdout, "Nothing was changed.")
			return nil
		}
	}
	return cli.Run(ctx, k.Stdout, k.Stderr, args...)
}

// situation is what is there before a change.
type situation struct {
	cf.Bound
	// routes are all that are bound to the instance.
	routes []route.Route
	now    shown
}

// look finds the route, its service and what is allowed now.
func (p place) look(ctx context.Context, cli *cf.CLI) (s situation, err error) {
	if s.Bound, err = p.find(ctx, cli); err != nil {
		return s, err
	}
	if s.routes, err = cli.RoutesOf(ctx, s.Instance); err != nil {
		return s, err
	}
	if !slices.Contains(s.routes, s.Route) {
		return s, fmt.Errorf("route %s is not among those of its service %q; try again", s.Route, s.Instance.Name)
	}
	raw, err := cli.Parameters(ctx, s.Instance)
	if err != nil {
		return s, err
	}
	s.now, err = parse(raw)
	return s, err
}

func say(w io.Writer, label, format string, args ...any) {
	fmt.Fprintf(w, "%-9s %s\n", label, fmt.Sprintf(format, args...))
}

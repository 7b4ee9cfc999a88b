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
	"strings"

	"github.com/alecthomas/kong"

	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/cf"
	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/grant/flags"
	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/grant/inforce"
	"github.com/mtls-authz/mtls-authz/grants"
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

// order is a change as it stands on the command line.
type order struct {
	flags.Place      `embed:""`
	flags.Source     `embed:""`
	flags.Conditions `embed:""`
	confirmation     `embed:""`
}

// prepared is what an order means.
type prepared struct {
	inforce.Situation
	place flags.Place
	cli   *cf.CLI
	who   caller
	// entry is the grant of who, on no route in particular.
	entry grants.Grant
}

// prepare finds out what an order means, and changes nothing.
func (o order) prepare(ctx context.Context) (p prepared, err error) {
	if err = o.Check(); err != nil {
		return p, err
	}
	if p.cli, err = cf.Find(); err != nil {
		return p, err
	}
	p.place = o.Place
	if p.Situation, err = inforce.Look(ctx, p.cli, o.Spot()); err != nil {
		return p, err
	}
	if p.who, err = who(ctx, p.cli, o.Source); err != nil {
		return p, err
	}
	p.entry, err = o.Entry(p.who.source)
	return p, err
}

// begin checks that a change can be made and says where. It returns the change in
// JSON.
func (p prepared) begin(ctx context.Context, w io.Writer, c change) (string, error) {
	text, err := p.plan(c)
	if err != nil {
		return "", err
	}
	if err := p.cli.InTarget(ctx, p.Instance); err != nil {
		return "", err
	}
	say(w, "route", "%s", p.Route)
	say(w, "service", "%s", p.Instance.Name)
	return text, nil
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

func say(w io.Writer, label, format string, args ...any) {
	fmt.Fprintf(w, "%-9s %s\n", label, fmt.Sprintf(format, args...))
}

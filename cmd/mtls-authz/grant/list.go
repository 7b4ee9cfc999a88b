package grant

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/alecthomas/kong"

	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/cf"
	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/grant/flags"
	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/grant/inforce"
	"github.com/mtls-authz/mtls-authz/grants"
)

type listCommand struct {
	flags.Place `embed:""`
}

// Help is shown by grant list --help.
func (listCommand) Help() string {
	return "Names are those that you may see. grant remove --source takes a source as it is printed here.\n\n    mtls-authz grant list apps.identity --hostname backend"
}

// Run lists the grants in force on a route.
func (c listCommand) Run(ctx context.Context, k *kong.Context) error {
	cli, err := cf.Find()
	if err != nil {
		return err
	}
	there, err := inforce.Look(ctx, cli, c.Spot())
	if err != nil {
		return err
	}
	at, err := there.Here()
	if err != nil {
		return err
	}
	sources := []grants.Source{}
	for _, one := range at.Grants {
		sources = append(append(sources, one.Source), one.Holders...)
	}
	visible := cli.Names(ctx, sources)
	fmt.Fprintf(k.Stdout, "Service %s admits callers of scope %s to %s", there.Instance.Name, at.Scope, there.Route)
	if at.Mode == grants.Report.String() {
		fmt.Fprint(k.Stdout, ", and refuses nobody: mode report")
	}
	fmt.Fprint(k.Stdout, "\n\n")
	table := tabwriter.NewWriter(k.Stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "route\tsource\tscope\tname\tconditions\torigin")
	for _, one := range at.Grants {
		name := one.Name(visible)
		if at.More > 0 && len(one.Holders) > 0 {
			name += ", perhaps more"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", there.Route, cf.Written(one.Source), inforce.KindOf(one.Source), name, conditions(narrowed(one.Grant)), one.Origin)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if at.Total == 0 {
		fmt.Fprintln(k.Stdout, "Nobody may call it.")
	}
	if at.More > 0 {
		fmt.Fprintf(k.Stdout, "and %d more\n", at.More)
	}
	for i, text := range there.Warnings {
		if i == 0 {
			fmt.Fprintln(k.Stdout, "\nWarnings of the service:")
		}
		fmt.Fprintln(k.Stdout, "-", cf.Line(text))
	}
	return nil
}

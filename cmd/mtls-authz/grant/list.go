package grant

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/alecthomas/kong"

	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/cf"
	"github.com/mtls-authz/mtls-authz/grants"
)

type listCommand struct {
	place `embed:""`
}

// Help is shown by grant list --help.
func (listCommand) Help() string {
	return "Names are those that you may see.\n\n    mtls-authz grant list apps.identity --hostname backend"
}

// Run lists the grants in force on a route.
func (c listCommand) Run(ctx context.Context, k *kong.Context) error {
	cli, err := cf.Find()
	if err != nil {
		return err
	}
	there, err := c.look(ctx, cli)
	if err != nil {
		return err
	}
	at, err := there.now.of(there.Route)
	if err != nil {
		return err
	}
	has, err := at.inForce()
	if err != nil {
		return err
	}
	sources := make([]grants.Source, len(has))
	for i, one := range has {
		sources[i] = one.Source
	}
	names := cli.Names(ctx, sources)
	fmt.Fprintf(k.Stdout, "Service %s admits callers of scope %s to %s", there.Instance.Name, at.Scope, there.Route)
	if at.Mode == grants.Report.String() {
		fmt.Fprint(k.Stdout, ", and refuses nobody: mode report")
	}
	fmt.Fprint(k.Stdout, "\n\n")
	table := tabwriter.NewWriter(k.Stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "route\tsource\tscope\tname\tconditions\torigin")
	for _, one := range has {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", at.Route, one.Source, one.Source.Kind, names[one.Source], conditions(narrowed(one.Grant)), one.origin)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if len(has) == 0 {
		fmt.Fprintln(k.Stdout, "Nobody may call it.")
	}
	if more := at.Total - len(has); more > 0 {
		fmt.Fprintf(k.Stdout, "and %d more\n", more)
	}
	return nil
}

// conditions says for people what narrows a grant, and the note on it.
func conditions(g grants.Grant) string {
	if g.Terms == nil {
		return ""
	}
	parts := append([]string{}, g.Terms.Methods...)
	for _, path := range g.Terms.Paths {
		parts = append(parts, string(path))
	}
	for _, one := range g.Terms.Routes {
		parts = append(parts, "on "+one.String())
	}
	if !g.Terms.Expires.IsZero() {
		parts = append(parts, "until "+g.Terms.Expires.Format("2006-01-02T15:04:05Z07:00"))
	}
	if g.Terms.Reason != "" {
		parts = append(parts, "("+g.Terms.Reason+")")
	}
	return strings.Join(parts, " ")
}

// describe is a grant for people.
func describe(g grants.Grant) string {
	return strings.TrimSpace(g.Source.String() + " " + conditions(g))
}

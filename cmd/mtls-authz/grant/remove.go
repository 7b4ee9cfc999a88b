package grant

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/alecthomas/kong"

	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/cf"
	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/grant/inforce"
	"github.com/mtls-authz/mtls-authz/grants"
)

type removeCommand struct {
	order `embed:""`
	Force bool `short:"f" help:"The same as --yes, as in cf remove-route-policy."`
}

// Help is shown by grant remove --help.
func (removeCommand) Help() string {
	return "Removes every grant of the caller on this route, or with conditions that one alone. What other routes of the same service have of it stays. " +
		"--source takes a source as grant list prints it.\n\n" +
		"    mtls-authz grant remove apps.identity --hostname backend --source-app frontend\n" +
		"    mtls-authz grant remove apps.identity --hostname backend --source app:frontend"
}

// Run removes grants.
func (c removeCommand) Run(ctx context.Context, k *kong.Context) error {
	there, err := c.prepare(ctx)
	if err != nil {
		return err
	}
	removal := there.removal(there.entry, time.Now())
	if len(removal.remove) == 0 {
		return there.nothing(there.entry)
	}
	text, err := there.begin(ctx, k.Stdout, removal)
	if err != nil {
		return err
	}
	for _, gone := range removal.remove {
		say(k.Stdout, "remove", "%s", describe(gone))
	}
	for _, kept := range removal.add {
		say(k.Stdout, "keep", "%s, for the other routes that have it", describe(kept))
	}
	there.remaining(k.Stdout, removal)
	c.Yes = c.Yes || c.Force
	return c.apply(ctx, k, there.cli, there.Instance, text)
}

// removal takes what is like this grant away from the route, and leaves to other
// routes what they have.
func (p prepared) removal(like grants.Grant, now time.Time) (c change) {
	for _, has := range p.Parameters.Allow {
		applies := p.RoutesOf(has)
		if has.Source != like.Source || !slices.Contains(applies, p.Route) {
			continue
		}
		if like.IsConditional() && narrowed(has).Identity() != like.Identity() {
			continue
		}
		// A bare source removes every grant of it, which the broker's parser never
		// mixes with others of the same source.
		c.remove = append(c.remove, plain(has))
		if rest := without(applies, p.Route); len(rest) > 0 && !has.Expired(now) {
			c.add = append(c.add, split(has, rest)...)
		}
	}
	return c
}

// nothing is why there is nothing to remove.
func (p prepared) nothing(like grants.Grant) error {
	here, err := p.Here()
	if err != nil {
		return err
	}
	for _, one := range here.Grants {
		if !one.Admits(like.Source) {
			continue
		}
		written := cf.Written(one.Source)
		switch {
		case one.Origin == grants.FromOperator.String():
			return fmt.Errorf("%s is allowed on %s by the operator of the platform, who alone can end it", written, p.Route)
		case one.Origin == grants.FromBinding.String():
			return fmt.Errorf("%s was allowed when %s was bound, which can be changed only by unbinding it, which opens it, and binding it again", written, p.Route)
		case one.Source != like.Source:
			return fmt.Errorf("%s has no grant of its own on %s; %s lets it in, which stands for %s: %s", like.Source, p.Route, written, one.Count(), p.place.Command("remove", one.Source))
		}
	}
	return fmt.Errorf("no grant of %s on %s; mtls-authz grant list shows which there are", describe(like), p.Route)
}

// remaining tells what else may let the caller in.
func (p prepared) remaining(w io.Writer, c change) {
	here, err := p.Here()
	if err != nil {
		return
	}
	removed, gone := map[string]bool{}, c.remove[0].Source
	for _, one := range c.remove {
		removed[one.Identity()] = true
	}
	callers := []grants.Source{gone}
	for _, one := range here.Grants {
		if one.Source == gone {
			callers = append(callers, one.Holders...)
		}
	}
	for _, one := range here.Grants {
		if one.Origin == grants.FromInstance.String() && removed[one.Identity()] {
			continue
		}
		if slices.ContainsFunc(callers, one.Admits) || inforce.KindOf(one.Source) > inforce.KindOf(gone) {
			say(w, "stays", "%s, from the %s", describe(one.Grant), one.Origin)
		}
	}
}

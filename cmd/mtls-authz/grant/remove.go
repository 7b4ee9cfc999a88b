package grant

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/alecthomas/kong"

	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/cf"
	"github.com/mtls-authz/mtls-authz/grants"
)

type removeCommand struct {
	place          `embed:""`
	sourceFlags    `embed:""`
	conditionFlags `embed:""`
	Force          bool `short:"f" help:"The same as --yes, as in cf remove-route-policy."`
	confirmation   `embed:""`
}

// Help is shown by grant remove --help.
func (removeCommand) Help() string {
	return "Removes every grant of the caller on this route, or with conditions that one alone. What other routes of the same service have of it stays.\n\n" +
		"    mtls-authz grant remove apps.identity --hostname backend --source-app frontend"
}

// Run removes grants.
func (c removeCommand) Run(ctx context.Context, k *kong.Context) error {
	if err := c.check(); err != nil {
		return err
	}
	cli, err := cf.Find()
	if err != nil {
		return err
	}
	there, err := c.look(ctx, cli)
	if err != nil {
		return err
	}
	who, err := c.resolve(ctx, cli)
	if err != nil {
		return err
	}
	like, err := c.entry(who.source)
	if err != nil {
		return err
	}
	removal := there.removal(like, time.Now())
	if len(removal.remove) == 0 {
		return there.nothing(like)
	}
	text, err := there.plan(removal)
	if err != nil {
		return err
	}
	if err := cli.InTarget(ctx, there.Instance); err != nil {
		return err
	}
	say(k.Stdout, "route", "%s", there.Route)
	say(k.Stdout, "service", "%s", there.Instance.Name)
	for _, gone := range removal.remove {
		say(k.Stdout, "remove", "%s", describe(gone))
	}
	for _, kept := range removal.add {
		say(k.Stdout, "keep", "%s, for the other routes that have it", describe(kept))
	}
	there.remaining(k.Stdout, removal)
	c.Yes = c.Yes || c.Force
	return c.apply(ctx, k, cli, there.Instance, text)
}

// removal takes what is like this grant away from the route, and leaves to other
// routes what they have.
func (s situation) removal(like grants.Grant, now time.Time) (c change) {
	for _, has := range s.now.parameters.Allow {
		applies := routesOf(has, s.routes)
		if has.Source != like.Source || !slices.Contains(applies, s.Route) {
			continue
		}
		if like.IsConditional() && narrowed(has).Identity() != like.Identity() {
			continue
		}
		// A bare source removes every grant of it, which the broker's parser never
		// mixes with others of the same source.
		c.remove = append(c.remove, plain(has))
		if rest := without(applies, s.Route); len(rest) > 0 && !has.Expired(now) {
			c.add = append(c.add, narrowed(has, rest...))
		}
	}
	return c
}

// plain is the entry without its note, which is nothing that it is found by.
func plain(g grants.Grant) grants.Grant {
	if g.Terms == nil {
		return g
	}
	terms := *g.Terms
	terms.Reason = ""
	g.Terms = &terms
	return narrowed(g, terms.Routes...)
}

// nothing is why there is nothing to remove.
func (s situation) nothing(like grants.Grant) error {
	at, err := s.now.of(s.Route)
	if err != nil {
		return err
	}
	has, err := at.inForce()
	if err != nil {
		return err
	}
	for _, one := range has {
		if one.Source != like.Source {
			continue
		}
		switch one.origin {
		case grants.FromOperator.String():
			return fmt.Errorf("%s is allowed on %s by the operator of the platform, who alone can end it", like.Source, s.Route)
		case grants.FromBinding.String():
			return fmt.Errorf("%s was allowed when %s was bound, which can be changed only by unbinding it, which opens it, and binding it again", like.Source, s.Route)
		}
	}
	return fmt.Errorf("no grant of %s on %s; mtls-authz grant list shows which there are", describe(like), s.Route)
}

// remaining tells what else may let the caller in.
func (s situation) remaining(w io.Writer, c change) {
	at, err := s.now.of(s.Route)
	if err != nil {
		return
	}
	has, err := at.inForce()
	if err != nil {
		return
	}
	removed := map[string]bool{}
	for _, gone := range c.remove {
		removed[gone.Identity()] = true
	}
	for _, one := range has {
		same := one.Source == c.remove[0].Source
		if same && one.origin == grants.FromInstance.String() && removed[one.Identity()] {
			continue
		}
		if same || one.Source.Kind > c.remove[0].Source.Kind {
			say(w, "stays", "%s, from the %s", describe(one.Grant), one.origin)
		}
	}
}

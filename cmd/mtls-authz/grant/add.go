package grant

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/alecthomas/kong"

	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/cf"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/identity"
)

type addCommand struct {
	place          `embed:""`
	sourceFlags    `embed:""`
	conditionFlags `embed:""`
	OnlyThisRoute  bool `help:"Write the route into the grant although it is the only one of its service, so that routes bound later do not have it."`
	confirmation   `embed:""`
}

// Help is shown by grant add --help.
func (addCommand) Help() string {
	return "Where the route's service has other routes too, the grant is for the route that is named.\n\n" +
		"    mtls-authz grant add apps.identity --hostname backend --source-app frontend\n" +
		"    mtls-authz grant add apps.identity --hostname api --path /metrics --source-space monitoring --method GET"
}

// Run adds a grant.
func (c addCommand) Run(ctx context.Context, k *kong.Context) error {
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
	wanted, err := c.entry(who.source)
	if err != nil {
		return err
	}
	alone := len(there.routes) == 1
	if !alone || c.OnlyThisRoute {
		wanted = narrowed(wanted, there.Route)
	}
	if already := there.already(wanted); already != "" {
		fmt.Fprintln(k.Stdout, already)
		return nil
	}
	text, err := there.plan(change{add: []grants.Grant{wanted}})
	if err != nil {
		return err
	}
	if err := cli.InTarget(ctx, there.Instance); err != nil {
		return err
	}
	there.describe(k.Stdout, who, wanted, alone)
	there.warn(k.Stdout, who.locate(ctx, cli))
	return c.apply(ctx, k, cli, there.Instance, text)
}

// already says that there is nothing to do; "": there is.
func (s situation) already(wanted grants.Grant) string {
	for _, has := range s.now.parameters.Allow {
		if has.Source != wanted.Source {
			continue
		}
		free := !has.IsConditional()
		if free && narrowed(wanted).IsConditional() {
			continue // the broker refuses it, and says what to do
		}
		if free || has.Identity() == wanted.Identity() {
			return fmt.Sprintf("%s is allowed on %s already; nothing to do.", wanted.Source, s.Route)
		}
	}
	return ""
}

// plan is the change in JSON, after the broker's own check of it.
func (s situation) plan(c change) (string, error) {
	text, err := c.json()
	if err != nil {
		return "", err
	}
	next, err := s.now.parameters.Update([]byte(text), time.Now())
	if err != nil {
		return "", fmt.Errorf("service %q would refuse this: %w", s.Instance.Name, err)
	}
	if bytes.Equal(next.JSON(), s.now.parameters.JSON()) {
		return "", fmt.Errorf("service %q: this would change nothing", s.Instance.Name)
	}
	return text, nil
}

func (s situation) describe(w io.Writer, who caller, g grants.Grant, alone bool) {
	say(w, "route", "%s", s.Route)
	say(w, "service", "%s", s.Instance.Name)
	words := g.Source.String()
	if who.words != "" {
		words += ", " + who.words
	}
	say(w, "allow", "%s", words)
	if text := conditions(narrowed(g)); text != "" {
		say(w, "only", "%s", text)
	}
	switch {
	case !alone:
		say(w, "on", "this route alone, of the %d of the service", len(s.routes))
	case g.Terms != nil && g.Terms.Routes != nil:
		say(w, "on", "this route alone, whatever is bound to the service later")
	default:
		say(w, "on", "all routes of the service; there is only this one. --only-this-route keeps it from those that are bound later")
	}
}

// warn tells what the scope makes of the grant.
func (s situation) warn(w io.Writer, who caller) {
	at, err := s.now.of(s.Route)
	if err != nil {
		return
	}
	outside := func(is, owner identity.GUID) bool {
		return who.source.Kind != grants.Any && owner != identity.GUID{} && is != identity.GUID{} && is != owner
	}
	switch {
	case at.Scope == grants.ScopeSpace.String() && (outside(who.space, s.Instance.Space) || outside(who.org, s.Instance.Org)):
		say(w, "warning", "the scope of the route is its space: a caller of another space is refused all the same")
	case at.Scope == grants.ScopeOrg.String() && outside(who.org, s.Instance.Org):
		say(w, "warning", "the scope of the route is its org: a caller of another org is refused all the same")
	case at.Scope != grants.ScopeAny.String() && (who.source.Kind == grants.Any || at.Scope == grants.ScopeSpace.String() && who.source.Kind == grants.Org):
		say(w, "note", "the scope of the route is its %s: callers of others are refused all the same", at.Scope)
	}
}

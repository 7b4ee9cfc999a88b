package grant

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/alecthomas/kong"

	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/cf"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/identity"
)

type addCommand struct {
	order         `embed:""`
	OnlyThisRoute bool `help:"Write the route into the grant although it is the only one of its service, so that routes bound later do not have it."`
}

// Help is shown by grant add --help.
func (addCommand) Help() string {
	return "Where the route's service has other routes too, the grant is for the route that is named. --source-app and its like are looked up once; --source app:NAME is kept as a name, " +
		"and the grant follows it, where the operator has connected the gateway to Cloud Controller.\n\n" +
		"    mtls-authz grant add apps.identity --hostname backend --source-app frontend\n" +
		"    mtls-authz grant add apps.identity --hostname api --path /metrics --source-space monitoring --method GET\n" +
		"    mtls-authz grant add apps.identity --hostname backend --source app:frontend\n" +
		"    mtls-authz grant add apps.identity --hostname backend --source '{\"source\":\"apps\",\"space\":\"monitoring\",\"labels\":\"team=payments\"}'"
}

// Run adds a grant.
func (c addCommand) Run(ctx context.Context, k *kong.Context) error {
	there, err := c.prepare(ctx)
	if err != nil {
		return err
	}
	wanted, alone := there.entry, len(there.Routes) == 1
	if !alone || c.OnlyThisRoute {
		wanted = narrowed(wanted, there.Route)
	}
	already, err := there.already(wanted)
	if err != nil {
		return err
	}
	byName := there.byName(wanted)
	if already == "" && byName != "" && !c.asWritten() {
		already = byName + " Nothing was changed; to allow it whatever it is called: " + c.Command("add", wanted.Source)
	}
	if already != "" {
		fmt.Fprintln(k.Stdout, already)
		return nil
	}
	text, err := there.begin(ctx, k.Stdout, change{add: []grants.Grant{wanted}})
	if err != nil {
		return err
	}
	there.describe(k.Stdout, wanted, alone)
	there.warn(k.Stdout, there.who.locate(ctx, there.cli))
	if byName != "" {
		say(k.Stdout, "note", "%s", byName)
	}
	if there.who.isNobody(ctx, there.cli, there.Instance) {
		say(k.Stdout, "warning", "nothing that you can see bears this name: until something does, it allows nobody")
	}
	return c.apply(ctx, k, there.cli, there.Instance, text)
}

// asWritten: the source was given as it is to be written, and not looked up.
func (o order) asWritten() bool { return o.Source.Source != "" }

// already says that there is nothing to do; "": there is.
func (p prepared) already(wanted grants.Grant) (string, error) {
	for _, has := range p.Parameters.Allow {
		if has.Source != wanted.Source {
			continue
		}
		free := !has.IsConditional()
		if free && narrowed(wanted).IsConditional() {
			continue // the broker refuses it, and says what to do
		}
		same := has.Identity() == wanted.Identity()
		if !free && !same {
			continue
		}
		said := cf.Written(wanted.Source) + " is allowed on " + p.Route.String() + " already"
		switch {
		case note(wanted) == "" || note(wanted) == note(has):
			return said + "; nothing to do.", nil
		case same:
			continue // the broker takes the new note
		}
		has.Terms = &grants.Terms{Reason: note(wanted)}
		text, err := change{add: []grants.Grant{has}}.json()
		return said + ", with all routes of the service, and nothing was changed. Its note changes with: " + cf.Quote("cf", "update-service", p.Instance.Name, "-c", text), err
	}
	return "", nil
}

// byName says which grant by name lets a source in that is to be allowed by its
// guid; "": none does.
func (p prepared) byName(wanted grants.Grant) string {
	here, err := p.Here()
	if err != nil || wanted.Source.Kind == grants.Named {
		return ""
	}
	for _, one := range here.Grants {
		as := one.Grant
		as.Source = wanted.Source
		enough := !narrowed(as).IsConditional() || narrowed(as).Identity() == narrowed(wanted).Identity()
		if enough && one.Source != wanted.Source && one.Admits(wanted.Source) {
			return fmt.Sprintf("%s lets %s in on %s already, for as long as it stands for it.", cf.Written(one.Source), wanted.Source, p.Route)
		}
	}
	return ""
}

// plan is the change in JSON, after the broker's own check of it.
func (p prepared) plan(c change) (string, error) {
	text, err := c.json()
	if err != nil {
		return "", err
	}
	next, err := p.Parameters.Update([]byte(text), time.Now())
	if err != nil {
		return "", fmt.Errorf("service %q would refuse this: %w", p.Instance.Name, err)
	}
	if bytes.Equal(next.JSON(), p.Parameters.JSON()) {
		return "", fmt.Errorf("service %q: this would change nothing", p.Instance.Name)
	}
	return text, nil
}

func (p prepared) describe(w io.Writer, g grants.Grant, alone bool) {
	words := cf.Written(g.Source)
	if p.who.words != "" {
		words += ", " + p.who.words
	}
	say(w, "allow", "%s", words)
	if text := conditions(narrowed(g)); text != "" {
		say(w, "only", "%s", text)
	}
	if slices.ContainsFunc(p.Parameters.Allow, func(has grants.Grant) bool { return has.Identity() == g.Identity() }) {
		say(w, "note", "the grant is there already; this changes its note")
	}
	switch {
	case !alone:
		say(w, "on", "this route alone, of the %d of the service", len(p.Routes))
	case g.Terms != nil && g.Terms.Routes != nil:
		say(w, "on", "this route alone, whatever is bound to the service later")
	default:
		say(w, "on", "all routes of the service; there is only this one. --only-this-route keeps it from those that are bound later")
	}
}

// warn tells what the scope makes of the grant.
func (p prepared) warn(w io.Writer, who caller) {
	at, err := p.Here()
	if err != nil {
		return
	}
	outside := func(is, owner identity.GUID) bool {
		return who.source.Kind != grants.Any && owner != identity.GUID{} && is != identity.GUID{} && is != owner
	}
	switch {
	case at.Scope == grants.ScopeSpace.String() && (outside(who.space, p.Instance.Space) || outside(who.org, p.Instance.Org)):
		say(w, "warning", "the scope of the route is its space: a caller of another space is refused all the same")
	case at.Scope == grants.ScopeOrg.String() && outside(who.org, p.Instance.Org):
		say(w, "warning", "the scope of the route is its org: a caller of another org is refused all the same")
	case at.Scope != grants.ScopeAny.String() && (who.source.Kind == grants.Any || at.Scope == grants.ScopeSpace.String() && who.source.Kind == grants.Org):
		say(w, "note", "the scope of the route is its %s: callers of others are refused all the same", at.Scope)
	}
}

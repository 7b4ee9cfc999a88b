package grant

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/cf"
	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/grant/flags"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/names"
	"github.com/mtls-authz/mtls-authz/identity"
)

// caller is who a grant is for.
type caller struct {
	source grants.Source
	// space and org are where it is; zero: not known, or more than one.
	space, org identity.GUID
	// words name it for people.
	words string
}

// who turns names into guids.
func who(ctx context.Context, cli *cf.CLI, f flags.Source) (c caller, err error) {
	switch {
	case f.SourceAny:
		return caller{source: grants.Source{Kind: grants.Any}, words: "any app with an instance certificate"}, nil
	case f.Source != "":
		source, err := f.Given()
		return caller{source: source, words: cli.Names(ctx, []grants.Source{source})[source]}, err
	}
	if f.SourceOrg != "" {
		if c.org, err = cli.Org(ctx, string(f.SourceOrg)); err != nil {
			return c, err
		}
		c.source, c.words = grants.Source{Kind: grants.Org, ID: c.org}, fmt.Sprintf("org %q", f.SourceOrg)
	}
	if f.SourceSpace != "" {
		if c.space, err = spaceOf(ctx, cli, f, c.org); err != nil {
			return c, err
		}
		c.source, c.words = grants.Source{Kind: grants.Space, ID: c.space}, strings.TrimSuffix(fmt.Sprintf("space %q of %s", f.SourceSpace, c.words), " of ")
	}
	if f.SourceApp != "" {
		return c.app(ctx, cli, f)
	}
	return c, nil
}

func spaceOf(ctx context.Context, cli *cf.CLI, f flags.Source, org identity.GUID) (identity.GUID, error) {
	if f.SourceOrg == "" {
		return cli.Target(ctx, "space", string(f.SourceSpace))
	}
	return cli.Space(ctx, string(f.SourceSpace), org)
}

// app is the app in the space that the caller is until now.
func (c caller) app(ctx context.Context, cli *cf.CLI, f flags.Source) (caller, error) {
	var app identity.GUID
	var err error
	words := fmt.Sprintf("app %q of the targeted space", f.SourceApp)
	if f.SourceSpace == "" {
		app, err = cli.Target(ctx, "app", string(f.SourceApp))
		if err != nil {
			err = fmt.Errorf("%w; an app of another space is named with --source-space, and --source-org where the org is another, too", err)
		}
	} else {
		app, err = cli.App(ctx, string(f.SourceApp), c.space)
		words = fmt.Sprintf("app %q of %s", f.SourceApp, c.words)
	}
	if err != nil {
		return caller{}, err
	}
	c.source, c.words = grants.Source{Kind: grants.App, ID: app}, words
	return c, nil
}

// locate finds out where the caller is, as far as the user may see it.
func (c caller) locate(ctx context.Context, cli *cf.CLI) caller {
	switch c.source.Kind {
	case grants.App:
		if found, err := cli.Caller(ctx, c.source.ID); err == nil {
			c.space, c.org = found.Space, found.Org
		}
	case grants.Space:
		c.space = c.source.ID
		if org, err := cli.SpaceOrg(ctx, c.space); err == nil {
			c.org = org
		}
	case grants.Org:
		c.org = c.source.ID
	case grants.Any, grants.Named: // nowhere that is known here
	}
	return c
}

// isNobody reports that nothing bears the name which an instance is to allow, as far
// as the user may see. In doubt something does: it is only for a warning.
func (c caller) isNobody(ctx context.Context, cli *cf.CLI, in cf.Instance) bool {
	name, space := c.source.Name(), in.Space
	if name.Kind == 0 || name.Kind == names.OwnOrg || name.Space != "" && in.Org.IsZero() {
		return false
	}
	var err error
	if name.Space != "" {
		if space, err = cli.Space(ctx, name.Space, in.Org); err != nil {
			return errors.Is(err, cf.ErrNotFound)
		}
	}
	switch {
	case name.App != "":
		_, err = cli.App(ctx, name.App, space)
	case name.Labels != "":
		err = cli.Labelled(ctx, name.Labels, space)
	}
	return errors.Is(err, cf.ErrNotFound)
}

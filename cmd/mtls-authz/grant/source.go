package grant

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/cf"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/identity"
)

// sourceFlags say who; names mean what they mean to cf add-route-policy: an app in
// the targeted space, a space in the targeted org, where no other is given.
type sourceFlags struct {
	SourceApp   string `help:"App that may call." placeholder:"NAME" group:"Who"`
	SourceSpace string `help:"Space whose apps may call, or the space of --source-app." placeholder:"NAME" group:"Who"`
	SourceOrg   string `help:"Org whose apps may call, or the org of --source-space." placeholder:"NAME" group:"Who"`
	SourceAny   bool   `help:"Any app with an instance certificate." group:"Who"`
	Source      string `help:"cf:app:GUID, cf:space:GUID, cf:org:GUID or cf:any." placeholder:"SOURCE" group:"Who"`
}

// caller is who a grant is for.
type caller struct {
	source grants.Source
	// space and org are where it is; zero: not known, or more than one.
	space, org identity.GUID
	// words name it for people.
	words string
}

var (
	errNoSource    = errors.New("who? give one of --source-app, --source-space, --source-org, --source-any, --source")
	errManySources = errors.New("give one of --source-app, --source-space, --source-org, --source-any, --source, and nothing of another")
	errOrgOfApp    = errors.New("--source-org with --source-app needs --source-space, too")
)

func (f sourceFlags) check() error {
	named, count := f.SourceApp != "" || f.SourceSpace != "" || f.SourceOrg != "", 0
	for _, given := range []bool{named, f.SourceAny, f.Source != ""} {
		if given {
			count++
		}
	}
	switch {
	case count == 0:
		return errNoSource
	case count > 1:
		return errManySources
	case f.SourceApp != "" && f.SourceOrg != "" && f.SourceSpace == "":
		return errOrgOfApp
	}
	return nil
}

// resolve turns names into guids.
func (f sourceFlags) resolve(ctx context.Context, cli *cf.CLI) (caller, error) {
	switch {
	case f.SourceAny:
		return caller{source: grants.Source{Kind: grants.Any}, words: "any app with an instance certificate"}, nil
	case f.Source != "":
		source, err := grants.ParseSource(f.Source)
		return caller{source: source, words: cli.Names(ctx, []grants.Source{source})[source]}, err
	}
	var c caller
	var err error
	if f.SourceOrg != "" {
		if c.org, err = cli.Org(ctx, f.SourceOrg); err != nil {
			return c, err
		}
		c.source, c.words = grants.Source{Kind: grants.Org, ID: c.org}, fmt.Sprintf("org %q", f.SourceOrg)
	}
	if f.SourceSpace != "" {
		if c.space, err = f.spaceIn(ctx, cli, c.org); err != nil {
			return c, err
		}
		c.source, c.words = grants.Source{Kind: grants.Space, ID: c.space}, strings.TrimSuffix(fmt.Sprintf("space %q of %s", f.SourceSpace, c.words), " of ")
	}
	if f.SourceApp != "" {
		return f.app(ctx, cli, c)
	}
	return c, nil
}

func (f sourceFlags) spaceIn(ctx context.Context, cli *cf.CLI, org identity.GUID) (identity.GUID, error) {
	if f.SourceOrg == "" {
		return cli.Target(ctx, "space", f.SourceSpace)
	}
	return cli.Space(ctx, f.SourceSpace, org)
}

func (f sourceFlags) app(ctx context.Context, cli *cf.CLI, in caller) (caller, error) {
	var app identity.GUID
	var err error
	words := fmt.Sprintf("app %q of the targeted space", f.SourceApp)
	if f.SourceSpace == "" {
		app, err = cli.Target(ctx, "app", f.SourceApp)
		if err != nil {
			err = fmt.Errorf("%w; an app of another space is named with --source-space, and --source-org where the org is another, too", err)
		}
	} else {
		app, err = cli.App(ctx, f.SourceApp, in.space)
		words = fmt.Sprintf("app %q of %s", f.SourceApp, in.words)
	}
	if err != nil {
		return caller{}, err
	}
	in.source, in.words = grants.Source{Kind: grants.App, ID: app}, words
	return in, nil
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

// conditionFlags narrow a grant.
type conditionFlags struct {
	Method    []string `help:"Only requests with this method. May be repeated." placeholder:"METHOD" group:"Conditions"`
	MatchPath []string `sep:"none" help:"Only requests to this path as the app sees it, such as /api/**. May be repeated." placeholder:"PATTERN" group:"Conditions"`
	Expires   string   `help:"Until this time, in RFC 3339." placeholder:"TIME" group:"Conditions"`
	Reason    string   `help:"A note." placeholder:"TEXT" group:"Conditions"`
}

// entry is the grant of a source under these conditions, read by the parser of the
// service broker.
func (f conditionFlags) entry(source grants.Source) (grants.Grant, error) {
	entry := map[string]any{"source": source.String()}
	if len(f.Method) > 0 {
		entry["methods"] = f.Method
	}
	if len(f.MatchPath) > 0 {
		entry["paths"] = f.MatchPath
	}
	if f.Expires != "" {
		entry["expires"] = f.Expires
	}
	if f.Reason != "" {
		entry["reason"] = f.Reason
	}
	raw, err := json.Marshal(entry)
	if err != nil {
		return grants.Grant{}, err
	}
	return grants.ParseGrant(raw)
}

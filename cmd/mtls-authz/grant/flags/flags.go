// Package flags is what stands on the command line of "mtls-authz grant": on which
// route, who, and under which conditions.
//
// An empty value is an error wherever it would mean less than was written: a
// variable of a script that is not set must not make a grant wider. What it reads is
// read by the parser of the service broker.
package flags

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/cf"
	"github.com/mtls-authz/mtls-authz/grants"
)

// Text is the value of a flag: it is not empty where the flag is given.
type Text string

var errEmpty = errors.New("is given without a value; leave it out if it is not meant. Is a variable of a script not set?")

// Decode reads the value.
func (t *Text) Decode(ctx *kong.DecodeContext) error {
	var value string
	if err := ctx.Scan.PopValueInto("text", &value); err != nil {
		return err
	}
	if value == "" {
		return errEmpty
	}
	*t = Text(value)
	return nil
}

// Words are the values of a flag that may be repeated, or have several with commas
// between them. None is empty.
type Words []string

// Decode reads one or more values.
func (w *Words) Decode(ctx *kong.DecodeContext) error {
	var value Text
	if err := value.Decode(ctx); err != nil {
		return err
	}
	for one := range strings.SplitSeq(string(value), ",") {
		if one == "" {
			return errEmpty
		}
		*w = append(*w, one)
	}
	return nil
}

// Place is the route.
type Place struct {
	Domain   string `arg:"" help:"Domain of the route."`
	Hostname string `short:"n" required:"" help:"Hostname of the route; \"\" for the domain itself." placeholder:"HOST"`
	Path     Text   `short:"p" help:"Path of the route." placeholder:"PATH"`
}

// Spot is the route as cf finds it.
func (p Place) Spot() cf.Spot {
	path := strings.TrimSuffix(string(p.Path), "/")
	if path != "" && !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	return cf.Spot{Domain: p.Domain, Host: p.Hostname, Path: path}
}

// Command is a command of grant about the route and a source, as a shell reads it.
func (p Place) Command(verb string, source grants.Source) string {
	args := []string{"mtls-authz", "grant", verb, p.Domain, "--hostname", p.Hostname}
	if p.Path != "" {
		args = append(args, "--path", string(p.Path))
	}
	return cf.Quote(append(args, "--source", cf.Written(source))...)
}

// Source says who; names mean what they mean to cf add-route-policy: an app in
// the targeted space, a space in the targeted org, where no other is given.
type Source struct {
	SourceApp   Text `help:"App that may call." placeholder:"NAME" group:"Who"`
	SourceSpace Text `help:"Space whose apps may call, or the space of --source-app." placeholder:"NAME" group:"Who"`
	SourceOrg   Text `help:"Org whose apps may call, or the org of --source-space." placeholder:"NAME" group:"Who"`
	SourceAny   bool `help:"Any app with an instance certificate." group:"Who"`
	Source      Text `help:"As in parameters: cf:app:GUID, cf:space:GUID, cf:org:GUID, cf:any; a name that is followed, app:NAME, app:SPACE/NAME, space:NAME, org:. for the own org; or an object for apps by label." placeholder:"SOURCE" group:"Who"`
}

var (
	errNoSource    = errors.New("who? give one of --source-app, --source-space, --source-org, --source-any, --source")
	errManySources = errors.New("give one of --source-app, --source-space, --source-org, --source-any, --source, and nothing of another")
	errOrgOfApp    = errors.New("--source-org with --source-app needs --source-space, too")
)

// Check refuses flags that do not go together.
func (f Source) Check() error {
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

// Given reads --source.
func (f Source) Given() (grants.Source, error) {
	text := strings.TrimSpace(string(f.Source))
	if !strings.HasPrefix(text, "{") {
		return grants.ParseSource(text)
	}
	entry, err := grants.ParseGrant([]byte(text))
	if err != nil {
		return grants.Source{}, fmt.Errorf("--source: %w", err)
	}
	if entry.Terms != nil {
		return grants.Source{}, errors.New("--source: conditions have flags of their own: --method, --match-path, --expires, --reason")
	}
	return entry.Source, nil
}

// Conditions narrow a grant.
type Conditions struct {
	Method    Words  `help:"Only requests with this method. May be repeated." placeholder:"METHOD" group:"Conditions"`
	MatchPath []Text `sep:"none" help:"Only requests to this path as the app sees it, such as /api/**. May be repeated." placeholder:"PATTERN" group:"Conditions"`
	Expires   Text   `help:"Until this time, in RFC 3339." placeholder:"TIME" group:"Conditions"`
	Reason    Text   `help:"A note." placeholder:"TEXT" group:"Conditions"`
}

// Entry is the grant of a source under these conditions.
func (f Conditions) Entry(source grants.Source) (grants.Grant, error) {
	raw, err := grants.Grant{Source: source}.MarshalJSON()
	if err != nil {
		return grants.Grant{}, err
	}
	entry := map[string]any{}
	if json.Unmarshal(raw, &entry) != nil { // a word, and no object
		entry["source"] = source.String()
	}
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
	if raw, err = json.Marshal(entry); err != nil {
		return grants.Grant{}, err
	}
	return grants.ParseGrant(raw)
}

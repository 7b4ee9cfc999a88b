package access

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/access/native"
	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/cf"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/route"
	"github.com/mtls-authz/mtls-authz/identity"
)

// boundRoute is one of /v1/bindings.
type boundRoute struct {
	Route        string    `json:"route"`
	Scope        string    `json:"scope"`
	Mode         string    `json:"mode"`
	Organization string    `json:"organization_guid"`
	Space        string    `json:"space_guid"`
	Grants       []inForce `json:"grants"`
}

// inForce is a grant of a route.
type inForce struct {
	// Source is by guid; Grant is as its owner wrote it, perhaps by name.
	Source string          `json:"source"`
	Grant  json.RawMessage `json:"grant"`
	// Expires is when it ends, be it that a name is lost then; null: never.
	Expires *time.Time `json:"expires"`
	Expired bool       `json:"expired"`
}

// export writes what is in force as commands for cf.
func (c Command) export(ctx context.Context, w io.Writer, g *gateway) error {
	var policy struct {
		Revision string   `json:"revision"`
		Checks   []string `json:"checks"`
	}
	if err := g.getJSON(ctx, "/v1/policy", &policy); err != nil {
		return err
	}
	if policy.Revision == "" {
		return errors.New("no policy is in force on the gateway, so that its checks are not known")
	}
	x := native.Export{Checks: policy.Checks, Domains: c.Domain}
	for page, more := 1, true; more; page++ {
		var list struct {
			Pagination struct {
				Next *struct{} `json:"next"`
			} `json:"pagination"`
			Warnings  []string     `json:"warnings"`
			Resources []boundRoute `json:"resources"`
		}
		if err := g.getJSON(ctx, "/v1/bindings?per_page=500&page="+strconv.Itoa(page), &list); err != nil {
			return err
		}
		for _, one := range list.Resources {
			bound, err := one.parse()
			if err != nil {
				return fmt.Errorf("route %q: %w; is this command as new as the gateway?", one.Route, err)
			}
			x.Routes = append(x.Routes, bound)
		}
		more = list.Pagination.Next != nil
	}
	var out bytes.Buffer
	if err := x.Write(&out); err != nil {
		return err
	}
	return show(w, out.Bytes())
}

func (b boundRoute) parse() (bound native.Bound, err error) {
	if bound.Route, err = route.Parse(b.Route); err != nil {
		return bound, err
	}
	if bound.Owner.Space, err = identity.ParseGUID(b.Space); err != nil {
		return bound, err
	}
	if bound.Owner.Org, err = identity.ParseGUID(b.Organization); err != nil {
		return bound, err
	}
	if b.Scope != "" { // else nobody is admitted
		if bound.Scope, err = grants.ParseScope(b.Scope); err != nil {
			return bound, err
		}
	}
	bound.Reports = b.Mode != grants.Enforce.String()
	for _, one := range b.Grants {
		if one.Expired {
			continue
		}
		grant, err := one.parse()
		if err != nil {
			return bound, err
		}
		bound.Grants = append(bound.Grants, grant)
	}
	return bound, nil
}

func (g inForce) parse() (native.InForce, error) {
	grant, err := grants.ParseGrant(g.Grant)
	if err != nil {
		return native.InForce{}, err
	}
	is := native.InForce{Grant: grant}
	if grant.Source.Kind == grants.Named {
		is.Written = cf.Written(grant.Source)
	}
	if is.Source, err = grants.ParseSource(g.Source); err != nil {
		return is, err
	}
	if g.Expires != nil {
		is.Terms = is.Terms.Until(*g.Expires)
	}
	return is, nil
}

// maxImport bounds what is imported, in bytes.
const maxImport = 64 << 20

// importPolicies writes commands that grant what route policies allow.
func (c Command) importPolicies(ctx context.Context, w io.Writer) error {
	from := io.Reader(os.Stdin)
	if c.Import != "-" {
		file, err := os.Open(c.Import)
		if err != nil {
			return fmt.Errorf("--import: %w", err)
		}
		defer func() { _ = file.Close() }() // only read
		from = file
	}
	text, err := io.ReadAll(io.LimitReader(from, maxImport+1))
	if err != nil {
		return fmt.Errorf("--import: %w", err)
	}
	if len(text) > maxImport {
		return fmt.Errorf("--import: more than %d MiB", maxImport>>20)
	}
	policies, err := native.Read(text)
	if err != nil {
		return fmt.Errorf("--import: %w", err)
	}
	if c.JSON && c.Instance == "" {
		return errors.New("--json needs --instance: each service instance has parameters of its own")
	}
	cli, err := cf.Find()
	if err != nil && c.Instance == "" {
		return err
	}
	plan := &imported{cli: cli, into: map[string]*target{}}
	for _, policy := range policies {
		if err := plan.add(ctx, policy, c.Instance); err != nil {
			return err
		}
	}
	return plan.write(w, c.JSON)
}

// imported is what each service instance gets.
type imported struct {
	cli *cf.CLI // nil: there is none
	// into is by instance, order as they came.
	into    map[string]*target
	order   []string
	missing []string
}

type target struct {
	cf.Instance
	// alone: the instance has one route, which a grant need not name.
	alone   bool
	sources []grants.Source
	routes  map[grants.Source][]route.Route
}

func (i *imported) add(ctx context.Context, p native.Policy, instance string) error {
	bound := cf.Bound{Instance: cf.Instance{Name: instance}}
	var err error
	if p.URL == "" {
		if i.cli == nil {
			return fmt.Errorf("--import: route %s has no name: ask with include=route", p.RouteGUID)
		}
		if p.URL, err = i.cli.RouteURL(ctx, p.RouteGUID); err != nil {
			return err
		}
	}
	switch {
	case instance != "":
		bound.Route, err = route.Parse(p.URL)
	case p.RouteGUID != "":
		bound, err = i.cli.BoundTo(ctx, p.RouteGUID, p.URL)
	default:
		bound, err = i.cli.Route(ctx, p.Domain, p.Hostname, p.Path)
	}
	if errors.Is(err, cf.ErrNotBound) {
		i.missing = append(i.missing, p.URL)
		return nil
	}
	if err != nil {
		return err
	}
	to, err := i.target(ctx, bound.Instance)
	if err != nil {
		return err
	}
	if !slices.Contains(to.sources, p.Source) {
		to.sources = append(to.sources, p.Source)
	}
	if !slices.Contains(to.routes[p.Source], bound.Route) {
		to.routes[p.Source] = append(to.routes[p.Source], bound.Route)
	}
	return nil
}

func (i *imported) target(ctx context.Context, in cf.Instance) (*target, error) {
	key := in.GUID.String() + " " + in.Name
	if known := i.into[key]; known != nil {
		return known, nil
	}
	to := &target{Instance: in, routes: map[grants.Source][]route.Route{}}
	if in.GUID != (identity.GUID{}) {
		routes, err := i.cli.RoutesOf(ctx, in)
		if err != nil {
			return nil, err
		}
		to.alone = len(routes) == 1
	}
	i.into[key], i.order = to, append(i.order, key)
	return to, nil
}

// parameters are those of cf update-service.
func (t *target) parameters() (string, error) {
	add := make([]grants.Grant, len(t.sources))
	for i, source := range t.sources {
		add[i] = grants.Grant{Source: source}
		if !t.alone {
			add[i].Terms = &grants.Terms{Routes: t.routes[source]}
		}
	}
	text, err := json.Marshal(map[string][]grants.Grant{"allow_add": add})
	return string(text), err
}

func (i *imported) write(w io.Writer, asJSON bool) error {
	out := &strings.Builder{}
	if !asJSON {
		out.WriteString("# What the route policies allow, as grants. The scope of a domain is no part of them: the\n# plan of the service instance (space, org, any) is, see cf update-service -p.\n")
	}
	for _, key := range i.order {
		to := i.into[key]
		text, err := to.parameters()
		if err != nil {
			return err
		}
		if asJSON {
			out.WriteString(text + "\n")
			continue
		}
		if err := cf.CheckArgument("service", to.Name); err != nil {
			return err
		}
		if to.SpaceName != "" && to.OrgName != "" {
			fmt.Fprintln(out, cf.Quote("cf", "target", "-o", to.OrgName, "-s", to.SpaceName))
		}
		fmt.Fprintln(out, cf.Quote("cf", "update-service", to.Name, "-c", text))
	}
	for _, url := range slices.Compact(slices.Sorted(slices.Values(i.missing))) {
		fmt.Fprintf(out, "# %s is bound to no service: cf bind-route-service, and import again\n", url)
	}
	if _, err := io.WriteString(w, out.String()); err != nil {
		return err
	}
	if len(i.missing) > 0 {
		return fmt.Errorf("%d route policies are of routes that are bound to no service; the comments name them", len(i.missing))
	}
	return nil
}

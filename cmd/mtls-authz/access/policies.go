package access

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/access/client"
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
func (c Command) export(ctx context.Context, w io.Writer, g *client.Client) error {
	var policy struct {
		Revision string   `json:"revision"`
		Checks   []string `json:"checks"`
	}
	if err := g.JSON(ctx, "/v1/policy", &policy); err != nil {
		return err
	}
	if policy.Revision == "" {
		return errors.New("no policy is in force on the gateway, so that its checks are not known")
	}
	x := native.Export{Checks: policy.Checks, Domains: c.Domain}
	found, err := client.All[boundRoute](ctx, g, "/v1/bindings")
	if err != nil {
		return err
	}
	for _, one := range found.Resources {
		bound, err := one.parse()
		if err != nil {
			return fmt.Errorf("route %q: %w; is this command as new as the gateway?", one.Route, err)
		}
		x.Routes = append(x.Routes, bound)
	}
	var out bytes.Buffer
	if err := x.Write(&out); err != nil {
		return err
	}
	return client.Show(w, out.Bytes())
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
	if c.JSON && c.Instance == "" {
		return errors.New("--json needs --instance: each service instance has parameters of its own")
	}
	cli, err := cf.Find()
	if err != nil && c.Instance == "" {
		return err
	}
	plan, err := native.Import{CLI: cli, Instance: c.Instance, Progress: os.Stderr}.Plan(ctx, policies)
	if err != nil {
		return fmt.Errorf("--import: %w", err)
	}
	if c.JSON {
		return plan.WriteJSON(w)
	}
	return plan.Write(w)
}

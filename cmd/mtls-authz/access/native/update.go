package native

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/cf"
	"github.com/mtls-authz/mtls-authz/grants"
)

const (
	// maxArgument bounds the parameters of one command, in bytes: Linux takes
	// arguments of less than 128 KiB.
	maxArgument = 120_000
	// maxRoutes is how many routes one grant may name.
	maxRoutes = 100
)

// entries are the grants that the instance gets, in JSON.
func (t *target) entries() ([]json.RawMessage, error) {
	list := []json.RawMessage{}
	for _, source := range t.sources {
		for some := range slices.Chunk(t.routes[source], maxRoutes) {
			grant := grants.Grant{Source: source}
			if !t.alone {
				grant.Terms = &grants.Terms{Routes: some}
			}
			text, err := json.Marshal(grant)
			if err != nil {
				return nil, err
			}
			list = append(list, text)
		}
	}
	return list, nil
}

func update(entries []json.RawMessage) (string, error) {
	text, err := json.Marshal(map[string][]json.RawMessage{"allow_add": entries})
	return string(text), err
}

// updates are the parameters of cf update-service, in as many commands as they take.
func (t *target) updates() (list []string, err error) {
	entries, err := t.entries()
	if err != nil {
		return nil, err
	}
	for len(entries) > 0 {
		size, count := 0, 0
		for count < len(entries) && (count == 0 || size+len(entries[count]) < maxArgument) {
			size += len(entries[count]) + 1
			count++
		}
		text, err := update(entries[:count])
		if err != nil {
			return nil, err
		}
		list, entries = append(list, text), entries[count:]
	}
	return list, nil
}

// WriteJSON writes the parameters of each service instance in a line.
func (p *Plan) WriteJSON(w io.Writer) error {
	for _, to := range p.targets {
		entries, err := to.entries()
		if err != nil {
			return err
		}
		text, err := update(entries)
		if err != nil {
			return err
		}
		if _, err := io.WriteString(w, text+"\n"); err != nil {
			return err
		}
	}
	return nil
}

// Write writes commands, and fails after that where some could not be written.
func (p *Plan) Write(w io.Writer) error {
	out, failed := &strings.Builder{}, 0
	out.WriteString("# What the route policies allow, as grants. The scope of a domain is no part of them: the\n# plan of the service instance (space, org, any) is, see cf update-service -p.\n")
	for _, to := range p.targets {
		done, err := to.write(out)
		if err != nil {
			return err
		}
		if !done {
			failed++
		}
	}
	missing := slices.Compact(slices.Sorted(slices.Values(p.missing)))
	for _, name := range missing {
		fmt.Fprintf(out, "# %s is bound to no service: cf bind-route-service, and import again\n", name)
	}
	if _, err := io.WriteString(w, out.String()); err != nil {
		return err
	}
	switch {
	case len(p.missing) > 0:
		return fmt.Errorf("%d route policies are of routes that are bound to no service; the comments name them", len(p.missing))
	case failed > 0:
		return fmt.Errorf("%d services are in spaces that cannot be targeted; the comments name them", failed)
	}
	return nil
}

// write writes the commands of one instance. It reports false where it is not known
// in which space they would run: another space may have a service of that name.
func (t *target) write(out *strings.Builder) (bool, error) {
	if err := cf.CheckArgument("service", t.Name); err != nil {
		return false, err
	}
	if t.already > 0 {
		fmt.Fprintf(out, "# %s has %d of these already\n", cf.Quote(t.Name), t.already)
	}
	list, err := t.updates()
	if err != nil || len(list) == 0 {
		return true, err
	}
	targeting := t.Targeting()
	if targeting == "" && !t.given {
		fmt.Fprintf(out, "# service %s: the names of its org and space are not known to you. Target space %s, and import into it with --instance\n", cf.Quote(t.Name), t.Space)
		return false, nil
	}
	if targeting != "" {
		fmt.Fprintln(out, targeting)
	}
	for _, text := range list {
		fmt.Fprintln(out, cf.Quote("cf", "update-service", t.Name, "-c", text))
	}
	return true, nil
}

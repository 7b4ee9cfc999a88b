package list

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/mtls-authz/mtls-authz/store/database"
	"github.com/mtls-authz/mtls-authz/store/record"
)

// BoundRoute is a binding with what is known around it. Its URL is left empty:
// it is a secret.
type BoundRoute struct {
	record.Binding
	Instance record.Instance
	// LastUsed is when a request last went on to the route, to the second; zero: never
	// seen.
	LastUsed time.Time
	// Others are the ids of other bindings of the same route, the oldest 20: a
	// failed bind may have left them.
	Others []string
}

const maxOthers = 20

// Bindings reads a page of the bindings, by when they were made, and how many
// there are in all. A binding whose instance is damaged is left out with it.
func Bindings(ctx context.Context, q database.Querier, f BindingFilter, p Page) (list []BoundRoute, total int, err error) {
	bindings := table[record.Binding]{
		`bindings`, record.BindingColumns, record.ScanBinding,
		[2]string{`created_at`, `id`},
		`LENGTH(parameters)`,
		// Each instance is read once, however many of its bindings are on the page.
		func(page string) string {
			return `SELECT SUM(LENGTH(parameters)) FROM instances WHERE id IN (SELECT instance_id` + page + `)`
		},
	}
	page, total, damaged := bindings.read(ctx, q, f.conditions(), p)
	if len(page) == 0 {
		return nil, total, damaged
	}
	instances, broken, err := instancesOf(ctx, q, page)
	if err != nil {
		return nil, 0, err
	}
	lastUsed, err := lastUsedOf(ctx, q, page)
	if err != nil {
		return nil, 0, err
	}
	sameRoute, err := sameRouteAs(ctx, q, page)
	if err != nil {
		return nil, 0, err
	}
	for _, binding := range page {
		instance, ok := instances[binding.InstanceID]
		if !ok {
			continue
		}
		binding.URL = ""
		others := slices.DeleteFunc(slices.Clone(sameRoute[binding.Route.String()]), func(id string) bool { return id == binding.ID })
		others = others[:min(len(others), maxOthers)]
		list = append(list, BoundRoute{Binding: binding, Instance: instance, LastUsed: lastUsed[binding.ID], Others: others})
	}
	return list, total, errors.Join(append(broken, damaged)...)
}

// A BoundID is a binding by its id, without what can be large.
type BoundID struct{ ID, InstanceID, Route string }

// IDs reads a page of the bindings as [Bindings] does. Whether one is damaged it
// does not look.
func IDs(ctx context.Context, q database.Querier, f BindingFilter, p Page) ([]BoundID, int, error) {
	ids := table[BoundID]{`bindings`, `id, instance_id, route`, func(row *sql.Rows) func() (BoundID, error) {
		var one BoundID
		err := row.Scan(&one.ID, &one.InstanceID, &one.Route)
		return func() (BoundID, error) { return one, err }
	}, [2]string{`created_at`, `id`}, `0`, nil}
	return ids.read(ctx, q, f.conditions(), p)
}

func (f BindingFilter) conditions() (c conditions) {
	c.in(`id IN (%)`, f.IDs)
	c.in(`instance_id IN (%)`, f.InstanceIDs)
	c.in(`instance_id IN (SELECT id FROM instances WHERE org IN (%))`, f.Organizations)
	c.in(`instance_id IN (SELECT id FROM instances WHERE space IN (%))`, f.Spaces)
	c.in(`route IN (%)`, f.Routes)
	hosts := make([]string, len(f.Hosts))
	for i, host := range f.Hosts {
		if strings.Contains(host, "/") {
			host = "" // would be taken for the begin of a path
		}
		hosts[i] = host + "/"
	}
	c.or(`SUBSTR(route || '/', 1, LENGTH(CAST(% AS TEXT))) = %`, hosts)
	if !f.UnusedSince.IsZero() {
		c.add(`COALESCE((SELECT used_at FROM last_used WHERE binding_id = bindings.id), created_at) < ` + c.arg(f.UnusedSince.Unix()*1000))
	}
	return c
}

func instancesOf(ctx context.Context, q database.Querier, page []record.Binding) (map[string]record.Instance, []error, error) {
	var c conditions
	c.in(`id IN (%)`, distinct(page, func(b record.Binding) string { return b.InstanceID }))
	instances, broken, err := database.ReadAll(ctx, q, record.ScanInstance, `SELECT `+record.InstanceColumns+` FROM instances`+c.where(), c.args...)
	byID := make(map[string]record.Instance, len(instances))
	for _, instance := range instances {
		byID[instance.ID] = instance
	}
	return byID, broken, err
}

func lastUsedOf(ctx context.Context, q database.Querier, page []record.Binding) (map[string]time.Time, error) {
	type use struct {
		id string
		at int64
	}
	var c conditions
	c.in(`binding_id IN (%)`, distinct(page, func(b record.Binding) string { return b.ID }))
	uses, _, err := database.ReadAll(ctx, q, func(row *sql.Rows) func() (use, error) {
		var one use
		err := row.Scan(&one.id, &one.at)
		return func() (use, error) { return one, err }
	}, `SELECT binding_id, used_at FROM last_used`+c.where(), c.args...)
	at := make(map[string]time.Time, len(uses))
	for _, one := range uses {
		at[one.id] = time.UnixMilli(one.at).UTC()
	}
	return at, err
}

// sameRouteAs returns the ids of the oldest bindings of the page's routes, by
// route.
func sameRouteAs(ctx context.Context, q database.Querier, page []record.Binding) (map[string][]string, error) {
	var c conditions
	c.in(`route IN (%)`, distinct(page, func(b record.Binding) string { return b.Route.String() }))
	query := `SELECT route, id FROM (SELECT route, id, ROW_NUMBER() OVER (PARTITION BY route ORDER BY created_at, id) AS place FROM bindings` + c.where() + `) AS same
		WHERE place <= ` + c.arg(maxOthers+1) + ` ORDER BY place`
	bindings, _, err := database.ReadAll(ctx, q, func(row *sql.Rows) func() ([2]string, error) {
		var one [2]string
		err := row.Scan(&one[0], &one[1])
		return func() ([2]string, error) { return one, err }
	}, query, c.args...)
	ids := make(map[string][]string, len(page))
	for _, one := range bindings {
		ids[one[0]] = append(ids[one[0]], one[1])
	}
	return ids, err
}

func distinct(page []record.Binding, of func(record.Binding) string) []string {
	values := make([]string, len(page))
	for i, binding := range page {
		values[i] = of(binding)
	}
	slices.Sort(values)
	return slices.Compact(values)
}

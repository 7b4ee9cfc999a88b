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
	// OwnersView: it is shown to the owner. Foreign: [BoundRoute.ForOwner] has left
	// some out.
	OwnersView, Foreign bool

	own []string // of Others, those of the same instance
}

// ForOwner is the route as its owner may see it, without the ids of other instances'
// bindings.
func (b BoundRoute) ForOwner() BoundRoute {
	b.OwnersView = true
	b.Foreign = len(b.Others) > len(b.own)
	b.Others = b.own
	return b
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
	list, err = Around(ctx, q, instances, page)
	if err != nil {
		return nil, 0, err
	}
	return list, total, errors.Join(append(broken, damaged)...)
}

// Around is what is known around bindings, those left out whose instance is not
// among instances.
func Around(ctx context.Context, q database.Querier, instances map[string]record.Instance, page []record.Binding) (list []BoundRoute, err error) {
	lastUsed, err := lastUsedOf(ctx, q, page)
	if err != nil {
		return nil, err
	}
	sameRoute, err := sameRouteAs(ctx, q, page)
	if err != nil {
		return nil, err
	}
	for _, binding := range page {
		instance, ok := instances[binding.InstanceID]
		if !ok {
			continue
		}
		binding.URL = ""
		bound := BoundRoute{Binding: binding, Instance: instance, LastUsed: lastUsed[binding.ID]}
		for _, other := range sameRoute[binding.Route.String()] {
			if other.ID == binding.ID || len(bound.Others) == maxOthers {
				continue
			}
			bound.Others = append(bound.Others, other.ID)
			if other.InstanceID == binding.InstanceID {
				bound.own = append(bound.own, other.ID)
			}
		}
		list = append(list, bound)
	}
	return list, nil
}

// A BoundID is a binding by its id, without what can be large.
type BoundID struct{ ID, InstanceID, Route string }

// IDs reads a page of the bindings as [Bindings] does. Whether one is damaged it
// does not look.
func IDs(ctx context.Context, q database.Querier, f BindingFilter, p Page) ([]BoundID, int, error) {
	ids := table[BoundID]{`bindings`, `id, instance_id, route`, scanID, [2]string{`created_at`, `id`}, `0`, nil}
	return ids.read(ctx, q, f.conditions(), p)
}

func scanID(row *sql.Rows) func() (BoundID, error) {
	var one BoundID
	err := row.Scan(&one.ID, &one.InstanceID, &one.Route)
	return func() (BoundID, error) { return one, err }
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

// sameRouteAs returns the oldest bindings of the page's routes, by route.
func sameRouteAs(ctx context.Context, q database.Querier, page []record.Binding) (map[string][]BoundID, error) {
	var c conditions
	c.in(`route IN (%)`, distinct(page, func(b record.Binding) string { return b.Route.String() }))
	query := `SELECT id, instance_id, route FROM (SELECT id, instance_id, route, ROW_NUMBER() OVER (PARTITION BY route ORDER BY created_at, id) AS place FROM bindings` + c.where() + `) AS same
		WHERE place <= ` + c.arg(maxOthers+1) + ` ORDER BY place`
	bindings, _, err := database.ReadAll(ctx, q, scanID, query, c.args...)
	of := make(map[string][]BoundID, len(page))
	for _, one := range bindings {
		of[one.Route] = append(of[one.Route], one)
	}
	return of, err
}

func distinct(page []record.Binding, of func(record.Binding) string) []string {
	values := make([]string, len(page))
	for i, binding := range page {
		values[i] = of(binding)
	}
	slices.Sort(values)
	return slices.Compact(values)
}

package record

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/mtls-authz/mtls-authz/grants/parameters"
	"github.com/mtls-authz/mtls-authz/grants/route"
	"github.com/mtls-authz/mtls-authz/store/database"
)

// Binding is a route bound to a service instance.
type Binding struct {
	ID, InstanceID string
	Route          route.Route
	Parameters     parameters.Parameters
	// URL is the route_service_url that was given to the platform. It holds
	// the token and is a secret.
	URL       string
	Revision  int64
	CreatedAt time.Time
	CreatedBy string
}

// BindingColumns are those that [ScanBinding] takes.
const BindingColumns = `id, instance_id, route, parameters, url, revision, created_at, created_by`

// Same reports whether other asks for the binding that b is: instance, route
// and parameters, as a repeated request would. The url is not asked for.
func (b Binding) Same(other Binding) bool {
	return b.ID == other.ID && b.InstanceID == other.InstanceID && b.Route == other.Route && SameParameters(b.Parameters, other.Parameters)
}

// ReadBinding returns a binding, or [database.ErrNotFound].
func ReadBinding(ctx context.Context, q database.Querier, id string) (Binding, error) {
	return database.ReadOne(ctx, q, ScanBinding, `SELECT `+BindingColumns+` FROM bindings WHERE id = $1`, id)
}

// ReadBindings returns the bindings of an instance, oldest first, and apart from
// them what is wrong with the damaged ones.
func ReadBindings(ctx context.Context, q database.Querier, instanceID string) (list []Binding, broken []error, err error) {
	return database.ReadAll(ctx, q, ScanBinding, `SELECT `+BindingColumns+` FROM bindings WHERE instance_id = $1 ORDER BY revision`, instanceID)
}

// ScanBinding is a [database.Scanner].
func ScanBinding(row *sql.Rows) func() (Binding, error) {
	var b Binding
	var text string
	var raw []byte
	var created int64
	err := row.Scan(&b.ID, &b.InstanceID, &text, &raw, &b.URL, &b.Revision, &created, &b.CreatedBy)
	return func() (Binding, error) {
		if err != nil {
			return Binding{}, database.Damage("binding", b.ID, err)
		}
		b.CreatedAt = time.UnixMilli(created).UTC()
		var routeErr, parametersErr, urlErr error
		b.Route, routeErr = route.Parse(text)
		b.Parameters, parametersErr = parameters.ParseStored(raw)
		if b.URL == "" {
			// Told to the platform, it would leave the route open.
			urlErr = errors.New("it has no route service url")
		}
		if err := errors.Join(routeErr, parametersErr, urlErr); err != nil {
			return Binding{}, database.Damage("binding", b.ID, err)
		}
		return b, nil
	}
}

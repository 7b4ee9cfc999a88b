package store

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mtls-authz/mtls-authz/store/record"
)

// countChanges makes the counter of changes. Unbinding and deleting open a route,
// so somebody should see how often it happens.
func countChanges(into prometheus.Registerer) (*prometheus.CounterVec, error) {
	changes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mtls_authz_changes_total", Help: "Changes made here, as in the audit: instances and bindings created, updated, deleted.",
	}, []string{"kind", "action"})
	for _, kind := range []string{record.KindInstance, record.KindBinding} {
		for _, action := range []string{"create", "update", "delete"} {
			changes.WithLabelValues(kind, action)
		}
	}
	if into == nil {
		return changes, nil
	}
	return changes, into.Register(changes)
}

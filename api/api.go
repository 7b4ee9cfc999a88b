// Package api is the gateway's own API, /v1: what is bound, who may call it and
// why, who changed it, and the operator's way to delete what Cloud Controller
// will never delete.
//
// It trusts nothing before the password, and nobody but the operators to change
// anything. It fails closed: a query that it does not understand is refused, and
// without the database it answers 503 rather than half a list. The token in route
// service URLs is not among what it can say: no representation holds it.
package api

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/mtls-authz/mtls-authz/api/envelope"
	"github.com/mtls-authz/mtls-authz/api/viewer"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/display"
	"github.com/mtls-authz/mtls-authz/rego/recording"
	"github.com/mtls-authz/mtls-authz/store"
)

// Reader tells what is stored; [store.Store] is one. What is damaged comes as
// an error that is [store.ErrDamaged], beside all that is not.
type Reader interface {
	Instances(context.Context, store.InstanceFilter, store.Page) ([]store.Instance, int, error)
	AllBindings(context.Context, store.BindingFilter, store.Page) ([]store.BoundRoute, int, error)
	Audit(context.Context, store.AuditFilter, store.Page) ([]store.Entry, int, error)
}

// Updater replaces an instance in one transaction and writes the audit;
// [store.Store] is one.
type Updater interface {
	UpdateInstance(ctx context.Context, cause store.Cause, id string, f func(store.Instance) (store.Instance, error)) error
}

// Deleter deletes, leaves a tombstone, and writes the audit; [store.Store] is
// one.
type Deleter interface {
	DeleteInstance(ctx context.Context, cause store.Cause, id string) error
	// DeleteBinding deletes the binding of whatever instance if instanceID is
	// "".
	DeleteBinding(ctx context.Context, cause store.Cause, instanceID, id string) error
}

// Recording writes recorded decisions as JSON Lines, the newest first;
// [recording.Recording] is one.
type Recording interface {
	Write(w io.Writer, f recording.Filter) error
}

// Config configures [New]. Every field without a default is required.
type Config struct {
	Reader  Reader
	Updater Updater
	Deleter Deleter
	// MayRead and MayChange judge the credentials of a request, in constant
	// time.
	MayRead, MayChange func(*http.Request) bool
	// Permits tells what the user of a request's token may do with a service instance,
	// as [viewer.Viewers.Permits] does; nil: tokens open nothing.
	Permits func(ctx context.Context, r *http.Request, instanceID string) (viewer.May, error)
	// Access is what is in force for a binding; nil: nothing, nobody.
	Access func(bindingID string) *grants.Access
	// Site are the operator's grants in force; nil: none.
	Site func() *grants.Site
	// Labels are names for operators; nil: none.
	Labels display.Labels
	// Recording writes the decisions that are kept in memory.
	Recording Recording
	// Reports are documents that are shown as they are, by their path below
	// /v1/, such as policy.
	Reports map[string]func() any
	// More add further endpoints; nil: none.
	More []func(*envelope.Envelope)
	// Names permits grants to sources by name: somebody looks them up. Default:
	// refused, but for the own org.
	Names bool
	// ReportAllowed is the operator's word on report mode. Default: refused.
	ReportAllowed bool
	// BaseURL is the prefix of links: https, a host that serves /v1, no path, no
	// slash at its end.
	BaseURL string
	// Log gets a line for each change, each refused password and each failure.
	Log *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// MaxInFlight bounds the requests that are worked on at once: so many that
	// read, and so many that change. Each takes a connection to the database, of
	// which changes of the broker must find some. Default: 4.
	MaxInFlight int64
	// MaxWait is how long a request waits for its turn before it is refused.
	// Default: 10 s.
	MaxWait time.Duration
}

type api struct{ Config }

// New returns the handler of /v1.
func New(cfg Config) http.Handler {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.MaxInFlight == 0 {
		cfg.MaxInFlight = 4
	}
	if cfg.MaxWait == 0 {
		cfg.MaxWait = 10 * time.Second
	}
	a := &api{cfg}
	e := envelope.New(envelope.Config{
		MayRead: cfg.MayRead, MayChange: cfg.MayChange, Permits: cfg.Permits, Log: cfg.Log, Now: cfg.Now, MaxInFlight: cfg.MaxInFlight, MaxWait: cfg.MaxWait,
	})
	e.Handle("/v1/instances", envelope.Methods{http.MethodGet: a.listInstances})
	a.addInstance(e)
	e.Handle("/v1/bindings", envelope.Methods{http.MethodGet: a.listBindings})
	e.Handle("/v1/bindings/{guid}", envelope.Methods{http.MethodGet: a.showBinding, http.MethodDelete: a.deleteBinding})
	e.Handle("/v1/audit", envelope.Methods{http.MethodGet: a.listAudit})
	e.Handle("/v1/decisions", envelope.Methods{http.MethodGet: a.listDecisions})
	for path, report := range cfg.Reports {
		e.Handle("/v1/"+path, envelope.Methods{http.MethodGet: func(w http.ResponseWriter, _ *http.Request) error { return envelope.Show(w, report()) }})
	}
	for _, add := range cfg.More {
		add(e)
	}
	return e
}

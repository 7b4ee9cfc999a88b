package broker

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/mtls-authz/mtls-authz/grants/parameters"

	"github.com/mtls-authz/mtls-authz/grants/route"

	"code.cloudfoundry.org/brokerapi/v13"
	"code.cloudfoundry.org/brokerapi/v13/domain"
	"code.cloudfoundry.org/brokerapi/v13/domain/apiresponses"

	"github.com/mtls-authz/mtls-authz/broker/osb"
	"github.com/mtls-authz/mtls-authz/broker/status"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/display"
	"github.com/mtls-authz/mtls-authz/store"
)

// Credentials are the names and passwords that open a part of the gateway.
type Credentials = osb.Credentials

// Config configures [New]. Every field without a default is required.
type Config struct {
	Store *store.Store
	// Tokens makes the secret part of route service URLs.
	Tokens store.TokenKey
	// GatewayURL is the prefix of route service URLs: https, no path, no
	// slash at its end.
	GatewayURL string
	// OwnHosts are the gateway's own hosts besides GatewayURL's, which cannot
	// be protected by it.
	OwnHosts []string
	// AllowWildcards permits wildcard routes. Whoever can create a host below
	// one can go around the gateway. Default: refused.
	AllowWildcards bool
	// AllowReport permits report mode. Default: refused.
	AllowReport bool
	// Names permits sources by name: somebody looks them up. Default: refused, but
	// for the own org.
	Names bool
	// Credentials are who may call the broker; see [Credentials].
	Credentials Credentials
	// Policy returns the revision of the policy in force and the operator's
	// grants, for status.
	Policy func() (revision string, site *grants.Site)
	// Checks are those of the policy in force, for status; nil: none.
	Checks func() []string
	// NotBound says why requests to a route, host[/path], do not come to the
	// gateway, as the self-test found; "": they do. Nil: nobody knows.
	NotBound func(route string) string
	// Labels are names, for status; nil: none.
	Labels display.Labels
	// Log gets a line for each change.
	Log *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// broker implements [domain.ServiceBroker].
type broker struct {
	Config
	services []domain.Service
	ownHosts []string // in lower case
	statuses *status.Reporter
}

// New returns the handler of /v2.
func New(cfg Config) http.Handler {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	b := &broker{Config: cfg, services: catalog(), statuses: status.New(status.Config{
		Store: cfg.Store, AllowReport: cfg.AllowReport, Policy: cfg.Policy, Checks: cfg.Checks, NotBound: cfg.NotBound, Labels: cfg.Labels, Log: cfg.Log, Now: cfg.Now,
	})}
	for _, host := range cfg.OwnHosts {
		b.ownHosts = append(b.ownHosts, strings.ToLower(host))
	}
	if gateway, err := url.Parse(cfg.GatewayURL); err == nil && gateway.Hostname() != "" {
		b.ownHosts = append(b.ownHosts, strings.ToLower(gateway.Hostname()))
	}
	// brokerapi logs the details of failed requests, parameters included; the
	// envelope's line says all that an operator needs.
	quiet := slog.New(slog.DiscardHandler)
	return osb.Envelope(osb.Config{Credentials: cfg.Credentials, Log: cfg.Log, Now: cfg.Now}, brokerapi.NewWithOptions(b, quiet))
}

// failure gives every error of the packages below its status. What is no fault
// of the request is logged: the developer is not told what it was.
func (b *broker) failure(err error) error {
	var known *apiresponses.FailureResponse
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return known
	case errors.Is(err, parameters.ErrParameters), errors.Is(err, route.ErrRoute):
		return osb.Refuse(http.StatusBadRequest, "%w", err)
	case errors.Is(err, store.ErrExists), errors.Is(err, store.ErrDeleted):
		return osb.Refuse(http.StatusConflict, "%w", err)
	case errors.Is(err, store.ErrNotFound):
		return osb.Refuse(http.StatusNotFound, "no such service instance or binding")
	}
	b.Log.Error("broker", slog.String("error", err.Error()))
	if errors.Is(err, store.ErrUnavailable) {
		return osb.Refuse(http.StatusServiceUnavailable, "the gateway's state store is not available; try again later")
	}
	return osb.Refuse(http.StatusInternalServerError, "internal error of the gateway")
}

// Services implements domain.ServiceBroker.
func (b *broker) Services(context.Context) ([]domain.Service, error) { return b.services, nil }

// causeOf is what the store notes beside a change.
func causeOf(ctx context.Context) store.Cause {
	r := osb.RequestOf(ctx)
	return store.Cause{By: r.Originator, RequestID: r.ID, RequestIdentity: r.Identity}
}

func checkPlan(serviceID, planID string) (grants.Scope, error) {
	if serviceID != ServiceID {
		return 0, osb.BadRequest("service_id %.64q is not in the catalog", serviceID)
	}
	scope := planScope(planID)
	if scope == 0 {
		return 0, osb.BadRequest("plan_id %.64q is not a plan of this service", planID)
	}
	return scope, nil
}

package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"time"

	"code.cloudfoundry.org/brokerapi/v13"
	"code.cloudfoundry.org/brokerapi/v13/domain"
	"code.cloudfoundry.org/brokerapi/v13/domain/apiresponses"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/store"
)

// Config configures [New]. Every field without a default is required.
type Config struct {
	Store *store.Store
	// Tokens makes the secret part of route service URLs.
	Tokens store.TokenKey
	// GatewayURL is the prefix of route service URLs: https, no path, no
	// slash at its end.
	GatewayURL string
	// OwnHosts are the gateway's own hosts, which cannot be protected by it.
	OwnHosts []string
	// AllowWildcards permits wildcard routes. Whoever can create a host below
	// one can go around the gateway. Default: refused.
	AllowWildcards bool
	// AllowReport permits report mode. Default: refused.
	AllowReport bool
	// Credentials are who may call the broker; see [Credentials].
	Credentials Credentials
	// Policy returns the revision of the policy in force and the operator's
	// grants, for status.
	Policy func() (revision string, site *grants.Site)
	// Log gets a line for each change.
	Log *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// broker implements [domain.ServiceBroker].
type broker struct{ Config }

// New returns the handler of /v2.
func New(cfg Config) http.Handler {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	// brokerapi logs the details of failed requests, parameters included; the
	// line of protect says all that an operator needs.
	quiet := slog.New(slog.DiscardHandler)
	b := &broker{cfg}
	return b.protect(brokerapi.NewWithOptions(b, quiet))
}

// maxURL is what Cloud Controller stores of a route service URL on MySQL.
const maxURL = 255

// idGrammar are ids as Cloud Controller makes them and OSB recommends them.
var idGrammar = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._~-]{0,127}$`)

func checkIDs(ids ...string) error {
	for _, id := range ids {
		if !idGrammar.MatchString(id) {
			return badRequest("id %.128q: expected 1 to 128 letters, digits or any of . _ ~ -", id)
		}
	}
	return nil
}

// fail is an error with its status; the text is for the developer.
func fail(status int, format string, args ...any) error {
	return apiresponses.NewFailureResponse(fmt.Errorf(format, args...), status, "refused")
}

func badRequest(format string, args ...any) error {
	return fail(http.StatusBadRequest, format, args...)
}

// failure gives every error of the packages below its status.
func failure(err error) error {
	var known *apiresponses.FailureResponse
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return known
	case errors.Is(err, grants.ErrParameters), errors.Is(err, grants.ErrRoute):
		return fail(http.StatusBadRequest, "%w", err)
	case errors.Is(err, store.ErrExists):
		return fail(http.StatusConflict, "%w", err)
	case errors.Is(err, store.ErrNotFound):
		return fail(http.StatusNotFound, "no such service instance or binding")
	case errors.Is(err, store.ErrUnavailable):
		return fail(http.StatusServiceUnavailable, "the gateway's state store is not available; try again later")
	}
	return fail(http.StatusInternalServerError, "internal error of the gateway")
}

// Services implements domain.ServiceBroker.
func (b *broker) Services(context.Context) ([]domain.Service, error) { return catalog(), nil }

func checkPlan(serviceID, planID string) (grants.Scope, error) {
	if serviceID != ServiceID {
		return 0, badRequest("service_id %.64q is not in the catalog", serviceID)
	}
	scope := planScope(planID)
	if scope == 0 {
		return 0, badRequest("plan_id %.64q is not a plan of this service", planID)
	}
	return scope, nil
}

// checkParameters refuses what the plan or the operator does not allow.
func (b *broker) checkParameters(p grants.Parameters, plan grants.Scope) error {
	if p.Scope > plan {
		return badRequest("scope %q is wider than the plan's, which is %q", p.Scope, plan)
	}
	if p.Reports() && !b.AllowReport {
		return badRequest("report mode is switched off by the operator of this platform")
	}
	return nil
}

// platformContext is the part of an OSB context that matters here.
type platformContext struct {
	Organization string `json:"organization_guid"`
	Space        string `json:"space_guid"`
}

// checkContext refuses a context that names another place than the owner's.
func checkContext(raw json.RawMessage, owner grants.Owner) error {
	if len(raw) == 0 {
		return nil
	}
	var c platformContext
	if err := json.Unmarshal(raw, &c); err != nil {
		return badRequest("context: expected an object with organization_guid and space_guid as strings")
	}
	if c.Organization != "" && c.Organization != owner.Org.String() || c.Space != "" && c.Space != owner.Space.String() {
		return badRequest("context: organization_guid and space_guid are not those of the service instance")
	}
	return nil
}

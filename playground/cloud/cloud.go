// Package cloud is Cloud Controller in miniature, as the cf command and the gateway
// need it: orgs, spaces and apps of package capi, and on top of them a domain,
// routes, the gateway's service offering, its instances and route bindings. It
// tells the gateway's broker and the router what users order, as Cloud Controller
// and Diego do.
//
// It is for tests and the playground: it keeps everything in memory, and every user
// may change everything. What it does not know it answers with 404, and filters that
// it does not know with 400.
package cloud

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"

	"github.com/google/uuid"

	"github.com/mtls-authz/mtls-authz/playground/capi"
	"github.com/mtls-authz/mtls-authz/playground/cloud/shape"
	"github.com/mtls-authz/mtls-authz/playground/controller"
)

// Router is told which routes have a route service.
type Router interface {
	Bind(route, routeServiceURL string) error
	Unbind(route string) error
}

// Config configures [New]. All of it is required.
type Config struct {
	// Domain is the one of all routes.
	Domain string
	// Broker speaks to the gateway's broker as a user; it may not be there at first.
	Broker func(user string) *controller.Client
	Router func() Router
}

// Cloud is safe for concurrent use; it is an [http.Handler].
type Cloud struct {
	*capi.Cloud
	cfg Config
	mux *http.ServeMux

	mu        sync.Mutex
	routes    []route
	offering  *offering
	instances []instance
	bindings  []binding
	jobs      map[string]shape.Object
}

// New returns a cloud without routes and instances.
func New(cfg Config) *Cloud {
	c := &Cloud{Cloud: capi.New(), cfg: cfg, mux: http.NewServeMux(), jobs: map[string]shape.Object{}}
	for pattern, handler := range map[string]http.HandlerFunc{
		"GET /v3/domains":        c.listDomains,
		"GET /v3/domains/{guid}": c.getDomain,
		"GET /v3/routes":         c.listRoutes, "GET /v3/routes/{guid}": c.getRoute,
		"GET /v3/service_brokers":   c.listBrokers,
		"GET /v3/service_offerings": c.listOfferings, "GET /v3/service_offerings/{guid}": c.getOffering,
		"GET /v3/service_plans": c.listPlans, "GET /v3/service_plans/{guid}": c.getPlan,
		"GET /v3/service_instances": c.listInstances, "POST /v3/service_instances": c.createInstance,
		"GET /v3/service_instances/{guid}": c.getInstance, "PATCH /v3/service_instances/{guid}": c.updateInstance,
		"DELETE /v3/service_instances/{guid}":         c.deleteInstance,
		"GET /v3/service_instances/{guid}/parameters": c.getParameters,
		"GET /v3/service_route_bindings":              c.listBindings, "POST /v3/service_route_bindings": c.createBinding,
		"GET /v3/service_route_bindings/{guid}": c.getBinding, "DELETE /v3/service_route_bindings/{guid}": c.deleteBinding,
		"GET /v3/service_credential_bindings": func(w http.ResponseWriter, r *http.Request) { shape.List(w, r, nil, nil) },
		"GET /v3/jobs/{guid}":                 c.getJob,
	} {
		c.mux.HandleFunc(pattern, c.forUsers(handler))
	}
	c.mux.Handle("/", c.Cloud)
	return c
}

// ServeHTTP implements [http.Handler].
func (c *Cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) { c.mux.ServeHTTP(w, r) }

// forUsers lets nobody in without a token.
func (c *Cloud) forUsers(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !c.Authenticated(r) {
			shape.Refuse(w, http.StatusUnauthorized, "CF-NotAuthenticated", "Authentication error")
			return
		}
		next(w, r)
	}
}

// work does what a user has ordered, if the order was accepted, and answers with the
// job in which it was done.
func (c *Cloud) work(w http.ResponseWriter, r *http.Request, operation string, refused error, do func(context.Context) error) {
	if refused != nil {
		shape.Refuse(w, http.StatusUnprocessableEntity, "CF-UnprocessableEntity", strings.TrimPrefix(refused.Error(), errUnprocessable.Error()+": "))
		return
	}
	job := shape.Object{"guid": uuid.NewString(), "operation": operation, "state": "COMPLETE", "errors": []shape.Object{}, "warnings": []shape.Object{}}
	if err := do(r.Context()); err != nil {
		job["state"] = "FAILED"
		job["errors"] = []shape.Object{{"code": 10009, "title": "CF-UnableToPerform", "detail": err.Error()}}
	}
	c.mu.Lock()
	c.jobs[job["guid"].(string)] = job
	c.mu.Unlock()
	w.Header().Set("Location", "https://"+r.Host+"/v3/jobs/"+job["guid"].(string))
	w.WriteHeader(http.StatusAccepted)
}

func (c *Cloud) getJob(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	job, known := c.jobs[r.PathValue("guid")]
	c.mu.Unlock()
	if !known {
		shape.NotFound(w)
		return
	}
	shape.Answer(w, http.StatusOK, job)
}

// read reads the body of an order.
func read(w http.ResponseWriter, r *http.Request, into any) bool {
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<20)).Decode(into); err != nil {
		shape.Refuse(w, http.StatusUnprocessableEntity, "CF-MessageParseError", "Request invalid due to parse error: invalid request body")
		return false
	}
	return true
}

// related is a relationship in an order.
type related struct {
	Data struct {
		GUID string `json:"guid"`
	} `json:"data"`
}

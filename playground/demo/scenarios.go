package demo

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/mtls-authz/mtls-authz/playground"
	"github.com/mtls-authz/mtls-authz/playground/ca"
	"github.com/mtls-authz/mtls-authz/playground/controller"
	"github.com/mtls-authz/mtls-authz/playground/router"
)

// The routes of the demo.
const (
	backendRoute = "backend." + playground.Domain
	liveRoute    = "live." + playground.Domain
	namedRoute   = "named." + playground.Domain
	foreignRoute = "foreign." + playground.Domain
)

// green is the app that takes over frontend's name.
var green = playground.App{Name: "frontend-green", Space: "shop", Org: "acme"}

// Result is one row of the table.
type Result struct {
	Caller, Request, Expected, Got, Reason string
	OK                                     bool
	// Decision is the decision id of an answer.
	Decision string
}

// demo is a foundation with a protected app and its callers.
type demo struct {
	*playground.Foundation
	app *demoApp
	*platform
	service, binding string // guids of my-authz, and of its binding
	callers          map[string]*ca.Credential
}

// startDemo protects backend.apps.identity: frontend may do all, monitoring may
// GET /metrics until it expires, nobody else may anything.
func startDemo(ctx context.Context, cfg playground.Config, routing router.Config) (d *demo, err error) {
	d = &demo{callers: map[string]*ca.Credential{}}
	other, err := ca.NewRoot("another CA")
	if err != nil {
		return d, err
	}
	if d.callers["forger"], err = other.Instance(playground.Frontend.Identity()); err != nil {
		return d, err
	}
	// Production routers accept clients of more CAs than issue instances.
	routing.ClientCAs = x509.NewCertPool()
	routing.ClientCAs.AddCert(other.Certificate())
	cfg.Router = func(t playground.Trust) (playground.Router, error) { return playground.NewRouter(t, routing) }
	if d.platform, err = startPlatform(cfg.Dir, func() *playground.Foundation { return d.Foundation }); err != nil {
		return d, err
	}
	cfg.Environment = append(cfg.Environment, d.environment()...)
	if d.Foundation, err = playground.Start(ctx, cfg); err != nil {
		return d, err
	}
	if d.app, err = startDemoApp(); err != nil {
		return d, err
	}
	for _, route := range []string{backendRoute, liveRoute, namedRoute, foreignRoute} {
		if err := d.Router.Register(route, d.app.url); err != nil {
			return d, err
		}
	}
	if err := d.mintCallers(); err != nil {
		return d, err
	}
	if err := d.cloud.CreateBroker(ctx); err != nil {
		return d, err
	}
	parameters := fmt.Sprintf(`{"allow": ["cf:app:%s", {"source": "cf:space:%s", "methods": ["GET"], "paths": ["/metrics"]}]}`,
		playground.Frontend.Identity().App, playground.Monitoring.Identity().Space)
	if d.service, err = d.createService(ctx, "my-authz", parameters); err != nil {
		return d, err
	}
	d.binding, _, err = d.cloud.BindRoute(ctx, d.user, d.service, backendRoute, "")
	return d, err
}

// createService is cf create-service mtls-authz org.
func (d *demo) createService(ctx context.Context, name, parameters string) (string, error) {
	return d.cloud.CreateService(ctx, d.user, playground.Backend.Identity().Space, "org", name, parameters)
}

func (d *demo) mintCallers() (err error) {
	for _, app := range []playground.App{playground.Frontend, playground.Monitoring, playground.Intruder, green} {
		if d.callers[app.Name], err = d.Credential(app); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) stop() error {
	var problems []error
	if d.app != nil {
		problems = append(problems, d.app.stop())
	}
	if d.Foundation != nil {
		problems = append(problems, d.Stop())
	}
	if d.platform != nil {
		problems = append(problems, d.platform.stop())
	}
	return errors.Join(problems...)
}

// call plays one row.
func (d *demo) call(ctx context.Context, caller, method, url string, header http.Header, expected string) Result {
	row := Result{Caller: caller, Request: method + " " + url, Expected: expected}
	for name := range header {
		row.Request += ", forged " + name
	}
	if row.Caller == "" {
		row.Caller = "no certificate"
	}
	reply, err := playground.Call(ctx, d.Client(d.callers[caller]), method, "https://"+url, header)
	if err != nil {
		row.Got, row.Reason = "error", err.Error()
		return row
	}
	row.Got, row.Reason = fmt.Sprint(reply.Status), reply.Reason
	row.Decision = reply.Header.Get("X-Mtls-Authz-Decision")
	row.OK = row.Expected == row.outcome()
	return row
}

// outcome is the status and, of a refusal, its reason.
func (r Result) outcome() string {
	if r.Reason == "" {
		return r.Got
	}
	return r.Got + " " + r.Reason
}

// check plays every scenario.
func (d *demo) check(ctx context.Context) []Result {
	forged := http.Header{"X-Forwarded-Client-Cert": {d.callers[playground.Frontend.Name].XFCC()}}
	rows := []Result{
		d.call(ctx, "frontend", "GET", backendRoute+"/hello", nil, "200"),
		d.call(ctx, "frontend", "DELETE", backendRoute+"/orders/1", nil, "200"),
		d.call(ctx, "monitoring", "GET", backendRoute+"/metrics", nil, "200"),
		d.call(ctx, "monitoring", "GET", backendRoute+"/orders", nil, "403 no_matching_grant"),
		d.call(ctx, "monitoring", "POST", backendRoute+"/metrics", nil, "403 no_matching_grant"),
		d.call(ctx, "intruder", "GET", backendRoute+"/hello", nil, "403 scope"),
		d.call(ctx, "forger", "GET", backendRoute+"/hello", nil, "403 untrusted_certificate"),
		d.call(ctx, "", "GET", backendRoute+"/hello", nil, "403 no_certificate"),
		d.call(ctx, "", "GET", backendRoute+"/hello", forged, "403 no_certificate"),
		d.call(ctx, "intruder", "GET", backendRoute+"/hello", forged, "403 scope"),
		d.call(ctx, "intruder", "GET", backendRoute+"/hello", http.Header{"X-Mtls-Authz-Caller": {"app=" + playground.Frontend.Identity().App}}, "403 scope"),
		d.call(ctx, "monitoring", "GET", backendRoute+"/metrics/../orders", nil, "400 malformed_request"),
	}
	rows = append(rows, d.forgedSignature(ctx))
	rows = append(rows, d.migrate(ctx)...)
	rows = append(rows, d.swap(ctx)...)
	return append(rows, d.audit(ctx)...)
}

// forgedSignature: the intruder owns a route with a route service of its own,
// and sends the gateway a signature that is valid there, with a forged caller.
// Only who knows the secret URL gets as far as leg 3, where the router refuses.
func (d *demo) forgedSignature(ctx context.Context) Result {
	header := d.Router.Sign("https://" + foreignRoute + "/")
	header.Set("X-Cf-Forwarded-Url", "https://"+backendRoute+"/hello")
	header.Set("X-Forwarded-Client-Cert", d.callers[playground.Frontend.Name].XFCC())
	row := d.call(ctx, "intruder", "GET", playground.GatewayHost+"/r/"+d.binding+"/guessed", header, "403 unknown_binding")
	row.Request = "GET " + playground.GatewayHost + "/r/..., guessed, with a signature for another route and a forged caller"
	return row
}

// step is a row of something that a developer does.
func step(command, expected string, do func() error) Result {
	row := Result{Caller: "developer", Request: command, Expected: expected, Got: expected, OK: true}
	if err := do(); err != nil {
		row.Got, row.Reason, row.OK = "error", err.Error(), false
	}
	return row
}

// migrate protects a route that is in use without breaking anybody: the five
// commands of the README.
func (d *demo) migrate(ctx context.Context) []Result {
	url := liveRoute + "/hello"
	var service string
	update := func(parameters string) func() error {
		return func() error {
			return d.cloud.UpdateService(ctx, d.user, service, controller.Change{Parameters: json.RawMessage(parameters)})
		}
	}
	return []Result{
		d.call(ctx, "frontend", "GET", url, nil, "200"),
		step(`cf create-service mtls-authz org live-authz -c '{"mode":"report"}'`, "ok", func() (err error) {
			service, err = d.createService(ctx, "live-authz", `{"mode":"report"}`)
			return err
		}),
		step("cf bind-route-service apps.identity live-authz --hostname live", "ok", func() error {
			_, _, err := d.cloud.BindRoute(ctx, d.user, service, liveRoute, "")
			return err
		}),
		d.call(ctx, "frontend", "GET", url, nil, "200"), d.call(ctx, "intruder", "GET", url, nil, "200"),
		step("cf service live-authz --params", "mode report", func() error { return d.expectMode(ctx, service, "report") }),
		step(`cf update-service live-authz -c '{"allow_add":["cf:app:<frontend>"]}'`, "ok", update(`{"allow_add":["cf:app:`+playground.Frontend.Identity().App+`"]}`)),
		step(`cf update-service live-authz -c '{"mode":"enforce"}'`, "ok", update(`{"mode":"enforce"}`)),
		d.call(ctx, "frontend", "GET", url, nil, "200"), d.call(ctx, "intruder", "GET", url, nil, "403 scope"),
	}
}

func (d *demo) expectMode(ctx context.Context, service, mode string) error {
	parameters, err := d.cloud.Parameters(ctx, d.user, service)
	if err != nil {
		return err
	}
	var shown struct {
		Status struct {
			Routes []struct{ Mode string }
		}
	}
	if err := json.Unmarshal(parameters, &shown); err != nil {
		return err
	}
	if routes := shown.Status.Routes; len(routes) != 1 || routes[0].Mode != mode {
		return fmt.Errorf("status: expected one route in mode %s, got %v", mode, routes)
	}
	return nil
}
